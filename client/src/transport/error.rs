use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use rmcp::transport::streamable_http_client::StreamableHttpError;

/// Why a transport could not be opened, could not send, or ended.
///
/// ```
/// use erlmcp_shm_client::transport::TransportError;
///
/// let error = TransportError::ConnectTimeout(std::time::Duration::from_secs(2));
/// assert!(error.to_string().contains("2s"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is malformed or has a scheme the transport does not speak.
    #[error("the address {url:?} cannot be used: {reason}")]
    BadUrl {
        /// The address as configured.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bearer token holds bytes that no HTTP header may carry.
    #[error("the token holds characters that a header cannot carry")]
    BadToken,
    /// The server process could not be started.
    #[error("{command:?} could not be started: {source}")]
    Spawn {
        /// The program.
        command: String,
        /// What the system said.
        source: io::Error,
    },
    /// The server did not take the connection in time.
    #[error("no connection within {0:?}: is the server up? (`connect_timeout`)")]
    ConnectTimeout(Duration),
    /// The server answered with an HTTP status that is no success: 401 asks for a token, 404 says that the
    /// session or the path is unknown.
    #[error("the server answered with HTTP status {0}")]
    Status(u16),
    /// The certificates or the TLS configuration are unusable.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The server's certificate is none of those that are trusted, or not the one of this address.
    #[error(
        "the server's certificate is refused: {0}: trust it with `Tls::with_pem`, if it is the right one"
    )]
    Certificate(rustls::CertificateError),
    /// A WebSocket failed, in its handshake or later.
    #[error("the WebSocket failed: {0}")]
    WebSocket(#[source] yawc::WebSocketError),
    /// An HTTP request failed.
    #[error("the HTTP request failed: {0}")]
    Http(#[source] reqwest::Error),
    /// Streamable HTTP failed.
    #[error("Streamable HTTP failed: {0}")]
    StreamableHttp(#[source] Box<StreamableHttpError<reqwest::Error>>),
    /// The event stream broke or is not one.
    #[error("the event stream failed: {0}")]
    EventStream(#[source] sse_stream::Error),
    /// The event stream began with no `endpoint` event, or with one that leads to another origin.
    #[error("the event stream names no usable endpoint: {0}")]
    BadEndpoint(String),
    /// A message is larger than the limit: it is not read, and the connection ends.
    #[error("a message exceeds the limit of {limit} bytes (`max_message_bytes`)")]
    TooLarge {
        /// The limit that was in force.
        limit: usize,
    },
    /// The server process ended, or closed its output and was ended.
    #[error("the server process is gone: {status}{said}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// What a [`quiet`](super::Stdio::quiet) one wrote on stderr last, behind a colon.
        said: String,
    },
    /// The peer closed the connection.
    #[error("the server closed the connection: {0}")]
    PeerClosed(String),
    /// The peer did not answer a ping.
    #[error("the server did not answer a ping for {0:?}")]
    Silent(Duration),
    /// Reading or writing failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// A message could not be written as JSON.
    #[error("the message cannot be written as JSON: {0}")]
    Encode(#[from] serde_json::Error),
    /// The transport had ended before the message was sent.
    #[error("the transport has ended: {0}")]
    Ended(#[source] Arc<TransportError>),
    /// The transport was closed by this side before the message was sent.
    #[error("the transport is closed")]
    Closed,
}

impl TransportError {
    /// The certificate's fault, if that is at the root of an error; else what is made of it otherwise.
    pub(super) fn certificate_or<E>(error: E, otherwise: impl FnOnce(E) -> Self) -> Self
    where
        E: std::error::Error + 'static,
    {
        let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = next {
            if let Some(rustls::Error::InvalidCertificate(fault)) = error.downcast_ref() {
                return Self::Certificate(fault.clone());
            }
            // What an I/O error was made of is not its source, which is that one's source.
            let made_of = error
                .downcast_ref::<io::Error>()
                .and_then(io::Error::get_ref);
            next = match made_of {
                Some(made_of) => Some(made_of),
                None => error.source(),
            };
        }
        otherwise(error)
    }
}
