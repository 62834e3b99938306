//! The third tier: the MCP server, by whichever of its transports is best.
//!
//! Requests go over the active transport. One that fails is followed by the next best, within the
//! request's deadline, if that can do no harm: a request that only reads is asked again, a `tools/call`
//! only where it cannot have reached the server. A transport that comes back gets its place back once two
//! checks in a row were good and its score is clearly the better one. Where shared memory shows that the node was
//! started anew, an open circuit breaker is not waited for.

mod connect;
mod error;
mod link;
mod listen;
mod rebirth;
mod sending;

pub use connect::{Connect, ConnectError, Listener, Notice, Revision, Session};
pub use error::UpstreamError;

use crate::config::TransportKind;
use crate::{BreakerOptions, BreakerState, Health, Permit, best};
use connect::Hear;
use erlmcp_shm_reader::Reader;
use link::Link;
use parking_lot::Mutex;
use rebirth::Rebirth;
use rmcp::model::ClientNotification;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A transport to be given to a client: which it is, how to connect, and its priority.
pub struct Route {
    /// Which it counts as, in metrics and errors.
    pub kind: TransportKind,
    /// How to reach the server.
    pub connect: Box<dyn Connect>,
    /// From 0 to 10, the highest first.
    pub priority: u8,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Route({}, priority {})", self.kind, self.priority)
    }
}

/// How the third tier behaves.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamOptions {
    /// For connecting and negotiating (2 s); three times that for a child process.
    pub connect_timeout: Duration,
    /// Between two looks at the health of transports that were used (30 s).
    pub health_check_interval: Duration,
    /// Of each transport.
    pub breaker: BreakerOptions,
}

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            health_check_interval: Duration::from_secs(30),
            breaker: BreakerOptions::default(),
        }
    }
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// It only reads.
    Harmless,
    /// It does something.
    Never,
}

/// How a transport is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TransportStatus {
    /// Which it is.
    pub kind: TransportKind,
    /// Whether requests go over it now.
    pub active: bool,
    /// Whether there is a connection.
    pub connected: bool,
    /// Its health.
    pub health: Health,
    /// Its circuit breaker.
    pub breaker: BreakerState,
    /// Its score, 0 to 1.
    pub score: f64,
    /// Its latency in ms, averaged.
    pub latency_ms: Option<f64>,
}

pub(crate) struct Upstream {
    links: Vec<Arc<Link>>,
    active: Mutex<Option<usize>>,
    options: UpstreamOptions,
    failovers: AtomicU64,
    failovers_that_worked: AtomicU64,
    subscriptions: watch::Sender<BTreeSet<String>>,
    rebirth: Rebirth,
}

/// A child has this many times `connect_timeout`: its program has to start first, and once more where it answers no
/// `server/discover`. On a busy machine a node alone takes a second or two to do so.
const TO_START: u32 = 3;

impl Upstream {
    /// With the reader of what the node publishes, if there is one.
    pub fn new(
        mut routes: Vec<Route>,
        options: UpstreamOptions,
        hear: Hear,
        reader: Option<Reader>,
    ) -> Arc<Self> {
        routes.sort_by_key(|route| std::cmp::Reverse(route.priority));
        let subscriptions = watch::Sender::new(BTreeSet::new());
        let connected_before = Arc::default();
        let links = routes.into_iter().map(|route| {
            Arc::new(Link::new(
                route.kind,
                route.priority,
                route.connect,
                options.breaker,
                match route.kind {
                    TransportKind::Stdio => options.connect_timeout * TO_START,
                    _ => options.connect_timeout,
                },
                Arc::clone(&hear),
                subscriptions.subscribe(),
                Arc::clone(&connected_before),
            ))
        });
        Arc::new(Self {
            links: links.collect(),
            active: Mutex::new(None),
            options,
            failovers: AtomicU64::new(0),
            failovers_that_worked: AtomicU64::new(0),
            subscriptions,
            rebirth: Rebirth::new(reader),
        })
    }

