//! The figures follow from the counts, and the text is what a scraper reads.

use super::*;
use crate::BreakerState;
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Kind, Writer};
use hdrhistogram::Histogram;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

fn histogram(values: &[(u64, u64)]) -> Histogram<u64> {
    let mut histogram = Histogram::new(3).unwrap();
    for (ns, count) in values {
        histogram.record_n(*ns, *count).unwrap();
    }
    histogram
}

const TRANSPORTS: [TransportStatus; 3] = [
    TransportStatus {
        kind: TransportKind::WebSocket,
        health: Health::Unhealthy,
        breaker: BreakerState::Open,
    },
    TransportStatus {
        kind: TransportKind::Http,
        health: Health::Degraded,
        breaker: BreakerState::HalfOpen,
    },
    TransportStatus {
        kind: TransportKind::Stdio,
        health: Health::Healthy,
        breaker: BreakerState::Closed,
    },
];

/// A client with everything, after the specified mix of reads.
fn busy(latency: &Histogram<u64>) -> Counts<'_> {
    Counts {
        transport: Some(TransportKind::Http),
        transports: &TRANSPORTS,
        active_connections: 2,
        reads_l1: 9_900,
        reads_l2: 90,
        reads_missed: 10,
        latency,
        failovers: 4,
        failovers_succeeded: 3,
        shm: Some(ShmFigures {
            size_bytes: 10_485_760,
            entries: 7,
            fragmentation: 0.25,
            fill: 0.125,
            generation: 3,
            puts: 9,
            deletes: 2,
            rollovers: 1,
            heartbeat_age: Some(Duration::from_millis(1_500)),
        }),
    }
}

fn mix() -> Histogram<u64> {
    histogram(&[(25, 9_900), (400, 90), (3_000_000, 10)])
}

#[test]
fn before_the_first_read_the_rates_are_zero_and_no_failover_has_failed() {
    let latency = histogram(&[]);
    let metrics = Metrics::new(&Counts::new(&latency));
    let rates = [
        metrics.cache_hit_rate_l1,
        metrics.cache_hit_rate_l2,
        metrics.cache_miss_rate,
        metrics.sona_compliance_pct,
    ];
    assert_eq!(rates, [0.0; 4]);
    assert_eq!((metrics.latency_p50_ns, metrics.latency_p99_us), (0, 0));
    assert_eq!(metrics.failover_success_rate, 1.0);
    assert_eq!(metrics.transport_type, None);
    assert_eq!(metrics.transport_health, Health::Unhealthy);
    assert_eq!((metrics.shm_size_bytes, metrics.shm), (0, None));
}

#[test]
fn shares_are_of_all_reads() {
    let latency = mix();
    let metrics = Metrics::new(&busy(&latency));
    assert_eq!(metrics.cache_hit_rate_l1, 0.99);
    assert_eq!(metrics.cache_hit_rate_l2, 0.009);
    assert_eq!(metrics.cache_miss_rate, 0.001);
    assert_eq!(metrics.sona_compliance_pct, 99.9);
    assert_eq!(metrics.failover_success_rate, 0.75);
    assert_eq!(metrics.transport_health, Health::Degraded);
}

#[test]
fn latencies_are_rounded_up_never_down() {
    let quantiles = |values: &[(u64, u64)]| {
        let latency = histogram(values);
        let metrics = Metrics::new(&Counts::new(&latency));
        (metrics.latency_p50_us, metrics.latency_p99_us)
    };
    assert_eq!(quantiles(&[(1, 1)]), (1, 1));
    assert_eq!(quantiles(&[(1_000, 50), (1_001, 50)]), (1, 2));
    assert_eq!(quantiles(&[(1_000, 99), (90_000, 1)]), (1, 1));
    let (_, p99) = quantiles(&[(1_000, 98), (90_000, 2)]);
    assert!((90..=91).contains(&p99), "{p99}"); // to three digits, upwards
}

#[test]
fn a_read_at_the_budget_does_not_meet_it() {
    let compliance = |ns| {
        let latency = histogram(&[(ns, 1)]);
        Metrics::new(&Counts::new(&latency)).sona_compliance_pct
    };
    assert_eq!(compliance(1), 100.0);
    assert_eq!(compliance(49_900), 100.0);
    // In the budget's own bucket, which ends above it.
    assert_eq!(compliance(49_999), 0.0);
    assert_eq!(compliance(50_000), 0.0);
}

