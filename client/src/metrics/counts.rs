//! What is counted, and how the node is told of it.

use super::{SONA_BUDGET_NS, or_none};
use crate::BreakerState;
use crate::config::TransportKind;
use crate::score::Health;
use erlmcp_shm_reader::StoreStats;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::time::Duration;

/// What a client has counted since it began, and how things stand.
#[derive(Clone, Debug)]
pub struct Counts<'a> {
    /// The active transport.
    pub transport: Option<TransportKind>,
    /// Every transport that is configured.
    pub transports: &'a [TransportStatus],
    /// Connections that stand.
    pub active_connections: u64,
    /// Reads answered from this process.
    pub reads_l1: u64,
    /// Reads answered from shared memory.
    pub reads_l2: u64,
    /// Reads that neither could answer, whatever the server said to them.
    pub reads_missed: u64,
    /// Nanoseconds that answered reads took; a sample of them will do.
    pub latency: &'a Histogram<u64>,
    /// How often another transport had to take over.
    pub failovers: u64,
    /// How often it could.
    pub failovers_succeeded: u64,
    /// The store, where there is one.
    pub shm: Option<ShmFigures>,
}

/// How a transport stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct TransportStatus {
    /// Which it is.
    pub kind: TransportKind,
    /// How it is.
    pub health: Health,
    /// Its circuit breaker.
    pub breaker: BreakerState,
}

/// Figures of the store, as metrics show them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShmFigures {
    /// Bytes of the file.
    pub size_bytes: u64,
    /// Live entries.
    pub entries: u64,
    /// Dead bytes over all bytes of records, 0 to 1.
    pub fragmentation: f64,
    /// How much of what it can hold it holds, 0 to 1.
    pub fill: f64,
    /// Number of the generation.
    pub generation: u64,
    /// Puts since the store began.
    pub puts: u64,
    /// Deletes of present keys since the store began.
    pub deletes: u64,
    /// Generations made since the store began, the first one not counted.
    pub rollovers: u64,
    /// Time since the writer's last sign of life, where there was one.
    pub heartbeat_age: Option<Duration>,
}

impl ShmFigures {
    /// From what a reader says: its stats, and the age of the heartbeat in its liveness.
    ///
    /// ```no_run
    /// use erlmcp_shm_client::metrics::ShmFigures;
    /// # let shm = erlmcp_shm_reader::Reader::open("")?;
    /// let figures = ShmFigures::new(&shm.stats()?, shm.liveness().heartbeat_age);
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn new(stats: &StoreStats, heartbeat_age: Option<Duration>) -> Self {
        Self {
            size_bytes: stats.size,
            entries: stats.entries,
            fragmentation: stats.fragmentation,
            fill: stats.fill,
            generation: stats.generation,
            puts: stats.puts,
            deletes: stats.deletes,
            rollovers: stats.rollovers,
            heartbeat_age,
        }
    }
}

/// The params of the notification [`CLIENT_METRICS`](super::CLIENT_METRICS): totals since the client began, so that
/// one that gets lost is made good by the next, and raw, so that those of many clients can be added up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct CountsReport {
    /// The active transport, or `none`.
    #[serde(serialize_with = "or_none")]
    pub transport_type: Option<TransportKind>,
    /// Reads answered from the process.
    pub reads_l1: u64,
    /// Reads answered from shared memory.
    pub reads_l2: u64,
    /// Reads that neither could answer.
    pub reads_missed: u64,
    /// Reads of which the latency is known.
    pub latency_count: u64,
    /// The sum of their latencies.
    pub latency_sum_ns: u64,
    /// How many of them met SONA's budget.
    pub latency_compliant: u64,
    /// How many of them took how long: pairs of nanoseconds, an upper bound of two significant digits, and a number
    /// of reads; ascending, and only where there are any. Two digits bound the error of a sum's quantiles
    /// by a tenth, and the length of the list by 90 for each power of ten.
    pub latency_buckets: Vec<(u64, u64)>,
    /// How often another transport had to take over.
    pub failovers: u64,
    /// How often it could.
    pub failovers_succeeded: u64,
}

impl<'a> Counts<'a> {
    /// Nothing counted yet, but for these latencies in nanoseconds.
    pub fn new(latency: &'a Histogram<u64>) -> Self {
        Self {
            transport: None,
            transports: &[],
            active_connections: 0,
            reads_l1: 0,
            reads_l2: 0,
            reads_missed: 0,
            latency,
            failovers: 0,
            failovers_succeeded: 0,
            shm: None,
        }
    }

    /// What the node is told.
    ///
    /// ```
    /// use erlmcp_shm_client::metrics::Counts;
    /// use hdrhistogram::Histogram;
    /// let mut latency = Histogram::new(3)?;
    /// latency.record(1_201)?;
    /// latency.record(1_300)?;
    /// let counts = Counts { reads_l1: 2, ..Counts::new(&latency) };
    /// let params = serde_json::to_value(counts.report())?;
    /// assert_eq!(params["transport_type"], "none");
    /// assert_eq!(params["reads_l1"], 2);
    /// assert_eq!(params["latency_buckets"], serde_json::json!([[1_300, 2]]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn report(&self) -> CountsReport {
        let mut buckets: Vec<(u64, u64)> = vec![];
        for (ns, count) in self.recorded() {
            let ns = two_digits(ns);
            match buckets.last_mut() {
                Some(last) if last.0 == ns => last.1 += count,
                _ => buckets.push((ns, count)),
            }
        }
        CountsReport {
            transport_type: self.transport,
            reads_l1: self.reads_l1,
            reads_l2: self.reads_l2,
            reads_missed: self.reads_missed,
            latency_count: self.latency.len(),
            latency_sum_ns: self.latency_sum_ns(),
            latency_compliant: self.compliant(),
            latency_buckets: buckets,
            failovers: self.failovers,
            failovers_succeeded: self.failovers_succeeded,
        }
    }

    /// Reads that took less than the budget for certain: those that share the histogram's bucket with the
    /// budget itself are not among them.
    pub(super) fn compliant(&self) -> u64 {
        let within = self.recorded().filter(|(ns, _)| *ns < SONA_BUDGET_NS);
        within.map(|(_, count)| count).sum()
    }

    pub(super) fn latency_sum_ns(&self) -> u64 {
        let all = self.recorded();
        all.fold(0, |sum, (ns, count)| {
            sum.saturating_add(ns.saturating_mul(count))
        })
    }

    /// What was recorded, ascending: the most that a value may have been, and how often.
    fn recorded(&self) -> impl Iterator<Item = (u64, u64)> {
        self.latency.iter_recorded().map(|step| {
            let most = self.latency.highest_equivalent(step.value_iterated_to());
            (most, step.count_at_value())
        })
    }
}

/// Rounded up to two significant digits.
fn two_digits(ns: u64) -> u64 {
    let unit = 10u64.pow(ns.checked_ilog10().unwrap_or(0).saturating_sub(1));
    ns.div_ceil(unit).saturating_mul(unit)
}
