//! A circuit breaker: a transport that has failed again and again is left alone for a while.
//!
//! ```text
//!             failure_threshold failures in a row                  timeout has passed
//!   CLOSED ------------------------------------------> OPEN ------------------------> HALF-OPEN
//!     ^                                                 ^                              |    |
//!     |                                                 +--------- one failure --------+    |
//!     +------------------------- success_threshold successes -------------------------------+
//! ```
//!
//! Closed lets every request through, open none, half-open one at a time. The breaker asks no clock:
//! whoever calls it says what time it is, and the step from open to half-open is taken by the first call after
//! the timeout, whichever it is.
//!
//! A request holds a [`Permit`], in which it reports how it ended. A permit counts only in the period (the
//! time between two changes of state) in which it was given out: a request that was sent before the breaker opened
//! and fails an hour later says nothing about the transport of now. A permit that is dropped, because
//! the request was cancelled say, reports nothing and makes room for the next probe.

use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// When a [`Breaker`] opens and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerOptions {
    /// Whether it ever opens (true).
    pub enabled: bool,
    /// Failures in a row that open it (5; 0 is taken as 1).
    pub failure_threshold: u32,
    /// Successes in half-open that close it (2; 0 is taken as 1).
    pub success_threshold: u32,
    /// How long it stays open (30 s).
    pub timeout: Duration,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            failure_threshold: 5,
            success_threshold: 2,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Where a [`Breaker`] stands.
///
/// ```
/// use erlmcp_shm_client::BreakerState;
/// assert_eq!(BreakerState::HalfOpen.to_string(), "half-open");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Requests go through.
    Closed,
    /// One request at a time goes through, to see whether the transport is well again.
    HalfOpen,
    /// No request goes through.
    Open,
}

impl std::fmt::Display for BreakerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            BreakerState::Closed => "closed",
            BreakerState::HalfOpen => "half-open",
            BreakerState::Open => "open",
        })
    }
}

/// A circuit breaker, to be shared by all who use one transport.
///
/// ```
/// use erlmcp_shm_client::{Breaker, BreakerOptions, BreakerState};
/// use std::time::{Duration, Instant};
///
/// let breaker = Breaker::new(BreakerOptions::default());
/// let start = Instant::now();
/// for _ in 0..5 {
///     breaker.acquire(start).unwrap().failure(start);
/// }
/// assert_eq!(breaker.state(start), BreakerState::Open);
/// assert!(breaker.acquire(start).is_none());
///
/// let later = start + Duration::from_secs(30);
/// let probe = breaker.acquire(later).unwrap();
/// assert!(!breaker.is_available(later)); // one probe at a time
/// probe.success(later);
/// breaker.acquire(later).unwrap().success(later);
/// assert_eq!(breaker.state(later), BreakerState::Closed);
/// ```
#[derive(Debug)]
pub struct Breaker {
    options: BreakerOptions,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    period: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    Closed { failures: u32 },
    Open { since: Instant },
    HalfOpen { successes: u32, probing: bool },
}

const CLOSED: Phase = Phase::Closed { failures: 0 };

impl Inner {
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.period += 1;
    }

    fn count(&mut self, options: &BreakerOptions, now: Instant, success: bool) {
        match (&mut self.phase, success) {
            (Phase::Closed { failures }, true) => *failures = 0,
            (Phase::Closed { failures }, false) => {
                *failures += 1;
                if *failures >= options.failure_threshold {
                    self.enter(Phase::Open { since: now });
                }
            }
            // Nothing that was let through while it is open; the timeout alone ends this.
            (Phase::Open { .. }, _) => {}
            (Phase::HalfOpen { successes, .. }, true) => {
                *successes += 1;
                if *successes >= options.success_threshold {
                    self.enter(CLOSED);
                }
            }
            (Phase::HalfOpen { .. }, false) => self.enter(Phase::Open { since: now }),
        }
    }

    fn probe_ended(&mut self) {
        if let Phase::HalfOpen { probing, .. } = &mut self.phase {
            *probing = false;
        }
    }
}

