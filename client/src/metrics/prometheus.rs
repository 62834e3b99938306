//! The text format of Prometheus, version 0.0.4.

use super::{METRICS, Metrics, ShmFigures, TransportStatus};
use crate::BreakerState;
use std::fmt::{Display, Write};

/// A line: what follows the metric's name, and the value. Values of labels are names of ours, in which nothing
/// needs escaping.
type Sample = (String, String);

impl Metrics {
    /// For a scraper: the metrics of [`METRICS`], but for those of which nothing is known (of shared memory where there
    /// is no store, of transports where none is configured).
    pub fn prometheus(&self) -> String {
        text(|name| self.samples(name))
    }

    fn samples(&self, name: &str) -> Vec<Sample> {
        match name {
            "cache_hit_rate" => vec![
                labelled("cache", "l1", self.cache_hit_rate_l1),
                labelled("cache", "l2", self.cache_hit_rate_l2),
            ],
            "cache_miss_rate" => plain(Some(self.cache_miss_rate)),
            "latency_seconds" => vec![
                labelled("quantile", "0.5", self.quantile(self.latency_p50_ns)),
                labelled("quantile", "0.99", self.quantile(self.latency_p99_ns)),
                ("_sum".to_owned(), seconds(self.latency_sum_ns).to_string()),
                ("_count".to_owned(), self.latency_count.to_string()),
            ],
            "sona_compliance_ratio" => plain(Some(self.sona_compliance_pct / 100.0)),
            "failover_total" => plain(Some(self.failover_count)),
            "failover_success_ratio" => plain(Some(self.failover_success_rate)),
            "active_connections" => plain(Some(self.active_connections)),
            "transport_health" => self.by_transport(|transport| transport.health.value()),
            "circuit_breaker_state" => self.by_transport(|transport| match transport.breaker {
                BreakerState::Closed => 0.0,
                BreakerState::HalfOpen => 1.0,
                BreakerState::Open => 2.0,
            }),
            name => shm_samples(self.shm.as_ref(), name)
                .unwrap_or_else(|| unreachable!("{name} is listed and has no value")),
        }
    }

    fn by_transport(&self, value: fn(&TransportStatus) -> f64) -> Vec<Sample> {
        let all = self.transports.iter();
        all.map(|transport| labelled("transport", transport.kind.name(), value(transport)))
            .collect()
    }

    /// Of nothing there are no quantiles.
    fn quantile(&self, ns: u64) -> f64 {
        match self.latency_count {
            0 => f64::NAN,
            _ => seconds(ns),
        }
    }
}

/// For a scraper, of shared memory alone: what who reads a file can tell of it. Without figures, that there
/// are none.
///
/// ```
/// use erlmcp_shm_client::metrics::shm_prometheus;
/// assert!(shm_prometheus(None).ends_with("\nerlmcp_claude_flow_shm_up 0\n"));
/// ```
pub fn shm_prometheus(shm: Option<&ShmFigures>) -> String {
    text(|name| shm_samples(shm, name).unwrap_or_default())
}

fn text(samples: impl Fn(&str) -> Vec<Sample>) -> String {
    let mut text = String::new();
    for metric in METRICS {
        let samples = samples(metric.name.trim_start_matches("erlmcp_claude_flow_"));
        if samples.is_empty() {
            continue;
        }
        let (name, kind) = (metric.name, metric.kind.name());
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
        for (rest, value) in samples {
            let _ = writeln!(text, "{name}{rest} {value}");
        }
    }
    text
}

/// `None` if the metric is not one of shared memory.
fn shm_samples(shm: Option<&ShmFigures>, name: &str) -> Option<Vec<Sample>> {
    let count = |value: fn(&ShmFigures) -> u64| plain(shm.map(value));
    let ratio = |value: fn(&ShmFigures) -> f64| plain(shm.map(value));
    Some(match name {
        "shm_up" => plain(Some(u8::from(shm.is_some()))),
        "shm_size_bytes" => count(|shm| shm.size_bytes),
        "shm_entries" => count(|shm| shm.entries),
        "shm_fragmentation_ratio" => ratio(|shm| shm.fragmentation),
        "shm_fill_ratio" => ratio(|shm| shm.fill),
        "shm_generation" => count(|shm| shm.generation),
        "shm_heartbeat_age_seconds" => {
            let age = shm.and_then(|shm| shm.heartbeat_age);
            plain(age.map(|age| age.as_secs_f64()))
        }
        "shm_puts_total" => count(|shm| shm.puts),
        "shm_deletes_total" => count(|shm| shm.deletes),
        "shm_rollovers_total" => count(|shm| shm.rollovers),
        _ => return None,
    })
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

fn plain(value: Option<impl Display>) -> Vec<Sample> {
    let sample = value.map(|value| (String::new(), value.to_string()));
    sample.into_iter().collect()
}

fn labelled(label: &str, of: &str, value: f64) -> Sample {
    (format!("{{{label}=\"{of}\"}}"), value.to_string())
}
