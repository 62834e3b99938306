//! A session: what goes out as POSTs, and the stream that is gone on with where it breaks.

use std::time::Duration;

use futures_util::StreamExt;
use rmcp::model::ServerJsonRpcMessage;
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use url::Url;

use super::events::{self, Events};
use super::server::{Server, deliver};
use crate::transport::{TransportError, link::Wire};

/// Attempts to resume a stream before it is given up.
const ATTEMPTS: u32 = 5;
/// The wait between two of them, unless the server names one; the longest it may name.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long POSTs under way may take once the transport is closed.
const GOODBYE: Duration = Duration::from_secs(1);

/// Reads and writes until one of the two ends the session.
pub(super) async fn run(
    server: Server,
    events: Events,
    endpoint: Url,
    wire: Wire,
) -> Result<(), TransportError> {
    let Wire {
        mut outgoing,
        incoming,
    } = wire;
    let mut posts = JoinSet::new();
    let write = async {
        loop {
            tokio::select! {
                out = outgoing.recv() => {
                    let Some(out) = out else { break };
                    let (server, endpoint, incoming) = (server.clone(), endpoint.clone(), incoming.clone());
                    posts.spawn(async move {
                        // The message is sent once its status is there, whenever the body comes.
                        match server.post(endpoint, &out.message).await {
                            Ok(response) => {
                                out.settle(Ok(()));
                                server.read_body(response, &incoming).await
                            }
                            Err(error) => {
                                out.settle(Err(error));
                                Ok(())
                            }
                        }
                    });
                }
                Some(done) = posts.join_next(), if !posts.is_empty() => {
                    // An answer that broke off in a body comes no more, and no event will bring it.
                    if let Ok(Err(error)) = done {
                        return Some(error);
                    }
                }
            }
        }
        let _ = timeout(GOODBYE, async {
            while posts.join_next().await.is_some() {}
        })
        .await;
        None
    };
    tokio::select! {
        failed = read(&server, events, &endpoint, &incoming) => Err(failed),
        failed = write => failed.map_or(Ok(()), Err),
    }
}

async fn read(
    server: &Server,
    mut events: Events,
    endpoint: &Url,
    incoming: &mpsc::Sender<ServerJsonRpcMessage>,
) -> TransportError {
    let mut last_id = None;
    let mut retry = RETRY;
    let mut attempts = 0;
    loop {
        let broken = match events.next().await {
            Some(Ok(event)) => {
                attempts = 0;
                if let Some(ms) = event.retry {
                    retry = Duration::from_millis(ms).min(RETRY_MOST);
                }
                match events::dispatched(&event) {
                    None => {}
                    Some(("message", data)) => deliver(data.as_bytes(), incoming).await,
                    Some(("endpoint", data)) => match server.resolve(data) {
                        Ok(url) if url == *endpoint => {}
                        Ok(_) => {
                            return TransportError::PeerClosed("it began a new session".into());
                        }
                        Err(error) => return error,
                    },
                    Some((other, _)) => {
                        tracing::debug!(event = other, "skipped an event MCP does not know");
                    }
                }
                // An empty id takes back the one before.
                if let Some(id) = event.id {
                    last_id = (!id.is_empty()).then_some(id);
                }
                continue;
            }
            Some(Err(error @ (TransportError::Http(_) | TransportError::EventStream(_)))) => error,
            Some(Err(error)) => return error,
            None => TransportError::PeerClosed("the event stream ended".into()),
        };
        let Some(id) = last_id.as_deref() else {
            return broken;
        };
        tracing::debug!(%broken, id, "the event stream is resumed");
        events = loop {
            attempts += 1;
            if attempts > ATTEMPTS {
                return broken;
            }
            tokio::time::sleep(retry).await;
            match server.listen(Some(id)).await {
                Ok(events) => break events,
                Err(TransportError::Http(error)) => tracing::debug!(%error, "not yet"),
                Err(error) => return error,
            }
        };
    }
}
