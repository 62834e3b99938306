//! One transport: its connection, its circuit breaker, and what was measured of it.

use super::connect::{Connect, Hear, Listener, Notice, Session};
use crate::config::TransportKind;
use crate::{Breaker, BreakerOptions, Candidate, Checks, Health, Latency, Throughput, score};
use parking_lot::Mutex;
use rmcp::RoleClient;
use rmcp::model::{
    ClientRequest, ProtocolVersion, ServerNotification, ServerPeerInfo, ServerResult,
    SubscriptionFilter,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestHandle, ServiceError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

pub(crate) type Subscriptions = watch::Receiver<BTreeSet<String>>;

/// See the module.
pub(crate) struct Link {
    pub kind: TransportKind,
    pub priority: u8,
    pub breaker: Breaker,
    connect: Box<dyn Connect>,
    connect_timeout: Duration,
    connection: tokio::sync::Mutex<Option<Arc<Connection>>>,
    measured: Mutex<Measured>,
    /// It was wanted at some time: one that never was is left alone by health checks.
    used: AtomicBool,
    hear: Hear,
    subscriptions: Subscriptions,
    /// Whether this or another transport was ever connected: what is said to nobody is missed from then on.
    connected_before: Arc<AtomicBool>,
}

#[derive(Default)]
struct Measured {
    latency: Latency,
    throughput: Throughput,
    checks: Checks,
}

/// Why a request got no result.
pub(crate) enum Failed {
    /// It cannot have reached the server.
    NotSent(String),
    /// The connection was lost, so it may have.
    Lost {
        reason: String,
        /// Whether this is the first request to meet that loss.
        first: bool,
    },
    /// No answer within the time.
    Timeout,
    /// The server answered with an error: the transport is well.
    Refused(rmcp::ErrorData),
}

/// A negotiated connection.
struct Connection {
    peer: Peer<RoleClient>,
    stateless: bool,
    /// Ends the connection when it is dropped.
    _service: Session,
    listening: Option<tokio::task::AbortHandle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(listening) = &self.listening {
            listening.abort();
        }
    }
}

impl Link {
    #[allow(clippy::too_many_arguments, reason = "what it is made of, once")]
    pub fn new(
        kind: TransportKind,
        priority: u8,
        connect: Box<dyn Connect>,
        breaker: BreakerOptions,
        connect_timeout: Duration,
        hear: Hear,
        subscriptions: Subscriptions,
        connected_before: Arc<AtomicBool>,
    ) -> Self {
        Self {
            kind,
            priority,
            breaker: Breaker::new(breaker),
            connect,
            connect_timeout,
            connection: tokio::sync::Mutex::default(),
            measured: Mutex::default(),
            used: AtomicBool::new(false),
            hear,
            subscriptions,
            connected_before,
        }
    }

    pub fn candidate(&self) -> Candidate {
        let now = Instant::now();
        let measured = self.measured.lock();
        let health = measured.checks.health(self.breaker.state(now));
        let (latency, throughput) = (measured.latency.ms(), measured.throughput.per_second(now));
        Candidate {
            health,
            score: score(health, latency, throughput, self.priority),
            good_checks: measured.checks.good(),
        }
    }

    pub fn health(&self) -> Health {
        self.candidate().health
    }

    pub fn latency_ms(&self) -> Option<f64> {
        self.measured.lock().latency.ms()
    }

    /// Whether there is a connection now.
    pub fn is_connected(&self) -> bool {
        let held = self.connection.try_lock();
        held.is_ok_and(|held| {
            held.as_ref()
                .is_some_and(|held| !held.peer.is_transport_closed())
        })
    }

    /// The connection, made if there is none.
    async fn connection(&self, within: Duration) -> Result<Arc<Connection>, String> {
        self.used.store(true, Ordering::Relaxed);
        let within = within.min(self.connect_timeout);
        let connect = async {
            let mut held = self.connection.lock().await;
            if let Some(connection) = &*held
                && !connection.peer.is_transport_closed()
            {
                return Ok(Arc::clone(connection));
            }
            *held = None;
            let listener = Listener {
                hear: Arc::clone(&self.hear),
            };
            let service = self.connect.connect(listener, within).await;
            let service = service.map_err(|error| error.to_string())?;
            let connection = Arc::new(self.begin(service));
            *held = Some(Arc::clone(&connection));
            // Whatever was said between two connections was said to nobody.
            if self.connected_before.swap(true, Ordering::Relaxed) {
                (self.hear)(Notice::Gap);
            }
            Ok(connection)
        };
        match tokio::time::timeout(within, connect).await {
            Ok(result) => result,
            Err(_) => Err(format!("no connection within {within:?}")),
        }
    }

