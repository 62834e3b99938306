//! What a client knows of itself: how often each tier answered and how fast, how its transports fared, and the
//! store it reads.
//!
//! [`Counts`] is what was counted. [`Metrics`] is what follows from it, under the names that the node uses for its
//! own figures; [`Metrics::prometheus`] writes it for a scraper, with the metrics of [`METRICS`], and
//! [`Counts::report`] is what the node is told, which adds up what all its clients tell it.
//!
//! ```
//! use erlmcp_shm_client::metrics::{Counts, Metrics};
//! use hdrhistogram::Histogram;
//!
//! let mut latency = Histogram::new(3)?;
//! latency.record_n(30, 990)?; // nanoseconds
//! latency.record_n(400, 9)?;
//! latency.record(2_000_000)?;
//! let counts = Counts { reads_l1: 990, reads_l2: 9, reads_missed: 1, ..Counts::new(&latency) };
//!
//! let metrics = Metrics::new(&counts);
//! assert_eq!(metrics.cache_hit_rate_l1, 0.99);
//! assert_eq!((metrics.latency_p50_ns, metrics.latency_p50_us), (30, 1)); // rounded up
//! assert_eq!(metrics.sona_compliance_pct, 99.9);
//! assert!(metrics.prometheus().contains("erlmcp_claude_flow_cache_hit_rate{cache=\"l1\"} 0.99\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod counts;
mod names;
mod prometheus;
#[cfg(test)]
mod tests;

pub use counts::{Counts, CountsReport, ShmFigures, TransportStatus};
pub use names::{METRICS, Metric, MetricKind};
pub use prometheus::shm_prometheus;

use crate::config::TransportKind;
use crate::score::Health;
use serde::{Serialize, Serializer};

/// The method of the notification whose params are a [`CountsReport`].
pub const CLIENT_METRICS: &str = "notifications/erlmcp/client_metrics";

/// A read that is answered in less than this many nanoseconds meets SONA's budget, whichever tier answered it.
pub const SONA_BUDGET_NS: u64 = 50_000;

/// A client's figures. Serialized, it has the same names.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The active transport; `none` where there is none.
    #[serde(serialize_with = "or_none")]
    pub transport_type: Option<TransportKind>,
    /// How it is; unhealthy where there is none.
    pub transport_health: Health,
    /// Connections that stand.
    pub active_connections: u64,
    /// Share of all reads that were answered from this process. The shares are 0 before the first read, and
    /// add up to 1 from then on.
    pub cache_hit_rate_l1: f64,
    /// Share of all reads that were answered from shared memory.
    pub cache_hit_rate_l2: f64,
    /// Share of all reads that neither could answer.
    pub cache_miss_rate: f64,
    /// Half of the reads were answered within this many microseconds, rounded up.
    pub latency_p50_us: u64,
    /// 99 of 100 reads were answered within this many microseconds, rounded up.
    pub latency_p99_us: u64,
    /// The same in nanoseconds, to the histogram's precision and rounded up to it.
    pub latency_p50_ns: u64,
    /// The same in nanoseconds, to the histogram's precision and rounded up to it.
    pub latency_p99_ns: u64,
    /// How many of 100 answered reads took less than [`SONA_BUDGET_NS`]; 0 before the first.
    pub sona_compliance_pct: f64,
    /// How often another transport had to take over.
    pub failover_count: u64,
    /// Share of those that worked; 1 before the first.
    pub failover_success_rate: f64,
    /// Bytes of the store's file; 0 without one.
    pub shm_size_bytes: u64,
    /// Entries in it.
    pub shm_entries: u64,
    /// Share of dead bytes in its log.
    pub shm_fragmentation: f64,
    /// Reads of which the latency is known.
    pub latency_count: u64,
    /// The sum of their latencies in nanoseconds.
    pub latency_sum_ns: u64,
    /// Every transport that is configured.
    pub transports: Vec<TransportStatus>,
    /// All figures of the store, where there is one.
    pub shm: Option<ShmFigures>,
}

impl Metrics {
    /// What follows from these counts.
    pub fn new(counts: &Counts<'_>) -> Self {
        let reads = counts.reads_l1 + counts.reads_l2 + counts.reads_missed;
        let latency = counts.latency;
        let active = counts.transport.and_then(|active| {
            let mut all = counts.transports.iter();
            all.find(|transport| transport.kind == active)
        });
        let quantile = |q| match latency.is_empty() {
            true => 0,
            false => latency.value_at_quantile(q),
        };
        let (p50, p99) = (quantile(0.5), quantile(0.99));
        let shm = counts.shm.as_ref();
        Self {
            transport_type: counts.transport,
            transport_health: active.map_or(Health::Unhealthy, |transport| transport.health),
            active_connections: counts.active_connections,
            cache_hit_rate_l1: share(counts.reads_l1, reads),
            cache_hit_rate_l2: share(counts.reads_l2, reads),
            cache_miss_rate: share(counts.reads_missed, reads),
            latency_p50_us: p50.div_ceil(1000),
            latency_p99_us: p99.div_ceil(1000),
            latency_p50_ns: p50,
            latency_p99_ns: p99,
            // One division: 99.9 is 99.9, not that much and a rounding.
            sona_compliance_pct: share(100 * counts.compliant(), latency.len()),
            failover_count: counts.failovers,
            failover_success_rate: match counts.failovers {
                0 => 1.0,
                all => share(counts.failovers_succeeded, all),
            },
            shm_size_bytes: shm.map_or(0, |shm| shm.size_bytes),
            shm_entries: shm.map_or(0, |shm| shm.entries),
            shm_fragmentation: shm.map_or(0.0, |shm| shm.fragmentation),
            latency_count: latency.len(),
            latency_sum_ns: counts.latency_sum_ns(),
            transports: counts.transports.to_vec(),
            shm: counts.shm.clone(),
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        whole => part as f64 / whole as f64,
    }
}

fn or_none<S: Serializer>(kind: &Option<TransportKind>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(kind.map_or("none", TransportKind::name))
}
