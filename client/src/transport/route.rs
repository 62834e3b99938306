//! Transports as the client's ways to its server.

use super::{Http, Sse, Stdio, Transport, TransportError, WebSocket};
use crate::config::{Endpoint, TransportConfig};
use crate::upstream::{Connect, ConnectError, Listener, Revision, Route, Session};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::time::Duration;
use tokio::time::timeout;

/// For a child that has ended to say how.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Connect for Transport {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Session, ConnectError>> {
        let revision = match self {
            // No server that has this transport speaks the stateless revision.
            Transport::Sse(_) => Revision::Initialize,
            _ => Revision::Auto,
        };
        Box::pin(async move {
            let last = Mutex::new(None);
            let dial = || async {
                let connected = Transport::connect(self).await?;
                *last.lock() = Some(connected.end());
                Ok(connected)
            };
            let negotiated = revision.negotiate(listener, within, dial).await;
            let ended = last.into_inner();
            match (negotiated, ended) {
                // rmcp says that it was closed; why is what helps.
                (Err(error), Some(end)) if matches!(self, Transport::Stdio(_)) => {
                    match timeout(LAST_WORDS, end.wait()).await {
                        Ok(why) if matches!(*why, TransportError::Exited { .. }) => {
                            Err(why.to_string().into())
                        }
                        _ => Err(error),
                    }
                }
                (negotiated, _) => negotiated,
            }
        })
    }
}

/// The way to a server that a configuration describes.
///
/// ```
/// use erlmcp_shm_client::config::{Endpoint, TransportConfig};
/// use erlmcp_shm_client::transport;
/// let url = "http://localhost:8080/mcp".to_owned();
/// let route = transport::route(&TransportConfig::new(Endpoint::Http { url }));
/// assert_eq!(route.priority, 8);
/// ```
#[must_use]
pub fn route(config: &TransportConfig) -> Route {
    let token = config.token.clone();
    let transport = match &config.endpoint {
        Endpoint::Stdio { command, args } => {
            let mut stdio = Stdio::new(command).args(args);
            stdio.quiet = config.quiet;
            if let Some(token) = token {
                let variable = "ERLMCP_TOKEN".to_owned();
                stdio.env.insert(variable, token.expose().to_owned());
            }
            Transport::Stdio(stdio)
        }
        Endpoint::Http { url } => Transport::Http(Http {
            token,
            ..Http::new(url)
        }),
        Endpoint::WebSocket { url, compression } => Transport::WebSocket(WebSocket {
            token,
            compression: *compression,
            ..WebSocket::new(url)
        }),
        Endpoint::Sse { url } => Transport::Sse(Sse {
            token,
            ..Sse::new(url)
        }),
    };
    Route {
        kind: config.endpoint.kind(),
        connect: Box::new(transport),
        priority: config.priority,
    }
}
