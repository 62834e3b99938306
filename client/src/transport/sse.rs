//! A server over HTTP+SSE, the HTTP transport of 2024-11-05: one event stream brings every message, its first
//! event (`endpoint`) says where to POST.
//!
//! A POST is answered 202 and the answer comes as an event; servers that put it into the body of the POST are
//! understood too. A stream that breaks is resumed with Last-Event-ID where the server numbers its events.
//! Where it does not, or where it announces another endpoint afterwards, the session is lost, and with it the
//! answers that were to come: the transport ends, so that nobody waits for them.

mod events;
mod server;
mod session;

use std::time::Duration;

use tokio::time::timeout;

use super::token::bearer;
use super::{
    CONNECT_TIMEOUT, End, MAX_MESSAGE_BYTES, Tls, Token, TransportError,
    http::{client, parse_url},
    link::Link,
};
use server::Server;

/// A server over HTTP+SSE.
///
/// ```
/// use erlmcp_shm_client::transport::{Sse, Transport};
///
/// let server = Sse::new("http://localhost:8080/mcp/sse").token("secret");
/// assert_eq!(Transport::from(server).name(), "sse");
/// ```
#[derive(Clone, Debug)]
pub struct Sse {
    /// Of the event stream, `http://` or `https://`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Token>,
    /// For the connection, the stream's head and its `endpoint` event together.
    pub connect_timeout: Duration,
    /// The largest event and the largest body of an answer that is read.
    pub max_message_bytes: usize,
    /// Whom https trusts.
    pub tls: Tls,
}

impl Sse {
    /// No token, 2 s to connect, the system's certificates.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            connect_timeout: CONNECT_TIMEOUT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            tls: Tls::default(),
        }
    }

    /// Sets the bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    pub(super) async fn connect(&self, end: End) -> Result<Link, TransportError> {
        let url = parse_url(&self.url, &["http", "https"])?;
        let server = Server {
            client: client(&url, &self.tls, self.connect_timeout)?,
            authorization: self.token.as_ref().map(bearer).transpose()?,
            url,
            limit: self.max_message_bytes,
        };
        let late = || TransportError::ConnectTimeout(self.connect_timeout);
        let opening = async {
            let mut events = server.listen(None).await?;
            let endpoint = server.endpoint(&mut events).await?;
            Ok::<_, TransportError>((events, endpoint))
        };
        let (events, endpoint) = timeout(self.connect_timeout, opening)
            .await
            .map_err(|_| late())??;
        Ok(Link::spawn(end, move |wire| {
            session::run(server, events, endpoint, wire)
        }))
    }
}
