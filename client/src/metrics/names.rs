//! The metrics there are, for a scraper. The text is made from this list, and so are the comparisons with what others
//! export and with what dashboards ask for.

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Of which kind it is.
    pub kind: MetricKind,
    /// What it says, for people.
    pub help: &'static str,
    /// Names of the labels of each sample.
    pub labels: &'static [&'static str],
}

/// A kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Goes up, until its process ends.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Quantiles, with a sum and a count.
    Summary,
}

impl MetricKind {
    /// As the text format has it.
    pub const fn name(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Summary => "summary",
        }
    }
}

macro_rules! metric {
    ($kind:ident $name:literal, $labels:expr, $help:literal) => {
        Metric {
            name: concat!("erlmcp_claude_flow_", $name),
            kind: MetricKind::$kind,
            help: $help,
            labels: &$labels,
        }
    };
}

/// All of them, in the order of the text.
///
/// ```
/// use erlmcp_shm_client::metrics::{METRICS, MetricKind};
/// let counters = METRICS.iter().filter(|metric| metric.kind == MetricKind::Counter);
/// assert!(counters.into_iter().all(|metric| metric.name.ends_with("_total")));
/// ```
#[rustfmt::skip] // a table: one row, one line
pub const METRICS: &[Metric] = &[
    metric!(Gauge "cache_hit_rate", ["cache"], "Share of all reads that this cache answered."),
    metric!(Gauge "cache_miss_rate", [], "Share of all reads that no cache answered."),
    metric!(Summary "latency_seconds", ["quantile"], "Time to the answer of a read."),
    metric!(Gauge "sona_compliance_ratio", [], "Share of answered reads that took less than 50 microseconds."),
    metric!(Counter "failover_total", [], "Times that another transport had to take over."),
    metric!(Gauge "failover_success_ratio", [], "Share of failovers that worked, 1 before the first."),
    metric!(Gauge "active_connections", [], "Connections that stand."),
    metric!(Gauge "transport_health", ["transport"], "1 healthy, 0.5 degraded, 0 unhealthy."),
    metric!(Gauge "circuit_breaker_state", ["transport"], "0 closed, 1 half-open, 2 open."),
    metric!(Gauge "shm_up", [], "1 if there is shared memory to read, 0 if not."),
    metric!(Gauge "shm_size_bytes", [], "Size of the shared memory file."),
    metric!(Gauge "shm_entries", [], "Live entries in shared memory."),
    metric!(Gauge "shm_fragmentation_ratio", [], "Dead bytes over all bytes of records."),
    metric!(Gauge "shm_fill_ratio", [], "How much of what it can hold the store holds."),
    metric!(Gauge "shm_generation", [], "Number of the file's generation."),
    metric!(Gauge "shm_heartbeat_age_seconds", [], "Time since the writer's last sign of life."),
    metric!(Counter "shm_puts_total", [], "Puts since the store began."),
    metric!(Counter "shm_deletes_total", [], "Deletes of present keys since the store began."),
    metric!(Counter "shm_rollovers_total", [], "Generations made since the store began, the first one not counted."),
];
