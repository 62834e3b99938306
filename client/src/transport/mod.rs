//! The four ways to a server, behind one enum.
//!
//! | | speaks 2026-07-28 | speaks 2025-11-25 and older | from |
//! |---|---|---|---|
//! | [`Stdio`] | yes | yes | here |
//! | [`Http`] | yes, also its headers (`MCP-Protocol-Version`, `Mcp-Method`, `Mcp-Name`) | yes, also session id, GET stream, Last-Event-ID | rmcp |
//! | [`WebSocket`] | yes | yes | here, frames by yawc |
//! | [`Sse`] | no: the revision that has it is 2024-11-05 | yes | here, events by sse-stream |
//!
//! # Which revision is spoken
//!
//! No transport decides that: it carries messages, and rmcp decides when it starts on one. What to ask it for
//! is [`Transport::lifecycle`], for rmcp's `serve_with_lifecycle`:
//!
//! - `Auto` asks `server/discover` first and then sends every request with the `_meta` keys of 2026-07-28; no
//!   `initialize`, no `ping`, no session. A server that answers with any error but the three that only a server
//!   of 2026-07-28 knows (unsupported version, missing capability, header mismatch), over HTTP also one that
//!   rejects the request with a 4xx other than 401 and 403, is older: rmcp goes on with `initialize` on
//!   the same connection and offers 2025-11-25; the server may choose an older one.
//! - A server that does not answer `server/discover` at all costs rmcp's 10 s until it falls back. MCP asks
//!   servers to answer; for one known to be old, rmcp's plain `serve` sends `initialize` at once.
//! - `Initialize` is what [`Sse`] gets: no server that has this transport speaks the stateless revision, and
//!   the older ones among them drop what comes before `initialize` without an answer.
//!
//! # How a transport ends
//!
//! Every pending request gets `ServiceError::TransportClosed` from rmcp, each later one
//! `ServiceError::TransportSend` with a [`TransportError`] inside. [`Connected::end`] gives the reason. A
//! request of Streamable HTTP has a connection of its own; a failed one fails alone.

mod error;
mod http;
mod link;
mod route;
mod sse;
mod stdio;
mod tls;
mod token;
mod websocket;

use std::{borrow::Cow, future::Future, time::Duration};

use futures_util::future::Either;
use rmcp::{
    RoleClient,
    model::{ClientJsonRpcMessage, ProtocolVersion, ServerJsonRpcMessage},
    service::ClientLifecycleMode,
    transport::{StreamableHttpClientTransport, streamable_http_client::StreamableHttpError},
};

pub use crate::config::Token;
pub use error::TransportError;
pub use http::Http;
pub use link::End;
pub use route::route;
pub use sse::Sse;
pub use stdio::Stdio;
pub use tls::Tls;
pub use websocket::WebSocket;

/// How long a connection may take, unless told otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest message that is read, unless told otherwise: what rmcp's transports read.
const MAX_MESSAGE_BYTES: usize = 16 << 20;

/// A server's address, and how to reach it.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use erlmcp_shm_client::transport::{Transport, WebSocket};
/// use rmcp::service::ClientServiceExt;
///
/// let transport = Transport::from(WebSocket::new("ws://localhost:8080/mcp/ws"));
/// let client = ().serve_with_lifecycle(transport.connect().await?, transport.lifecycle()).await?;
/// println!("{:?}", client.list_all_tools().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transport {
    /// A child process.
    Stdio(Stdio),
    /// Streamable HTTP.
    Http(Http),
    /// A WebSocket.
    WebSocket(WebSocket),
    /// HTTP+SSE.
    Sse(Sse),
}