impl Breaker {
    /// A closed breaker.
    pub fn new(options: BreakerOptions) -> Self {
        let inner = Mutex::new(Inner {
            period: 0,
            phase: CLOSED,
        });
        Self { options, inner }
    }

    /// Runs `f` on what stands at `now`.
    fn at<T>(&self, now: Instant, f: impl FnOnce(&mut Inner) -> T) -> T {
        self.at_after(self.options.timeout, now, f)
    }

    /// The same, where an open breaker has stayed open long enough after `timeout`.
    fn at_after<T>(&self, timeout: Duration, now: Instant, f: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        if let Phase::Open { since } = inner.phase
            // Saturates: a thread that read its clock before us may come in after us.
            && now.saturating_duration_since(since) >= timeout
        {
            inner.enter(Phase::HalfOpen {
                successes: 0,
                probing: false,
            });
        }
        f(&mut inner)
    }

    /// Leave to send one request, or `None` where it must not be sent.
    pub fn acquire(&self, now: Instant) -> Option<Permit<'_>> {
        self.acquire_early(now, self.options.timeout)
    }

    /// [`acquire`](Self::acquire), for a caller with reason to believe that what failed is well again: where the
    /// breaker has been open for so long, it does not wait for the rest of its timeout.
    pub fn acquire_early(&self, now: Instant, after: Duration) -> Option<Permit<'_>> {
        self.at_after(after.min(self.options.timeout), now, |inner| {
            match &mut inner.phase {
                Phase::Closed { .. } => {}
                Phase::HalfOpen { probing, .. } if !*probing => *probing = true,
                Phase::HalfOpen { .. } | Phase::Open { .. } => return None,
            }
            Some(Permit {
                breaker: self,
                period: inner.period,
            })
        })
    }

    /// Whether [`acquire`](Self::acquire) would give leave.
    pub fn is_available(&self, now: Instant) -> bool {
        self.at(now, |inner| match inner.phase {
            Phase::Closed { .. } => true,
            Phase::HalfOpen { probing, .. } => !probing,
            Phase::Open { .. } => false,
        })
    }

    /// Counts a success that no permit stands for, of a health probe say.
    pub fn record_success(&self, now: Instant) {
        self.record(now, true);
    }

    /// Counts a failure that no permit stands for, such as a connection that was lost while idle.
    pub fn record_failure(&self, now: Instant) {
        self.record(now, false);
    }

    fn record(&self, now: Instant, success: bool) {
        if self.options.enabled {
            self.at(now, |inner| inner.count(&self.options, now, success));
        }
    }

    /// Closed, half-open or open; always closed where it is not enabled.
    pub fn state(&self, now: Instant) -> BreakerState {
        self.at(now, |inner| match inner.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Open { .. } => BreakerState::Open,
        })
    }

    /// Closes it and forgets what was counted.
    pub fn reset(&self) {
        self.inner.lock().enter(CLOSED);
    }

    /// Opens it for the length of the timeout, if it is enabled.
    pub fn force_open(&self, now: Instant) {
        if self.options.enabled {
            self.inner.lock().enter(Phase::Open { since: now });
        }
    }
}

/// Leave to send one request; from [`Breaker::acquire`]. Dropped, it reports nothing.
#[derive(Debug)]
#[must_use = "report how the request ended"]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    period: u64,
}

impl Permit<'_> {
    /// The request was answered, be it by an error of the protocol: the transport works.
    pub fn success(self, now: Instant) {
        self.report(now, true);
    }

    /// The transport failed.
    pub fn failure(self, now: Instant) {
        self.report(now, false);
    }

    fn report(&self, now: Instant, success: bool) {
        let options = &self.breaker.options;
        self.breaker.at(now, |inner| {
            if options.enabled && inner.period == self.period {
                inner.count(options, now, success);
            }
        });
        // Our drop makes room for the next probe.
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut inner = self.breaker.inner.lock();
        if inner.period == self.period {
            inner.probe_ended();
        }
    }
}

#[cfg(test)]
mod tests;
