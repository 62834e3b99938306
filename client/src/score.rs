//! Which transport to use: a score for each, made of what was measured of it, and a choice that does
//! not swing between two that are about as good.
//!
//! ```text
//! score = 0.4 H + 0.3 L + 0.2 T + 0.1 P
//!
//! H  1 healthy, 0.5 degraded, 0 unhealthy
//! L  1 - latency / 100 ms, at least 0; 0.5 while unmeasured       (Latency)
//! T  throughput / 10,000 messages a second, at most 1; 0.5 while unmeasured       (Throughput)
//! P  priority / 10
//! ```
//!
//! The node that serves MCP scores its transports by the same formula.

mod measure;
#[cfg(test)]
mod tests;

pub use measure::{Checks, Latency, Throughput};

/// A probe that takes longer is answered by a degraded transport; so is L zero from here on.
const SLOW_MS: f64 = 100.0;
/// Messages a second with which T is 1.
const FULL_THROUGHPUT: f64 = 10_000.0;
/// What an unmeasured latency or throughput counts.
const UNMEASURED: f64 = 0.5;
/// The highest priority.
const TOP_PRIORITY: u8 = 10;

/// By how much a transport must be better than the active one to take its place.
pub const FAIL_BACK_MARGIN: f64 = 0.05;
/// Good checks in a row that a transport must show before it may take the active one's place.
pub const FAIL_BACK_CHECKS: u32 = 2;

/// How a transport is.
///
/// ```
/// use erlmcp_shm_client::Health;
/// assert_eq!(Health::Degraded.to_string(), "degraded");
/// assert_eq!(Health::Degraded.value(), 0.5);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be, or new.
    Healthy,
    /// Its last check failed or was slow, or its breaker is half-open.
    Degraded,
    /// Three checks in a row failed, or its breaker is open.
    Unhealthy,
}

impl Health {
    /// H of the score: 1, 0.5 or 0.
    pub fn value(self) -> f64 {
        match self {
            Health::Healthy => 1.0,
            Health::Degraded => 0.5,
            Health::Unhealthy => 0.0,
        }
    }
}

impl std::fmt::Display for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Health::Healthy => "healthy",
            Health::Degraded => "degraded",
            Health::Unhealthy => "unhealthy",
        })
    }
}

/// The score of a transport, 0 to 1. `throughput` is in messages a second; a priority above 10 counts as 10.
///
/// ```
/// use erlmcp_shm_client::{Health, score};
/// let new = score(Health::Healthy, None, None, 8);
/// assert!((new - 0.73).abs() < 1e-9);
/// let used = score(Health::Degraded, Some(20.0), Some(5_000.0), 10);
/// assert!((used - 0.64).abs() < 1e-9);
/// ```
pub fn score(
    health: Health,
    latency_ms: Option<f64>,
    throughput: Option<f64>,
    priority: u8,
) -> f64 {
    let latency = latency_ms.map_or(UNMEASURED, |ms| (1.0 - ms / SLOW_MS).clamp(0.0, 1.0));
    let throughput = throughput.map_or(UNMEASURED, |rate| (rate / FULL_THROUGHPUT).clamp(0.0, 1.0));
    let priority = f64::from(priority.min(TOP_PRIORITY)) / f64::from(TOP_PRIORITY);
    0.4 * health.value() + 0.3 * latency + 0.2 * throughput + 0.1 * priority
}

/// One of the transports that [`best`] chooses from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// How it is.
    pub health: Health,
    /// Its [`score`].
    pub score: f64,
    /// Its checks that were good, in a row up to the last: [`Checks::good`].
    pub good_checks: u32,
}

/// The transport to use from now on, as an index into `candidates`; `active` is the one in use so far.
/// `None` only if there is none to choose.
///
/// Without an active one, or where that is unhealthy and another is not, the best score among those that are not
/// unhealthy decides. An active one that is well gives way only to one with [`FAIL_BACK_CHECKS`] good
/// checks and a score higher by [`FAIL_BACK_MARGIN`]. Equal scores: the earlier in the list.
///
/// ```
/// use erlmcp_shm_client::{Candidate, Health, best, score};
/// let new = |health, priority, good_checks| Candidate {
///     health,
///     score: score(health, None, None, priority),
///     good_checks,
/// };
/// let broken = [new(Health::Unhealthy, 10, 0), new(Health::Healthy, 5, 9)];
/// assert_eq!(best(&broken, Some(0)), Some(1));
/// // The first is back, but has yet to prove itself.
/// let back = [new(Health::Healthy, 10, 1), new(Health::Healthy, 5, 9)];
/// assert_eq!(best(&back, Some(1)), Some(1));
/// let proven = [new(Health::Healthy, 10, 2), new(Health::Healthy, 5, 9)];
/// assert_eq!(best(&proven, Some(1)), Some(0));
/// ```
pub fn best(candidates: &[Candidate], active: Option<usize>) -> Option<usize> {
    let well = |n: &usize| candidates[*n].health != Health::Unhealthy;
    let all = || 0..candidates.len();
    let active = active.filter(|n| *n < candidates.len());
    match active {
        Some(active) if well(&active) => {
            // Sums of tenths are not exact: 0.05 more must not be missed by a rounding.
            let enough = candidates[active].score + FAIL_BACK_MARGIN - 1e-9;
            let proven = |n: &usize| {
                candidates[*n].good_checks >= FAIL_BACK_CHECKS && candidates[*n].score >= enough
            };
            highest(candidates, all().filter(well).filter(proven)).or(Some(active))
        }
        _ => highest(candidates, all().filter(well))
            // All are unhealthy: to change from one to the next would help nobody.
            .or(active)
            .or_else(|| highest(candidates, all())),
    }
}

/// The highest score among these; the first of equals.
fn highest(candidates: &[Candidate], among: impl Iterator<Item = usize>) -> Option<usize> {
    among.reduce(
        |best, n| match candidates[n].score > candidates[best].score {
            true => n,
            false => best,
        },
    )
}
