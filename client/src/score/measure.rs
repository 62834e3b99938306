//! What a score is made of: latency, throughput and checks of one transport.

use super::{Health, SLOW_MS};
use crate::BreakerState;
use std::time::{Duration, Instant};

/// Weight of the newest round trip in [`Latency`]: the last ten make up nine tenths of it.
const WEIGHT: f64 = 0.2;
/// Failed checks in a row that make a transport unhealthy.
const UNHEALTHY_AFTER: u32 = 3;
/// Half the busy time at which [`Throughput`] halves all that it has counted, the older the oftener.
const WINDOW: Duration = Duration::from_secs(1);

/// Latency of a transport: the exponentially weighted mean of its round trips, of probes and of requests.
///
/// ```
/// use erlmcp_shm_client::Latency;
/// use std::time::Duration;
/// let mut latency = Latency::default();
/// assert_eq!(latency.ms(), None);
/// latency.record(Duration::from_millis(10));
/// assert_eq!(latency.ms(), Some(10.0));
/// latency.record(Duration::from_millis(20));
/// assert_eq!(latency.ms(), Some(12.0));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency(Option<f64>);

impl Latency {
    /// Takes in one round trip.
    pub fn record(&mut self, round_trip: Duration) {
        let ms = round_trip.as_secs_f64() * 1e3;
        self.0 = Some(self.0.map_or(ms, |mean| mean + WEIGHT * (ms - mean)));
    }

    /// The mean in ms; `None` before the first.
    pub fn ms(&self) -> Option<f64> {
        self.0
    }
}

/// Messages a second that a transport achieves while it is busy, that is while at least one request is under way.
///
/// A transport that is seldom asked is not thereby a slow one: time in which it has nothing to do does not
/// count, and one that was never asked stays unmeasured.
///
/// ```
/// use erlmcp_shm_client::Throughput;
/// use std::time::{Duration, Instant};
/// let (mut throughput, start) = (Throughput::default(), Instant::now());
/// assert_eq!(throughput.per_second(start), None);
/// throughput.begin(start);
/// throughput.begin(start);
/// throughput.end(start + Duration::from_millis(2));
/// throughput.end(start + Duration::from_millis(4));
/// // Two in 4 ms, and an idle minute changes nothing.
/// let rate = throughput.per_second(start + Duration::from_secs(60)).unwrap();
/// assert!((rate - 500.0).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Throughput {
    under_way: u32,
    /// From when on the time in which something is under way has not been counted yet.
    since: Option<Instant>,
    busy: Duration,
    done: f64,
}

impl Throughput {
    /// A request is sent.
    pub fn begin(&mut self, now: Instant) {
        self.advance(now);
        self.under_way += 1;
        self.since.get_or_insert(now);
    }

    /// A request was answered.
    pub fn end(&mut self, now: Instant) {
        self.finish(now, 1.0);
    }

    /// A request ended without an answer: it took its time, and nothing was achieved.
    pub fn abandon(&mut self, now: Instant) {
        self.finish(now, 0.0);
    }

    /// Messages a second; `None` before the first answer.
    pub fn per_second(&self, now: Instant) -> Option<f64> {
        let busy = (self.busy + self.since_then(now)).as_secs_f64();
        (self.done > 0.0 && busy > 0.0).then(|| self.done / busy)
    }

    fn finish(&mut self, now: Instant, done: f64) {
        self.advance(now);
        self.done += done;
        while self.busy > 2 * WINDOW {
            self.busy /= 2;
            self.done /= 2.0;
        }
        self.under_way = self.under_way.saturating_sub(1);
        if self.under_way == 0 {
            self.since = None;
        }
    }

    fn since_then(&self, now: Instant) -> Duration {
        self.since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Counts the busy time up to now.
    fn advance(&mut self, now: Instant) {
        let passed = self.since_then(now);
        self.busy += passed;
        self.since = self.since.map(|since| since + passed);
    }
}

/// The checks of a transport, and what they say of its health.
///
/// ```
/// use erlmcp_shm_client::{BreakerState, Checks, Health};
/// use std::time::Duration;
/// let mut checks = Checks::default();
/// assert_eq!(checks.health(BreakerState::Closed), Health::Healthy);
/// checks.failed();
/// assert_eq!(checks.health(BreakerState::Closed), Health::Degraded);
/// checks.failed();
/// checks.failed();
/// assert_eq!(checks.health(BreakerState::Closed), Health::Unhealthy);
/// checks.passed(Duration::from_millis(3));
/// assert_eq!(checks.health(BreakerState::Closed), Health::Healthy);
/// assert_eq!(checks.good(), 1);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Checks {
    failures: u32,
    slow: bool,
    good: u32,
}

impl Checks {
    /// A probe was answered after this time.
    pub fn passed(&mut self, round_trip: Duration) {
        self.failures = 0;
        self.slow = round_trip.as_secs_f64() * 1e3 > SLOW_MS;
        self.good = match self.slow {
            true => 0,
            false => self.good.saturating_add(1),
        };
    }

    /// A probe was not answered.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.good = 0;
    }

    /// How many in a row, up to the last, were answered in good time.
    pub fn good(&self) -> u32 {
        self.good
    }

    /// What they and the circuit breaker say together. Without any check so far: healthy, if the breaker is closed.
    pub fn health(&self, breaker: BreakerState) -> Health {
        if self.failures >= UNHEALTHY_AFTER || breaker == BreakerState::Open {
            Health::Unhealthy
        } else if self.failures > 0 || self.slow || breaker == BreakerState::HalfOpen {
            Health::Degraded
        } else {
            Health::Healthy
        }
    }
}
