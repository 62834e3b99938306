//! Samples of stores that a writer really wrote; clocks that are asked are moved by hand.

use super::history::{Changed, History};
use super::keys::{By, Order, Row, walk};
use super::rate::Rate;
use super::*;
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Kind, Writer};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BY_SIZE: Order = Order {
    by: By::Size,
    reversed: false,
};
const BY_UPDATES: Order = Order {
    by: By::Updates,
    reversed: false,
};
const SECOND: Duration = Duration::from_secs(1);

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

fn writer(path: &Path) -> Writer {
    Writer::options().size(1 << 20).open(path).unwrap()
}

fn put(writer: &Writer, key: &str, data: &[u8]) {
    writer
        .put(Kind::Resource, key.as_bytes(), data, b"{}")
        .unwrap();
}

fn sampler(path: &Path, order: Order) -> Sampler {
    let store = Watched::new(path, Reader::options()).unwrap();
    Sampler::new(store, &[order], 100, Duration::ZERO)
}

fn keys(snapshot: &Snapshot) -> Vec<String> {
    let rows = snapshot.keys.rows.iter();
    rows.map(|row| String::from_utf8(row.key.clone()).unwrap())
        .collect()
}

#[test]
fn the_first_in_order_are_those_that_sorting_all_gives() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    for n in 0..500_usize {
        // Many of the same size, and of some keys several versions.
        put(
            &writer,
            &format!("key {}", n * 7 % 400),
            &vec![b'x'; n % 37],
        );
    }
    writer.put(Kind::Prompt, b"key 1", b"x", b"{}").unwrap();
    let view = Reader::open(&path).unwrap().view().unwrap();
    let rate = |entry: &erlmcp_shm_reader::Entry<'_>| (entry.version() % 11) as f64 / 4.0;
    let all = walk(&view, &[BY_SIZE], 1000, rate).remove(0);
    assert_eq!((all.of, all.rows.len(), all.unreadable), (401, 401, 0));
    for by in [By::Size, By::Age, By::Updates] {
        for reversed in [false, true] {
            let mut expected = all.rows.clone();
            expected.sort_by(|a, b| {
                let place = |a: &Row, b: &Row| match by {
                    By::Size => b.bytes.cmp(&a.bytes),
                    By::Age => a.version.cmp(&b.version),
                    By::Updates => b.rate.total_cmp(&a.rate),
                };
                let place = if reversed { place(b, a) } else { place(a, b) };
                place.then((a.kind, &a.key).cmp(&(b.kind, &b.key)))
            });
            for limit in [1, 2, 50, 400, 401, 402] {
                let orders = [BY_SIZE, Order { by, reversed }];
                let found = walk(&view, &orders, limit, rate).remove(1);
                let versions =
                    |rows: &[Row]| rows.iter().map(|row| row.version).collect::<Vec<_>>();
                let expected = &expected[..limit.min(401)];
                assert_eq!(versions(&found.rows), versions(expected), "{by:?} {limit}");
                assert_eq!(found.of, 401);
            }
        }
    }
}

