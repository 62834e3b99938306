//! What a client counts, and tells the node.

use super::Inner;
use crate::metrics::{CLIENT_METRICS, Counts, Metrics, ShmFigures, TransportStatus};
use erlmcp_shm_reader::l1::{Histogram, SAMPLE_EVERY, Tier, histogram};
use parking_lot::Mutex;
use rmcp::model::{ClientNotification, CustomNotification};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often the node is told.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// What the first two tiers do not count by themselves.
pub(super) struct Figures {
    /// Reads that the server had to answer, whether it did or not.
    missed: AtomicU64,
    /// How long those took that it answered.
    latency: Mutex<Histogram<u64>>,
    /// Values that were found and could not be served.
    rejected_l1: AtomicU64,
    rejected_l2: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            missed: AtomicU64::new(0),
            latency: Mutex::new(histogram()),
            rejected_l1: AtomicU64::new(0),
            rejected_l2: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// A value that was found, and is not for us, not trusted or known to be old.
    pub fn rejected(&self, tier: Tier) {
        let counter = match tier {
            Tier::L1 => &self.rejected_l1,
            Tier::L2 => &self.rejected_l2,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A read that went to the server, and how long that took if it answered.
    pub fn missed(&self, answered: Option<Duration>) {
        self.missed.fetch_add(1, Ordering::Relaxed);
        if let Some(took) = answered {
            self.latency
                .lock()
                .saturating_record(took.as_nanos() as u64);
        }
    }
}

impl Inner {
    pub(super) fn metrics(&self) -> Metrics {
        self.counted(Metrics::new)
    }

    fn counted<T>(&self, use_counts: impl FnOnce(&Counts<'_>) -> T) -> T {
        let stats = self.near.cache.stats();
        let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let figures = &self.figures;
        // The first tiers time one read in so many: each stands for as many.
        let mut latency = figures.latency.lock().clone();
        for value in self.near.cache.latency().iter_recorded() {
            let reads = value.count_at_value() * SAMPLE_EVERY;
            latency.saturating_record_n(value.value_iterated_to(), reads);
        }
        let status = self.upstream.status();
        let transports = status.iter().map(|transport| TransportStatus {
            kind: transport.kind,
            health: transport.health,
            breaker: transport.breaker,
        });
        let transports: Vec<_> = transports.collect();
        let (failovers, failovers_succeeded) = self.upstream.failovers();
        let shm = self.near.reader().and_then(|reader| {
            let stats = reader.stats().ok()?;
            Some(ShmFigures::new(&stats, reader.liveness().heartbeat_age))
        });
        use_counts(&Counts {
            transport: status
                .iter()
                .find(|transport| transport.active)
                .map(|active| active.kind),
            transports: &transports,
            active_connections: status
                .iter()
                .filter(|transport| transport.connected)
                .count() as u64,
            reads_l1: stats.hits.saturating_sub(figure(&figures.rejected_l1)),
            reads_l2: stats.misses.saturating_sub(figure(&figures.rejected_l2)),
            reads_missed: figure(&figures.missed),
            failovers,
            failovers_succeeded,
            shm,
            ..Counts::new(&latency)
        })
    }
}

/// Tells the node from time to time, over whatever connection there is, for as long as there is a client.
pub(super) fn report(client: &Arc<Inner>) {
    let client = Arc::downgrade(client);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(REPORT_EVERY).await;
            let Some(client) = client.upgrade() else {
                return;
            };
            let params = client.counted(|counts| serde_json::to_value(counts.report()));
            let Ok(params) = params else { continue };
            let notification = CustomNotification::new(CLIENT_METRICS, Some(params));
            let notification = ClientNotification::CustomNotification(notification);
            client.upstream.notify(notification).await;
        }
    });
}
