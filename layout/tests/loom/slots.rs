//! Slots: updates of a key, and the first publish of one.

use crate::harness::Model;
use crate::mutants;
use crate::store::{HASH, News, OTHER, START, Slots};
use erlmcp_shm_layout::sync::breakable;
use loom::thread;
use std::sync::Arc;

const ONE_LOOKUP: Model = Model {
    name: "a lookup against three updates",
    preemptions: Some(3),
    at_least: 50_000,
};
const DYING: Model = Model {
    name: "two lookups against a writer that may die in three updates",
    preemptions: Some(1),
    at_least: 10_000,
};

/// Stores of one put.
const STORES: usize = 5;

/// Version 1 is there; the writer puts 2, deletes (3) and puts 4, and dies after so many stores.
fn updates(lookups: usize, stores: usize) {
    updates_by(Slots::put, lookups, stores);
}

fn updates_by(put: fn(&Slots, u64, u64), lookups: usize, stores: usize) {
    let slots = Arc::new(Slots::new(1, START));
    slots.put(HASH, 1);
    breakable::die_after(stores);
    let theirs = slots.clone();
    let reader = thread::spawn(move || {
        let mut last = 1;
        for _ in 0..lookups {
            let found = theirs.get(HASH);
            assert!(found >= last, "went back in time");
            last = found;
        }
    });
    (2..=4).for_each(|version| put(&slots, HASH, version));
    reader.join().unwrap();
    // The puts that came to their last store stand, and nothing of the one that did not.
    assert_eq!(slots.get(HASH), 1 + (stores / STORES) as u64);
}

#[test]
fn updates_hold() {
    ONE_LOOKUP.holds(|| updates(1, 3 * STORES));
}

#[test]
#[ignore = "takes minutes"]
fn updates_hold_with_more_preemptions() {
    let model = Model {
        name: "a lookup against three updates, at length",
        preemptions: Some(5),
        at_least: 1_000_000,
    };
    model.holds(|| updates(1, 3 * STORES));
}

#[test]
fn updates_kill() {
    ONE_LOOKUP.kills(mutants::LATCH, || updates(1, 3 * STORES));
    ONE_LOOKUP.notices("the record's bytes written after the publish", None, || {
        updates_by(Slots::put_publishing_first, 1, 3 * STORES);
    });
}

#[test]
fn a_writer_that_dies_leaves_the_old_value() {
    DYING.hold((0..=3 * STORES).map(|stores| move || updates(2, stores)));
}

const FIRST: Model = Model {
    name: "the first publish of a key",
    preemptions: None,
    at_least: 300,
};

/// One key is there; the writer puts another one that shares its home, and the first one again.
fn first_publish() {
    let slots = Arc::new(Slots::new(2, START));
    let news = Arc::new(News::default());
    slots.put(HASH, 1);
    let (theirs, hear) = (slots.clone(), news.clone());
    let reader = thread::spawn(move || {
        let returned = hear.hear();
        let found = theirs.get(OTHER);
        assert!(found >= returned, "a put that had returned was not found");
        // As an iteration meets it: first the value, then its hash.
        let slot = theirs.index().slot(1);
        if let Some(value) = slot.load().unwrap() {
            theirs.check(&value);
            assert_eq!(slot.hash(), OTHER, "a value without its hash");
        } else {
            assert_eq!(found, 0, "went back in time");
        }
    });
    slots.put(OTHER, 2);
    news.tell(2);
    slots.put(HASH, 4);
    reader.join().unwrap();
    assert_eq!((slots.get(HASH), slots.get(OTHER)), (4, 2));
}

#[test]
fn first_publish_holds() {
    FIRST.holds(first_publish);
}

#[test]
fn first_publish_kills() {
    FIRST.kills(mutants::SLOT, first_publish);
}
