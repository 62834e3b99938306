//! How often something happens: an average that forgets.

use std::time::{Duration, Instant};

/// What is this old counts by 1/e.
const MEMORY: Duration = Duration::from_secs(5);

/// Weight that is left after a time.
pub fn decay(time: Duration) -> f64 {
    (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// Events per second. Nothing has to be done while there are none.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    per_second: f64,
    at: Instant,
}

impl Rate {
    pub fn new(now: Instant) -> Self {
        Self {
            per_second: 0.0,
            at: now,
        }
    }

    /// `n` events happened within the `time` before now.
    pub fn add(&mut self, n: u64, time: Duration, now: Instant) {
        self.per_second = self.at(now);
        self.at = now;
        if !time.is_zero() {
            self.per_second += n as f64 / time.as_secs_f64() * (1.0 - decay(time));
        }
    }

    /// The rate by now.
    pub fn at(&self, now: Instant) -> f64 {
        self.per_second * decay(now.saturating_duration_since(self.at))
    }
}