    fn begin(&self, service: Session) -> Connection {
        let peer = service.peer().clone();
        let version = peer.peer_info().map(|info| info.protocol_version.clone());
        let stateless = version.is_some_and(|version| version == ProtocolVersion::V_2026_07_28);
        let listen = listen(
            peer.clone(),
            stateless,
            self.subscriptions.clone(),
            Arc::clone(&self.hear),
        );
        Connection {
            peer,
            stateless,
            _service: service,
            listening: Some(tokio::spawn(listen).abort_handle()),
        }
    }

    /// Sends one request, connecting first where that is needed, and waits for its answer.
    pub async fn request(
        &self,
        request: ClientRequest,
        within: Duration,
    ) -> Result<ServerResult, Failed> {
        let deadline = Instant::now() + within;
        let connection = self.connection(within).await.map_err(Failed::NotSent)?;
        let within = deadline.saturating_duration_since(Instant::now());
        let started = Instant::now();
        self.measured.lock().throughput.begin(started);
        let mut under_way = UnderWay {
            link: self,
            sent: None,
            answered: false,
        };
        let options = PeerRequestOptions::with_timeout(within);
        let sent = connection.peer.send_request_with_option(request, options);
        let handle = match sent.await {
            Ok(handle) => handle,
            // The connection's own task was gone before it took the request.
            Err(error) => return Err(Failed::NotSent(error.to_string())),
        };
        under_way.sent = Some((handle.id.clone(), connection.peer.clone()));
        let result = await_response(handle, within).await;
        under_way.sent = None;
        match result {
            Ok(result) => {
                under_way.answered = true;
                self.measured.lock().latency.record(started.elapsed());
                Ok(result)
            }
            Err(ServiceError::McpError(error)) => {
                under_way.answered = true;
                self.measured.lock().latency.record(started.elapsed());
                Err(Failed::Refused(error))
            }
            Err(ServiceError::Timeout { .. }) => Err(Failed::Timeout),
            Err(error) => Err(Failed::Lost {
                reason: error.to_string(),
                first: self.drop_connection(&connection).await,
            }),
        }
    }

    /// What the server says of itself; on the older revisions, what it said when the conversation began.
    pub async fn server(&self, within: Duration) -> Result<Arc<ServerPeerInfo>, Failed> {
        let connection = self.connection(within).await.map_err(Failed::NotSent)?;
        if connection.stateless
            && let ServerResult::DiscoverResult(result) =
                self.request(probe_request(true), within).await?
        {
            let version = ProtocolVersion::V_2026_07_28;
            return Ok(Arc::new(ServerPeerInfo::from_discover_result(
                version, result,
            )));
        }
        let info = connection.peer.peer_info();
        info.ok_or_else(|| Failed::NotSent("it did not say who it is".to_owned()))
    }

    /// Asks the server for a sign of life, and counts what comes of it.
    pub async fn probe(&self, within: Duration) -> Result<Duration, String> {
        let started = Instant::now();
        let result = match self.connection(within).await {
            Err(error) => Err(error),
            Ok(connection) => {
                let options = PeerRequestOptions::with_timeout(within);
                let request = probe_request(connection.stateless);
                let sent = connection.peer.send_request_with_option(request, options);
                match sent.await {
                    Err(error) => Err(error.to_string()),
                    Ok(handle) => match await_response(handle, within).await {
                        // An error is a sign of life too.
                        Ok(_) | Err(ServiceError::McpError(_)) => Ok(started.elapsed()),
                        Err(error) => Err(error.to_string()),
                    },
                }
            }
        };
        let now = Instant::now();
        let mut measured = self.measured.lock();
        match &result {
            Ok(round_trip) => {
                measured.checks.passed(*round_trip);
                measured.latency.record(*round_trip);
                self.breaker.record_success(now);
            }
            Err(_) => {
                measured.checks.failed();
                self.breaker.record_failure(now);
            }
        }
        result
    }

    pub fn was_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Sends a notification over the connection that there is.
    pub async fn notify(&self, notification: rmcp::model::ClientNotification) -> bool {
        let peer = {
            let held = self.connection.lock().await;
            held.as_ref().map(|connection| connection.peer.clone())
        };
        match peer {
            Some(peer) => peer.send_notification(notification).await.is_ok(),
            None => false,
        }
    }