#[test]
fn serialized_it_has_the_names_of_the_node() {
    let latency = mix();
    let json = serde_json::to_value(Metrics::new(&busy(&latency))).unwrap();
    let specified = json!({
        "transport_type": "http",
        "transport_health": "degraded",
        "active_connections": 2,
        "cache_hit_rate_l1": 0.99,
        "cache_hit_rate_l2": 0.009,
        "cache_miss_rate": 0.001,
        "latency_p50_us": 1,
        "latency_p99_us": 1,
        "latency_p50_ns": 25,
        "latency_p99_ns": 25,
        "sona_compliance_pct": 99.9,
        "failover_count": 4,
        "failover_success_rate": 0.75,
        "shm_size_bytes": 10_485_760,
        "shm_entries": 7,
        "shm_fragmentation": 0.25,
    });
    for (name, value) in specified.as_object().unwrap() {
        assert_eq!(&json[name], value, "{name}");
    }
}

#[test]
fn reports_of_many_clients_add_up() {
    let (one, two) = (mix(), histogram(&[(26, 5), (1_234, 1), (999_999, 1)]));
    let report = busy(&one).report();
    assert_eq!(report.latency_compliant, 9_990);
    assert_eq!(report.latency_count, 10_000);
    // To the histogram's three digits, upwards.
    let sum = 25 * 9_900 + 400 * 90 + 3_000_000 * 10;
    assert!((sum..sum + sum / 500).contains(&report.latency_sum_ns));
    assert_eq!(
        report.latency_buckets,
        [(25, 9_900), (400, 90), (3_100_000, 10)]
    );

    let mut together: BTreeMap<u64, u64> = BTreeMap::new();
    let reports = [report, Counts::new(&two).report()];
    for (ns, count) in reports.iter().flat_map(|report| &report.latency_buckets) {
        *together.entry(*ns).or_default() += count;
    }
    let expected = [
        (25, 9_900),
        (26, 5),
        (400, 90),
        (1_300, 1),
        (1_100_000, 1),
        (3_100_000, 10),
    ];
    assert_eq!(together.into_iter().collect::<Vec<_>>(), expected);

    let params = serde_json::to_value(&reports[0]).unwrap();
    let names: Vec<_> = params.as_object().unwrap().keys().collect();
    let expected = [
        "failovers",
        "failovers_succeeded",
        "latency_buckets",
        "latency_compliant",
        "latency_count",
        "latency_sum_ns",
        "reads_l1",
        "reads_l2",
        "reads_missed",
        "transport_type",
    ];
    assert_eq!(names, expected);
}

#[test]
fn extreme_latencies_stay_in_the_report() {
    let latency = histogram(&[(0, 1), (9, 1), (10, 1), (101, 1), (u64::MAX / 4, 1)]);
    let buckets = Counts::new(&latency).report().latency_buckets;
    assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 5);
    assert_eq!(buckets[..4], [(0, 1), (9, 1), (10, 1), (110, 1)]);
}

#[test]
fn figures_of_a_store_are_those_its_reader_sees() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let writer = Writer::options().open(&path).unwrap();
    for key in ["a", "b", "c"] {
        let key = key.as_bytes();
        writer.put(Kind::Resource, key, b"value", b"{}").unwrap();
    }
    writer.delete(Kind::Resource, b"c").unwrap();
    let shm = Reader::open(&path).unwrap();
    let age = shm.liveness().heartbeat_age;
    let figures = ShmFigures::new(&shm.stats().unwrap(), age);
    assert_eq!((figures.entries, figures.puts, figures.deletes), (2, 3, 1));
    assert_eq!(figures.size_bytes, path.metadata().unwrap().len());
    assert!(figures.fragmentation > 0.0 && figures.fragmentation < 1.0);
    assert!(figures.fill > 0.0 && figures.fill < 1.0);
    assert_eq!((figures.rollovers, figures.heartbeat_age), (0, age));
}

#[test]
fn the_text_is_written_as_specified() {
    let latency = histogram(&[(25, 99), (1_000, 1)]);
    let text = Metrics::new(&busy(&latency)).prometheus();
    let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        r#"cache_hit_rate{cache="l1"} 0.99"#,
        r#"cache_hit_rate{cache="l2"} 0.009"#,
        "cache_miss_rate 0.001",
        r#"latency_seconds{quantile="0.5"} 0.000000025"#,
        r#"latency_seconds{quantile="0.99"} 0.000000025"#,
        "latency_seconds_sum 0.000003475",
        "latency_seconds_count 100",
        "sona_compliance_ratio 1",
        "failover_total 4",
        "failover_success_ratio 0.75",
        "active_connections 2",
        r#"transport_health{transport="websocket"} 0"#,
        r#"transport_health{transport="http"} 0.5"#,
        r#"transport_health{transport="stdio"} 1"#,
        r#"circuit_breaker_state{transport="websocket"} 2"#,
        r#"circuit_breaker_state{transport="http"} 1"#,
        r#"circuit_breaker_state{transport="stdio"} 0"#,
        "shm_up 1",
        "shm_size_bytes 10485760",
        "shm_entries 7",
        "shm_fragmentation_ratio 0.25",
        "shm_fill_ratio 0.125",
        "shm_generation 3",
        "shm_heartbeat_age_seconds 1.5",
        "shm_puts_total 9",
        "shm_deletes_total 2",
        "shm_rollovers_total 1",
    ];
    for (sample, expected) in samples.iter().zip(expected) {
        assert_eq!(*sample, format!("erlmcp_claude_flow_{expected}"));
    }
    assert_eq!(samples.len(), expected.len());
}

