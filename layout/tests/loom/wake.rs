//! Waiting for a change, with wake-ups that are coalesced: nobody sleeps past a flush with a change
//! that he has not seen.
//!
//! The counter is the layout's own. The steps of the writer (`Writer::flush`) and of the reader
//! (`wait_for_change`) are written down here once more; a mutant leaves one out or swaps two. The
//! kernel's futex is a lock around the comparison and the going to sleep, and around waking. Who is
//! never woken makes loom report a deadlock.

use crate::harness::Model;
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, HeaderWords};
use loom::sync::atomic::Ordering;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::array;
use std::sync::Arc;

const WAKE: Model = Model {
    name: "a waiter against puts, of which two share a flush, and another thread that flushes",
    preemptions: Some(2),
    at_least: 10_000,
};

/// The futex word is the counter's low half, which wraps meanwhile.
const BEFORE: u64 = u32::MAX as u64 - 1;
const LAST: u64 = BEFORE + 3;

/// How the parties behave; [`RIGHT`], or a mutant of it.
#[derive(Clone, Copy)]
struct Ways {
    kernel_compares: bool,
    counted_before_flush: bool,
    only_a_flush_notes: bool,
    wakes_all_of_a_flush: bool,
    waits_for_what_it_compared: bool,
}

const RIGHT: Ways = Ways {
    kernel_compares: true,
    counted_before_flush: true,
    only_a_flush_notes: true,
    wakes_all_of_a_flush: true,
    waits_for_what_it_compared: true,
};

struct World {
    ways: Ways,
    words: [AtomicU64; HEADER_SIZE / 8],
    woken: loom::sync::atomic::AtomicU64,
    futex: Mutex<()>,
    sleepers: Condvar,
}

impl World {
    fn words(&self) -> HeaderWords<'_> {
        HeaderWords::new(&self.words)
    }

    fn count(&self, changes: u64) {
        self.words().set_changes(changes);
        if !self.ways.only_a_flush_notes {
            self.woken.store(changes, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        let changes = self.words().changes();
        if self.woken.swap(changes, Ordering::Relaxed) != changes {
            let _futex = self.futex.lock().unwrap();
            if self.ways.wakes_all_of_a_flush {
                self.sleepers.notify_all();
            } else {
                self.sleepers.notify_one();
            }
        }
    }

    /// Sleeps unless the futex word differs from `expected`.
    fn sleep(&self, expected: u32) {
        let futex = self.futex.lock().unwrap();
        if self.ways.kernel_compares && self.words().changes() as u32 != expected {
            return;
        }
        drop(self.sleepers.wait(futex).unwrap());
    }

    /// The count, once it is not `since` any more.
    fn wait(&self, since: u64) -> u64 {
        loop {
            let seen = self.words().changes();
            if seen != since {
                assert!(seen > since, "the counter went back");
                return seen;
            }
            let again = self.words().changes();
            self.sleep(match self.ways.waits_for_what_it_compared {
                true => seen as u32,
                // Whatever there is by now.
                false => again as u32,
            });
        }
    }
}

fn wake(ways: Ways, waiters: usize) {
    let world = Arc::new(World {
        ways,
        words: array::from_fn(|_| AtomicU64::new(0)),
        woken: loom::sync::atomic::AtomicU64::new(BEFORE),
        futex: Mutex::new(()),
        sleepers: Condvar::new(),
    });
    world.count(BEFORE);
    let waiting: Vec<_> = (0..waiters)
        .map(|_| {
            let world = world.clone();
            thread::spawn(move || {
                let mut seen = BEFORE;
                while seen != LAST {
                    seen = world.wait(seen);
                }
            })
        })
        .collect();
    let other = (waiters == 1).then(|| {
        let world = world.clone();
        thread::spawn(move || world.flush())
    });
    if ways.counted_before_flush {
        world.count(BEFORE + 1);
        world.flush();
        world.count(BEFORE + 2);
        world.count(LAST);
        world.flush();
    } else {
        world.flush();
        world.count(BEFORE + 1);
        world.flush();
        world.count(LAST);
    }
    for thread in waiting.into_iter().chain(other) {
        thread.join().unwrap();
    }
}

#[test]
fn wake_holds() {
    WAKE.holds(|| wake(RIGHT, 1));
}

#[test]
fn wake_kills() {
    let mutants: [(&str, usize, Ways); 5] = [
        (
            "sleeps without comparing",
            1,
            Ways {
                kernel_compares: false,
                ..RIGHT
            },
        ),
        (
            "flushed before it was counted",
            1,
            Ways {
                counted_before_flush: false,
                ..RIGHT
            },
        ),
        (
            "a put noted as if its waiters had been woken",
            1,
            Ways {
                only_a_flush_notes: false,
                ..RIGHT
            },
        ),
        (
            "one waiter of two woken",
            2,
            Ways {
                wakes_all_of_a_flush: false,
                ..RIGHT
            },
        ),
        (
            "sleeps by a count loaded after the one compared",
            1,
            Ways {
                waits_for_what_it_compared: false,
                ..RIGHT
            },
        ),
    ];
    for (name, waiters, ways) in mutants {
        WAKE.notices(name, None, move || wake(ways, waiters));
    }
}