    /// Lets go of a connection that was lost; whether it was the current one until now.
    async fn drop_connection(&self, lost: &Arc<Connection>) -> bool {
        let mut held = self.connection.lock().await;
        let is_current = held.as_ref().is_some_and(|held| Arc::ptr_eq(held, lost));
        if is_current {
            held.take();
        }
        is_current
    }

    /// Lets go of the connection; the next request makes another.
    pub async fn disconnect(&self) {
        self.connection.lock().await.take();
    }
}

/// rmcp measures a request's time from its own start; this bounds it whatever happens there.
async fn await_response(
    handle: RequestHandle<RoleClient>,
    within: Duration,
) -> Result<ServerResult, ServiceError> {
    match tokio::time::timeout(within, handle.await_response()).await {
        Ok(result) => result,
        Err(_) => Err(ServiceError::Timeout { timeout: within }),
    }
}

fn probe_request(stateless: bool) -> ClientRequest {
    use rmcp::model::{DiscoverRequest, DiscoverRequestParams, PingRequest};
    match stateless {
        true => ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {})),
        false => ClientRequest::PingRequest(PingRequest::default()),
    }
}

/// A request that is under way. One whose caller goes away is cancelled at the server.
struct UnderWay<'a> {
    link: &'a Link,
    sent: Option<(rmcp::model::RequestId, Peer<RoleClient>)>,
    answered: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let throughput = &mut self.link.measured.lock().throughput;
        match self.answered {
            true => throughput.end(now),
            false => throughput.abandon(now),
        }
        if let Some((id, peer)) = self.sent.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let reason = Some("no longer wanted".to_owned());
                let params = rmcp::model::CancelledNotificationParam::new(Some(id), reason);
                let _ = peer.notify_cancelled(params).await;
            });
        }
    }
}

/// Keeps the subscriptions of a connection: each is asked for once on the older revisions, all together in one
/// stream on the stateless one, which is opened anew when there is one more.
#[expect(deprecated, reason = "the older revisions have no other way")]
async fn listen(
    peer: Peer<RoleClient>,
    stateless: bool,
    mut subscriptions: Subscriptions,
    hear: Hear,
) {
    let mut asked = BTreeSet::new();
    let mut listened = false;
    loop {
        let wanted = subscriptions.borrow_and_update().clone();
        if stateless {
            let stream = stream(&peer, &wanted, &hear, listened);
            listened = true;
            tokio::select! {
                () = stream => {
                    // A server without subscriptions, or one that ended the stream: not at once again.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                changed = subscriptions.changed() => if changed.is_err() { return },
            }
        } else {
            for uri in wanted.difference(&asked) {
                let params = rmcp::model::SubscribeRequestParams::new(uri.clone());
                if let Err(error) = peer.subscribe(params).await {
                    tracing::warn!(uri, %error, "cannot subscribe");
                }
            }
            for uri in asked.difference(&wanted) {
                let params = rmcp::model::UnsubscribeRequestParams::new(uri.clone());
                let _ = peer.unsubscribe(params).await;
            }
            asked = wanted;
            if subscriptions.changed().await.is_err() {
                return;
            }
        }
        if peer.is_transport_closed() {
            return;
        }
    }
}

/// One that is not the connection's first follows a time in which nobody listened.
async fn stream(
    peer: &Peer<RoleClient>,
    wanted: &BTreeSet<String>,
    hear: &Hear,
    follows_another: bool,
) {
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed();
    let filter = match wanted.is_empty() {
        true => filter,
        false => filter.resource_subscriptions(wanted.iter().cloned()),
    };
    let mut stream = match peer.listen(filter.build()).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "no stream of changes"),
    };
    if follows_another {
        hear(Notice::Gap);
    }
    while let Ok(Some(notification)) = stream.next().await {
        hear(match notification {
            ServerNotification::ResourceUpdatedNotification(updated) => {
                Notice::ResourceUpdated(updated.params.uri)
            }
            ServerNotification::ResourceListChangedNotification(_) => Notice::ResourcesChanged,
            ServerNotification::ToolListChangedNotification(_) => Notice::ToolsChanged,
            ServerNotification::PromptListChangedNotification(_) => Notice::PromptsChanged,
            _ => continue,
        });
    }
    hear(Notice::Gap);
}