#[test]
fn a_store_comes_goes_and_is_another_one() {
    let (folder, path) = folder();
    let mut sampler = sampler(&path, BY_SIZE);
    assert_eq!(sampler.sample().store, Err(ReadError::NotFound));
    let first = writer(&path);
    put(&first, "a", b"1");
    let seen = sampler.sample();
    assert_eq!(keys(&seen), ["a"]);
    let figures = seen.store.unwrap();
    assert_eq!((figures.entries, figures.rates), (1, None));
    assert_eq!(
        (figures.writer, figures.pid),
        (Verdict::Alive, std::process::id())
    );
    assert_eq!(sampler.sample().store.unwrap().rates.unwrap().puts, 0.0);
    put(&first, "b", b"1");
    let rates = sampler.sample().store.unwrap().rates.unwrap();
    assert!(rates.puts > 0.0 && rates.deletes == 0.0);

    std::fs::remove_file(&path).unwrap();
    let gone = sampler.sample();
    assert_eq!(
        (gone.store, gone.keys.rows.len()),
        (Err(ReadError::NotFound), 0)
    );
    let other = folder.path().join("other");
    put(&writer(&other), "c", b"1");
    std::fs::rename(&other, &path).unwrap();
    // Whenever the reader's watcher notices.
    while keys(&sampler.sample()) != ["c"] {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Rates of keys are in proportion to how often they were put, through however many versions nobody saw.
#[test]
fn updates_are_counted_and_not_guessed() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    let many = |key, n| (0..n).for_each(|_| put(&writer, key, b"value"));
    many("often", 5);
    many("seldom", 2);
    many("never", 1);
    for pread in [false, true] {
        let store = Watched::new(&path, Reader::options().pread(pread)).unwrap();
        let mut sampler = Sampler::new(store, &[BY_UPDATES], 100, Duration::ZERO);
        let first = sampler.sample();
        assert!(first.keys.rows.iter().all(|row| row.rate == 0.0));
        for compact in [false, true] {
            if compact {
                // Before the puts: the keys are all copied by then, each published once.
                writer.compact().unwrap();
            }
            many("often", 300);
            many("seldom", 3);
            writer.delete(Kind::Resource, b"seldom").unwrap();
            many("seldom", 2);
            sampler.walk_next();
            let snapshot = sampler.sample();
            assert_eq!(keys(&snapshot), ["often", "seldom", "never"]);
            let rates: Vec<_> = snapshot.keys.rows.iter().map(|row| row.rate).collect();
            assert!((rates[0] / rates[1] - 50.0).abs() < 1e-6, "{rates:?}");
            assert_eq!(rates[2], 0.0);
        }
    }
}

#[test]
fn what_does_not_change_is_walked_once() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    put(&writer, "a", b"1");
    let mut sampler = sampler(&path, BY_SIZE);
    let first = sampler.sample();
    for _ in 0..10 {
        writer.heartbeat().unwrap();
        assert!(Arc::ptr_eq(&first.keys, &sampler.sample().keys));
    }
    sampler.set_order(BY_SIZE);
    assert!(Arc::ptr_eq(&first.keys, &sampler.sample().keys));
    sampler.set_order(BY_UPDATES);
    assert!(!Arc::ptr_eq(&first.keys, &sampler.sample().keys));
}

/// However many ask, and for whatever order, that is one walk.
#[test]
fn all_orders_are_walked_at_once() {
    let (_folder, path) = folder();
    let writer = writer(&path);
    put(&writer, "a", b"1");
    put(&writer, "b", b"222");
    put(&writer, "a", b"1");
    let smallest = Order {
        reversed: true,
        ..BY_SIZE
    };
    let orders = [BY_SIZE, smallest];
    let store = Watched::new(&path, Reader::options()).unwrap();
    let mut sampler = Sampler::new(store, &orders, 100, Duration::ZERO);
    let first = [0, 1].map(|order| sampler.sample_by(order));
    for _ in 0..3 {
        for order in [0, 1] {
            let again = sampler.sample_by(order);
            assert!(Arc::ptr_eq(&first[order].keys, &again.keys));
        }
    }
    assert_eq!(keys(&first[0]), ["b", "a"]);
    assert_eq!(keys(&first[1]), ["a", "b"]);
}

#[test]
fn a_walk_is_followed_by_a_pause() {
    let at = Instant::now();
    let counters = |version| Counters {
        store_id: [1; 16],
        version,
        puts: 0,
        deletes: 0,
        rollovers: 0,
    };
    let walk = Walk {
        at,
        version: 7,
        store_id: [1; 16],
        again: at + SECOND,
        found: vec![],
    };
    assert!(!walk.is_over(&counters(8), at));
    assert!(walk.is_over(&counters(8), at + SECOND));
    assert!(!walk.is_over(&counters(7), at + 9 * SECOND));
    let other = Counters {
        store_id: [2; 16],
        ..counters(7)
    };
    assert!(walk.is_over(&other, at + SECOND));
}

#[test]
fn counters_of_two_stores_make_no_rate() {
    let counters = |id, puts| Counters {
        store_id: [id; 16],
        version: 1,
        puts,
        deletes: 2 * puts,
        rollovers: 0,
    };
    let rates = counters(1, 30).since(&counters(1, 10), 2 * SECOND).unwrap();
    assert_eq!(
        (rates.puts, rates.deletes, rates.rollovers),
        (10.0, 20.0, 0.0)
    );
    assert_eq!(counters(2, 30).since(&counters(1, 10), SECOND), None);
    assert_eq!(counters(1, 10).since(&counters(1, 30), SECOND), None);
    assert_eq!(
        counters(1, 30).since(&counters(1, 10), Duration::ZERO),
        None
    );
}

