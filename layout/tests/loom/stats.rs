//! The statistics: one latch over ten figures, and the log up to the tail that is one of them.

use crate::harness::Model;
use crate::mutants;
use crate::store::{Log, START};
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, HeaderWords, Stats, words};
use loom::thread;
use std::array;
use std::sync::Arc;

const STATS: Model = Model {
    name: "the statistics against an update",
    preemptions: None,
    at_least: 10,
};
const TWO_UPDATES: Model = Model {
    name: "the statistics against two updates",
    preemptions: Some(1),
    at_least: 100_000,
};

/// Figures that all follow from the number of records.
fn figures(records: u64) -> Stats {
    Stats {
        entries: records,
        used_slots: records + 10,
        log_tail: records + 20,
        live_bytes: records + 30,
        dead_bytes: records + 40,
        reserved_bytes: records + 50,
        puts: records + 60,
        deletes: records + 70,
        rollovers: records + 80,
        version: records + 90,
    }
}

struct Store {
    words: [AtomicU64; HEADER_SIZE / 8],
    log: Log,
}

impl Store {
    fn append(&self, records: u64) {
        self.log[records as usize - 1].write();
        HeaderWords::new(&self.words).set_stats(&figures(records));
    }

    fn records(&self) -> u64 {
        let stats = HeaderWords::new(&self.words).stats().expect("contended");
        let records = stats.entries;
        assert_eq!(stats, figures(records), "torn");
        self.log[..records as usize]
            .iter()
            .for_each(|bytes| bytes.read());
        records
    }
}

fn stats(before: u64) {
    // The sequence wraps in the middle of the updates.
    let start = |i| {
        if i == words::STATS / 8 { START } else { 0 }
    };
    let store = Arc::new(Store {
        words: array::from_fn(|i| AtomicU64::new(start(i))),
        log: Log::default(),
    });
    (1..=before).for_each(|records| store.append(records));
    let theirs = store.clone();
    let reader = thread::spawn(move || assert!(theirs.records() >= before, "went back in time"));
    (before + 1..=4).for_each(|records| store.append(records));
    reader.join().unwrap();
    assert_eq!(store.records(), 4);
}

#[test]
fn stats_hold() {
    STATS.holds(|| stats(3));
}

/// A stale word of a half that is being overwritten is one choice of two, for each of sixteen.
#[test]
#[ignore = "takes half a minute"]
fn stats_hold_against_two_updates() {
    TWO_UPDATES.holds(|| stats(2));
}

#[test]
fn stats_kill() {
    TWO_UPDATES.kills(mutants::LATCH, || stats(2));
}
