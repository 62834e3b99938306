//! Keys that a tool call is known to have changed: until shared memory shows a newer version, what stands there
//! is old.

use crate::config::Pattern;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct Hold {
    pattern: Pattern,
    /// Versions up to this were there before the call.
    over: u64,
    until: Instant,
}

#[derive(Default)]
pub(crate) struct Holds {
    /// How many there are: nearly always none, and then a read is to pay one load.
    count: AtomicUsize,
    holds: Mutex<Vec<Hold>>,
}

impl Holds {
    pub fn add(&self, patterns: &[Pattern], over: u64, within: Duration) {
        let until = Instant::now() + within;
        let mut holds = self.holds.lock();
        for pattern in patterns {
            holds.retain(|hold| hold.pattern != *pattern);
            let pattern = pattern.clone();
            holds.push(Hold {
                pattern,
                over,
                until,
            });
        }
        // Release, pairs with the Acquire below: whoever asks after the call has returned sees the hold.
        self.count.store(holds.len(), Ordering::Release);
    }

    /// The version that an entry under this key must be above.
    #[inline]
    pub fn over(&self, key: &str) -> u64 {
        match self.count.load(Ordering::Acquire) {
            0 => 0,
            _ => self.look(key),
        }
    }

    #[cold]
    fn look(&self, key: &str) -> u64 {
        let mut holds = self.holds.lock();
        let now = Instant::now();
        holds.retain(|hold| now < hold.until);
        self.count.store(holds.len(), Ordering::Release);
        let matching = holds.iter().filter(|hold| hold.pattern.matches(key));
        matching.map(|hold| hold.over).max().unwrap_or(0)
    }
}