impl Transport {
    /// Opens the connection, or starts the process. Streamable HTTP has no connection to open: the first
    /// request says whether the server is there.
    ///
    /// # Errors
    ///
    /// A [`TransportError`] that says why there is none.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use erlmcp_shm_client::transport::{Http, Transport};
    /// use rmcp::ServiceExt;
    ///
    /// let connected = Transport::from(Http::new("http://localhost:8080/mcp")).connect().await?;
    /// let client = ().serve(connected).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(&self) -> Result<Connected, TransportError> {
        let end = End::default();
        let inner = match self {
            Self::Stdio(stdio) => Inner::Link(stdio.connect(end.clone())?),
            Self::Http(http) => Inner::Http(Box::new(http.connect()?)),
            Self::WebSocket(websocket) => Inner::Link(websocket.connect(end.clone()).await?),
            Self::Sse(sse) => Inner::Link(sse.connect(end.clone()).await?),
        };
        Ok(Connected { inner, end })
    }

    /// The name used in configuration, logs and metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stdio(_) => "stdio",
            Self::Http(_) => "http",
            Self::WebSocket(_) => "websocket",
            Self::Sse(_) => "sse",
        }
    }

    /// How rmcp is to find out which revision the server speaks.
    ///
    /// ```
    /// use erlmcp_shm_client::transport::{Sse, Transport};
    /// use rmcp::service::ClientLifecycleMode;
    ///
    /// let old = Transport::from(Sse::new("http://localhost:8080/mcp/sse"));
    /// assert_eq!(old.lifecycle(), ClientLifecycleMode::Initialize);
    /// ```
    #[must_use]
    pub fn lifecycle(&self) -> ClientLifecycleMode {
        match self {
            Self::Sse(_) => ClientLifecycleMode::Initialize,
            _ => ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
                legacy_version: Some(ProtocolVersion::V_2025_11_25),
            },
        }
    }
}

impl From<Stdio> for Transport {
    fn from(stdio: Stdio) -> Self {
        Self::Stdio(stdio)
    }
}

impl From<Http> for Transport {
    fn from(http: Http) -> Self {
        Self::Http(http)
    }
}

impl From<WebSocket> for Transport {
    fn from(websocket: WebSocket) -> Self {
        Self::WebSocket(websocket)
    }
}

impl From<Sse> for Transport {
    fn from(sse: Sse) -> Self {
        Self::Sse(sse)
    }
}

/// An open transport: an rmcp client transport, whatever lies below.
pub struct Connected {
    inner: Inner,
    end: End,
}

enum Inner {
    Link(link::Link),
    Http(Box<StreamableHttpClientTransport<reqwest::Client>>),
}

impl Connected {
    /// A handle that tells why this transport ended; take it before rmcp takes the transport.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use erlmcp_shm_client::transport::{Stdio, Transport};
    /// use rmcp::ServiceExt;
    ///
    /// let connected = Transport::from(Stdio::new("my-server")).connect().await?;
    /// let end = connected.end();
    /// let client = ().serve(connected).await?;
    /// println!("it ended: {}", end.wait().await);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn end(&self) -> End {
        self.end.clone()
    }
}

fn streamable_http(error: StreamableHttpError<reqwest::Error>) -> TransportError {
    let other = |error| TransportError::StreamableHttp(Box::new(error));
    match error {
        StreamableHttpError::Client(error) => {
            let other = |error| other(StreamableHttpError::Client(error));
            TransportError::certificate_or(error, other)
        }
        error => other(error),
    }
}

impl rmcp::transport::Transport<RoleClient> for Connected {
    type Error = TransportError;

    fn name() -> Cow<'static, str> {
        "erlmcp-shm".into()
    }

    fn send(
        &mut self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), TransportError>> + Send + 'static {
        match &mut self.inner {
            Inner::Link(link) => Either::Left(link.send(message)),
            Inner::Http(http) => {
                let sending = http.send(message);
                Either::Right(async { sending.await.map_err(streamable_http) })
            }
        }
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        match &mut self.inner {
            Inner::Link(link) => link.receive().await,
            Inner::Http(http) => {
                let message = http.receive().await;
                if message.is_none() {
                    self.end
                        .set(TransportError::PeerClosed("the session is over".into()));
                }
                message
            }
        }
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        match &mut self.inner {
            Inner::Link(link) => link.close().await,
            Inner::Http(http) => {
                self.end.set(TransportError::Closed);
                http.close().await.map_err(streamable_http)?;
            }
        }
        Ok(())
    }
}