#[test]
fn of_no_reads_there_are_no_quantiles() {
    let latency = histogram(&[]);
    let text = Metrics::new(&Counts::new(&latency)).prometheus();
    for line in [
        "{quantile=\"0.5\"} NaN",
        "{quantile=\"0.99\"} NaN",
        "_sum 0",
        "_count 0",
    ] {
        let line = format!("erlmcp_claude_flow_latency_seconds{line}\n");
        assert!(text.contains(&line), "{line}");
    }
}

/// Name, kind and labels of each metric in a text, in its order.
fn families(text: &str) -> Vec<(String, String, Vec<String>)> {
    let mut families: Vec<(String, String, Vec<String>)> = vec![];
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.push((name.to_owned(), kind.to_owned(), vec![]));
        } else if let Some((_, labels)) = line.split_once('{') {
            let (label, _) = labels.split_once('=').unwrap();
            let known = &mut families.last_mut().unwrap().2;
            if !known.iter().any(|name| name == label) {
                known.push(label.to_owned());
            }
        }
    }
    families
}

#[test]
fn the_text_has_the_listed_metrics_and_leaves_out_what_is_not_known() {
    let latency = mix();
    let listed = METRICS.iter().map(|metric| {
        let labels = metric.labels.iter().map(|label| (*label).to_owned());
        (
            metric.name.to_owned(),
            metric.kind.name().to_owned(),
            labels.collect(),
        )
    });
    let text = Metrics::new(&busy(&latency)).prometheus();
    assert_eq!(families(&text), listed.collect::<Vec<_>>());

    let bare = Metrics::new(&Counts::new(&latency)).prometheus();
    let unknown = |name: &str| {
        (name.contains("_shm_") && !name.ends_with("_shm_up"))
            || name.contains("transport_")
            || name.contains("breaker_")
    };
    let names: Vec<_> = families(&bare).into_iter().map(|family| family.0).collect();
    let known = METRICS
        .iter()
        .map(|metric| metric.name)
        .filter(|name| !unknown(name));
    assert_eq!(names, known.collect::<Vec<_>>());
}

/// Who reads the file alone says of it what a client says.
#[test]
fn of_shared_memory_alone_the_text_is_a_part_of_the_whole() {
    let latency = mix();
    let (busy, bare) = (busy(&latency), Counts::new(&latency));
    for counts in [&busy, &bare] {
        let whole = Metrics::new(counts).prometheus();
        let (_, shared) = whole.split_once("# HELP erlmcp_claude_flow_shm_").unwrap();
        let shared = format!("# HELP erlmcp_claude_flow_shm_{shared}");
        assert_eq!(shm_prometheus(counts.shm.as_ref()), shared);
    }
}

/// What `promtool check metrics` says to a text; `None` where there is no promtool.
fn promtool(text: &str) -> Option<Result<(), String>> {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        promtool => promtool.unwrap(),
    };
    let stdin = promtool.stdin.take().unwrap();
    { stdin }.write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    Some(match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8([output.stdout, output.stderr].concat()).unwrap()),
    })
}

#[test]
fn promtool_has_nothing_to_say_against_it() {
    let (full, empty) = (mix(), histogram(&[]));
    let texts = [busy(&full), Counts::new(&full), Counts::new(&empty)];
    let shared = [busy(&full).shm, None].map(|shm| shm_prometheus(shm.as_ref()));
    let whole = texts.map(|counts| Metrics::new(&counts).prometheus());
    for text in whole.into_iter().chain(shared) {
        match promtool(&text) {
            Some(verdict) => assert_eq!(verdict, Ok(()), "{text}"),
            None => {
                // Past the harness, which would keep it to itself.
                let _ = writeln!(std::io::stderr(), "SKIPPED: promtool is not installed");
                return;
            }
        }
    }
    // It is no friend of everything.
    let bad = "# HELP a_count Help.\n# TYPE a_count counter\na_count 1\n";
    assert!(promtool(bad).unwrap().is_err());
}