    /// Leave to send over a transport.
    fn permit<'a>(&self, link: &'a Link, now: Instant) -> Option<Permit<'a>> {
        link.breaker.acquire(now).or_else(|| {
            let again = self.rebirth.is_recent(now);
            again.then(|| link.breaker.acquire_early(now, rebirth::PAUSE))?
        })
    }

    /// Looks at the health of the transports from time to time, for as long as there is an upstream.
    pub fn watch_health(self: &Arc<Self>) {
        let (weak, interval) = (Arc::downgrade(self), self.options.health_check_interval);
        if self.links.is_empty() {
            return;
        }
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let Some(upstream) = weak.upgrade() else {
                    return;
                };
                upstream.check_health().await;
            }
        });
    }

    /// One look at every transport that was ever used, all at the same time; then the choice between them anew.
    pub async fn check_health(&self) {
        let used = self.links.iter().filter(|link| link.was_used());
        let probes = used.map(|link| async {
            if let Err(error) = link.probe(self.options.connect_timeout).await {
                tracing::warn!(transport = %link.kind, error, "a health check failed");
            }
        });
        futures_util::future::join_all(probes).await;
        self.choose();
    }

    /// The transport that requests go over from now on.
    fn choose(&self) -> Option<usize> {
        let candidates: Vec<_> = self.links.iter().map(|link| link.candidate()).collect();
        let mut active = self.active.lock();
        let chosen = best(&candidates, *active);
        if *active != chosen
            && let (Some(from), Some(to)) = (*active, chosen)
        {
            tracing::info!(
                from = %self.links[from].kind,
                to = %self.links[to].kind,
                "another transport"
            );
        }
        *active = chosen;
        chosen
    }

    /// The active transport first, then the others, the best first.
    fn order(&self) -> Vec<usize> {
        let candidates: Vec<_> = self.links.iter().map(|link| link.candidate()).collect();
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| candidates[*b].score.total_cmp(&candidates[*a].score));
        if let Some(active) = self.choose() {
            order.retain(|n| *n != active);
            order.insert(0, active);
        }
        order
    }

    /// Tells the server over the active transport; whether there was one that took it.
    pub async fn notify(&self, notification: ClientNotification) -> bool {
        let active = *self.active.lock();
        match active {
            Some(active) => self.links[active].notify(notification).await,
            None => false,
        }
    }

    /// Subscribes on whatever connections there are and will be; false if it was done before.
    pub fn subscribe(&self, uri: &str) -> bool {
        self.subscriptions
            .send_if_modified(|wanted| wanted.insert(uri.to_owned()))
    }

    pub fn unsubscribe(&self, uri: &str) -> bool {
        self.subscriptions
            .send_if_modified(|wanted| wanted.remove(uri))
    }

    pub fn status(&self) -> Vec<TransportStatus> {
        let active = *self.active.lock();
        let status = self
            .links
            .iter()
            .enumerate()
            .map(|(n, link)| TransportStatus {
                kind: link.kind,
                active: active == Some(n),
                connected: link.is_connected(),
                health: link.health(),
                breaker: link.breaker.state(Instant::now()),
                score: link.candidate().score,
                latency_ms: link.latency_ms(),
            });
        status.collect()
    }

    /// Failovers, and those of them whose request was then answered.
    pub fn failovers(&self) -> (u64, u64) {
        let figure = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (figure(&self.failovers), figure(&self.failovers_that_worked))
    }

    /// Asks every transport, used or not, for a sign of life: its name, and how long it took or why not.
    pub async fn probe_all(&self) -> Vec<(TransportKind, Result<Duration, String>)> {
        let probes = self
            .links
            .iter()
            .map(|link| async { (link.kind, link.probe(self.options.connect_timeout).await) });
        futures_util::future::join_all(probes).await
    }

    pub async fn disconnect(&self) {
        for link in &self.links {
            link.disconnect().await;
        }
    }
}