#[test]
fn versions_have_times() {
    let start = Instant::now();
    let at = |seconds: u32| start + seconds * SECOND;
    let mut history = History::default();
    history.note([1; 16], 10, at(0));
    history.note([1; 16], 10, at(1));
    history.note([1; 16], 20, at(2));
    history.note([1; 16], 21, at(5));
    let when = |history: &History, version| history.when(version, at(9));
    assert_eq!(when(&history, 3), Changed::Before(at(0)));
    assert_eq!(when(&history, 10), Changed::Before(at(0)));
    assert_eq!(when(&history, 11), Changed::At(at(2)));
    assert_eq!(when(&history, 20), Changed::At(at(2)));
    assert_eq!(when(&history, 21), Changed::At(at(5)));
    assert_eq!(when(&history, 22), Changed::At(at(9)));
    // Of another store nothing is known.
    history.note([2; 16], 4, at(6));
    assert_eq!(when(&history, 4), Changed::Before(at(6)));
}

/// However long it is, it tells ages to a fiftieth.
#[test]
fn a_long_history_is_thinned() {
    const END: u32 = 50_000;
    let start = Instant::now();
    let mut history = History::default();
    for n in 0..END {
        history.note([1; 16], n.into(), start + n * SECOND);
    }
    let now = start + END * SECOND;
    assert_eq!(history.when(0, now), Changed::Before(start));
    for n in 1..END {
        let Changed::At(at) = history.when(n.into(), now) else {
            panic!("{n} was later than the beginning");
        };
        let (age, told) = (f64::from(END - n), (now - at).as_secs_f64());
        assert!(told <= age && told >= age * 0.98, "{told} of {age}");
    }
}

#[test]
fn a_rate_is_an_average_that_forgets() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    let mut now = start;
    for _ in 0..100 {
        now += SECOND;
        rate.add(50, SECOND, now);
    }
    assert!((rate.at(now) - 50.0).abs() < 1e-3);
    assert!((rate.at(now + 5 * SECOND) - 50.0 / std::f64::consts::E).abs() < 1e-3);
    rate.add(7, Duration::ZERO, now);
    assert!((rate.at(now) - 50.0).abs() < 1e-3);
}

mod of_tiers {
    use super::super::scrape::{Tiers, http_url};
    use erlmcp_shm_client::metrics::{Counts, Metrics};

    /// What the client really exports is understood.
    #[test]
    fn a_clients_text() {
        let mut latency = hdrhistogram::Histogram::new(3).unwrap();
        latency.record_n(30, 990).unwrap();
        latency.record_n(60_000, 10).unwrap();
        let counts = Counts {
            reads_l1: 900,
            reads_l2: 60,
            reads_missed: 40,
            ..Counts::new(&latency)
        };
        let tiers = Tiers::parse(&Metrics::new(&counts).prometheus()).unwrap();
        assert_eq!(tiers.shares, [0.9, 0.06, 0.04]);
        assert_eq!(tiers.quantiles, Some([30e-9, 30e-9]));
        assert_eq!((tiers.compliance, tiers.rates), (0.99, None));

        let nothing = hdrhistogram::Histogram::new(3).unwrap();
        let tiers = Tiers::parse(&Metrics::new(&Counts::new(&nothing)).prometheus()).unwrap();
        assert_eq!((tiers.shares, tiers.quantiles), ([0.0; 3], None));
        assert_eq!(Tiers::parse("up 1\n"), None);
        assert_eq!(
            Tiers::parse(&erlmcp_shm_client::metrics::shm_prometheus(None)),
            None
        );
    }

    #[test]
    fn urls() {
        for good in [
            "http://localhost:9090/metrics",
            "http://127.0.0.1",
            "http://[::1]:1/x?y=z",
        ] {
            assert!(http_url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost",
            "localhost:9090",
            "https://x/",
            "file:///x",
            "http://",
        ] {
            assert!(http_url(bad).is_err(), "{bad}");
        }
    }
}
