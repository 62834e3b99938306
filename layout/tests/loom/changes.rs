//! The change counter: who sees a count finds the publish that it counts.

use crate::harness::Model;
use crate::mutants;
use crate::store::{HASH, OTHER, START, Slots};
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, HeaderWords};
use loom::thread;
use std::array;
use std::sync::Arc;

const CHANGES: Model = Model {
    name: "the change counter",
    preemptions: None,
    at_least: 100,
};

/// One key is there; the writer puts another one, and then that one again.
///
/// The first publish of a key is what needs the counter's own ordering: a stale hash ends a probe,
/// while a stale sequence is found out by the latch.
fn changes(count_first: bool) {
    let words: [AtomicU64; HEADER_SIZE / 8] = array::from_fn(|_| AtomicU64::new(0));
    let store = Arc::new((words, Slots::new(2, START)));
    store.1.put(HASH, 1);
    HeaderWords::new(&store.0).set_changes(1);
    let theirs = store.clone();
    let reader = thread::spawn(move || {
        let (words, slots) = &*theirs;
        let seen = HeaderWords::new(words).changes();
        if seen > 1 {
            let found = slots.get(OTHER);
            assert!(found >= seen, "a publish was counted and is not there");
        }
    });
    let (words, slots) = &*store;
    for version in [2, 4] {
        if count_first {
            HeaderWords::new(words).set_changes(version);
        }
        slots.put(OTHER, version);
        HeaderWords::new(words).set_changes(version);
    }
    reader.join().unwrap();
    assert_eq!(HeaderWords::new(words).changes(), 4);
}

#[test]
fn changes_hold() {
    CHANGES.holds(|| changes(false));
}

#[test]
fn changes_kill() {
    CHANGES.kills(mutants::COUNTER, || changes(false));
    CHANGES.notices("the count moved before the publish", None, || changes(true));
}
