//! Transports as the client's ways to its server.

use super::{Http, Sse, Stdio, Transport, WebSocket};
use crate::config::{Endpoint, TransportConfig};
use crate::upstream::{Connect, ConnectError, Listener, Revision, Route, Session};
use futures_util::future::BoxFuture;
use std::time::Duration;

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
        let dial = || async { Ok(Transport::connect(self).await?) };
        Box::pin(async move { revision.negotiate(listener, within, dial).await })
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
