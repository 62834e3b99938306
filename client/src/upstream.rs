//! The third tier: the MCP server, by whichever of its transports is best.
//!
//! Requests go over the active transport. One that fails is followed by the next best, within the
//! request's deadline, if that can do no harm: a request that only reads is asked again, a `tools/call`
//! only where it cannot have reached the server. A transport that comes back gets its place back once two
//! checks in a row were good and its score is clearly the better one. Where shared memory shows that the node was
//! started anew, an open circuit breaker is not waited for.

mod connect;
mod link;
mod listen;
mod rebirth;

pub use connect::{Connect, ConnectError, Listener, Notice, Revision, Session};

use crate::config::TransportKind;
use crate::object::Json;
use crate::{BreakerOptions, BreakerState, Health, Permit, best};
use connect::Hear;
use erlmcp_shm_reader::Reader;
use link::{Failed, Link};
use parking_lot::Mutex;
use rebirth::Rebirth;
use rmcp::model::{ClientNotification, ClientRequest, ServerResult};
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
    /// For connecting and negotiating (2 s).
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

/// Why the server gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// There is no transport at all.
    #[error("no transport to a server is configured: give one a url or a command")]
    NoTransport,
    /// Every transport failed: each with its reason, in the order in which they were tried.
    #[error("no transport works: {}", list(.0))]
    Unavailable(Vec<(String, String)>),
    /// The server answered with an error of the protocol.
    #[error("the server refused: {0}")]
    Refused(rmcp::ErrorData),
    /// The deadline passed.
    #[error("no answer within {0:?}: give the request more time, or look at the server")]
    Timeout(Duration),
    /// The transport was lost when the request was on its way. It may have been carried out, so it was not
    /// sent again.
    #[error(
        "{transport} was lost while the call was under way, which may have been carried out: {reason}"
    )]
    Lost {
        /// The transport's name.
        transport: String,
        /// What it said.
        reason: String,
    },
    /// An answer of the wrong kind.
    #[error("the server answered {0} with something else")]
    Unexpected(&'static str),
}

fn list(failures: &[(String, String)]) -> String {
    let each = failures
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}"));
    each.collect::<Vec<_>>().join("; ")
}

/// How often a request goes through all transports, where connections are lost again and again.
const MAX_ROUNDS: usize = 3;

const BREAKER_OPEN: &str = "its circuit breaker is open";

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
                options.connect_timeout,
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

    /// Sends a request over the best transport that takes it.
    pub async fn request(
        &self,
        request: ClientRequest,
        repeat: Repeat,
        within: Duration,
    ) -> Result<ServerResult, UpstreamError> {
        if self.links.is_empty() {
            return Err(UpstreamError::NoTransport);
        }
        let deadline = Instant::now() + within;
        let mut failures = Vec::new();
        let (mut timed_out, mut lost_one) = (false, false);
        let mut rounds = 0;
        let mut order = self.order();
        let mut tried = 0;
        loop {
            if tried == order.len() {
                // A connection that was lost can be made again: once more from the start, if one was.
                rounds += 1;
                if !std::mem::take(&mut lost_one) || rounds == MAX_ROUNDS {
                    break;
                }
                (order, tried) = (self.order(), 0);
            }
            let n = order[tried];
            tried += 1;
            let link = &self.links[n];
            let Some(permit) = self.permit(link, Instant::now()) else {
                failures.push((link.kind.to_string(), BREAKER_OPEN.to_owned()));
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // One that does not answer must leave time for the next.
            let is_last = tried == order.len() || repeat == Repeat::Never;
            let share = if is_last { left } else { left / 2 };
            let failed_over = !failures.is_empty();
            if failed_over {
                self.failovers.fetch_add(1, Ordering::Relaxed);
            }
            match link.request(request.clone(), share).await {
                Ok(result) => {
                    permit.success(Instant::now());
                    if failed_over {
                        self.failovers_that_worked.fetch_add(1, Ordering::Relaxed);
                        *self.active.lock() = Some(n);
                    }
                    return Ok(result);
                }
                Err(Failed::Refused(error)) => {
                    permit.success(Instant::now());
                    return Err(UpstreamError::Refused(error));
                }
                Err(Failed::NotSent(reason)) => {
                    permit.failure(Instant::now());
                    failures.push((link.kind.to_string(), reason));
                }
                Err(Failed::Lost { reason, first }) => {
                    // However many requests were under way, one connection was lost.
                    if first {
                        permit.failure(Instant::now());
                    }
                    lost_one = true;
                    if repeat == Repeat::Never {
                        let transport = link.kind.to_string();
                        return Err(UpstreamError::Lost { transport, reason });
                    }
                    failures.push((link.kind.to_string(), reason));
                }
                Err(Failed::Timeout) => {
                    permit.failure(Instant::now());
                    if repeat == Repeat::Never {
                        return Err(UpstreamError::Timeout(within));
                    }
                    timed_out = true;
                    failures.push((link.kind.to_string(), format!("no answer within {share:?}")));
                }
            }
        }
        if timed_out && deadline <= Instant::now() {
            return Err(UpstreamError::Timeout(within));
        }
        Err(UpstreamError::Unavailable(failures))
    }

    /// What the server says of itself, over the best transport that connects.
    pub async fn about(&self, within: Duration) -> Result<Json, UpstreamError> {
        if self.links.is_empty() {
            return Err(UpstreamError::NoTransport);
        }
        let deadline = Instant::now() + within;
        let mut failures = Vec::new();
        for n in self.order() {
            let link = &self.links[n];
            let Some(permit) = self.permit(link, Instant::now()) else {
                failures.push((link.kind.to_string(), BREAKER_OPEN.to_owned()));
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match link.about(left).await {
                Ok(about) => {
                    permit.success(Instant::now());
                    return Ok(about);
                }
                Err(reason) => {
                    permit.failure(Instant::now());
                    failures.push((link.kind.to_string(), reason));
                }
            }
        }
        Err(UpstreamError::Unavailable(failures))
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
