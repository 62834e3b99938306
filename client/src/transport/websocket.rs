//! A server over a WebSocket: one message a text frame, in whole or in fragments.
//!
//! With `compression` the client offers permessage-deflate (RFC 7692); a server that declines it is spoken to
//! without. Pings are answered, and sent: a server that vanished leaves a TCP connection that looks alive.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_rustls::TlsConnector;
use yawc::{
    Frame, HttpRequest, OpCode, Options, TcpWebSocket, WebSocket as Yawc, WebSocketError,
    close::CloseCode,
};

use super::token::bearer;
use super::{
    CONNECT_TIMEOUT, End, MAX_MESSAGE_BYTES, Tls, Token, TransportError,
    http::parse_url,
    link::{Link, Wire, parse},
};

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);

/// A server over a WebSocket.
///
/// ```
/// use erlmcp_shm_client::transport::{Transport, WebSocket};
///
/// let server = WebSocket::new("ws://localhost:8080/mcp/ws").token("secret");
/// assert!(server.compression);
/// assert_eq!(Transport::from(server).name(), "websocket");
/// ```
#[derive(Clone, Debug)]
pub struct WebSocket {
    /// `ws://` or `wss://`.
    pub url: String,
    /// Sent with the handshake as `Authorization: Bearer …`.
    pub token: Option<Token>,
    /// Offers permessage-deflate.
    pub compression: bool,
    /// For the TCP connection, TLS and the handshake together.
    pub connect_timeout: Duration,
    /// The largest message that is read, after decompression.
    pub max_message_bytes: usize,
    /// A ping each; a server silent for two of them is given up.
    pub ping_interval: Duration,
    /// Whom wss trusts.
    pub tls: Tls,
}

impl WebSocket {
    /// Compression, no token, 2 s to connect, a ping every 15 s, the system's certificates.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            compression: true,
            connect_timeout: CONNECT_TIMEOUT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            ping_interval: Duration::from_secs(15),
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
        let url = parse_url(&self.url, &["ws", "wss"])?;
        // The library's limits are exclusive.
        let limit = self.max_message_bytes.saturating_add(1);
        let mut options = Options::default()
            .with_limits(limit, limit)
            .with_utf8()
            .with_no_delay();
        if self.compression {
            options = options.with_balanced_compression();
        }
        let mut request = HttpRequest::builder();
        if let Some(token) = &self.token {
            request = request.header("authorization", bearer(token)?);
        }
        let mut connecting = Yawc::connect(url.clone())
            .with_options(options)
            .with_request(request);
        if url.scheme() == "wss" {
            connecting =
                connecting.with_connector(TlsConnector::from(Arc::new(self.tls.config(true)?)));
        }
        let socket = timeout(self.connect_timeout, connecting)
            .await
            .map_err(|_| TransportError::ConnectTimeout(self.connect_timeout))?
            .map_err(|error| failure(error, self.max_message_bytes))?;
        let (limit, ping) = (self.max_message_bytes, self.ping_interval);
        Ok(Link::spawn(end, move |wire| {
            run(Socket(socket), wire, limit, ping)
        }))
    }
}

fn failure(error: WebSocketError, limit: usize) -> TransportError {
    match error {
        WebSocketError::InvalidStatusCode(status) => TransportError::Status(status),
        WebSocketError::FrameTooLarge => TransportError::TooLarge { limit },
        WebSocketError::ConnectionClosed => {
            TransportError::PeerClosed("without a close frame".into())
        }
        WebSocketError::IoError(error) => TransportError::certificate_or(error, TransportError::Io),
        error => TransportError::WebSocket(error),
    }
}

async fn run(
    socket: Socket,
    wire: Wire,
    limit: usize,
    ping: Duration,
) -> Result<(), TransportError> {
    let Wire {
        mut outgoing,
        incoming,
    } = wire;
    let (mut sink, mut stream) = socket.split();
    let heard = AtomicBool::new(true);
    let failed = tokio::select! {
        failed = read(&mut stream, &incoming, &heard, limit) => Some(failed),
        failed = silence(&heard, ping * 2) => Some(failed),
        () = async {
            let mut pings = every(ping);
            loop {
                tokio::select! {
                    out = outgoing.recv() => {
                        let Some(out) = out else { break };
                        let result = write(&mut sink, &out.message, limit).await;
                        out.settle(result);
                    }
                    // A ping that cannot be sent shows as silence.
                    _ = pings.tick() => { let _ = sink.send(Frame::ping("")).await; }
                }
            }
        } => None,
    };
    let _ = timeout(GOODBYE, async {
        if failed.is_none() {
            let _ = sink.send(Frame::close(CloseCode::Normal, "")).await;
        }
        // The library answers the peer's close frame, or takes its answer to ours, while it is read from.
        while let Some(Ok(_)) = stream.next().await {}
        let _ = sink.close().await;
    })
    .await;
    failed.map_or(Ok(()), Err)
}

async fn write(
    sink: &mut (impl Sink<Frame, Error = WebSocketError> + Unpin),
    message: &ClientJsonRpcMessage,
    limit: usize,
) -> Result<(), TransportError> {
    let text = serde_json::to_string(message)?;
    sink.send(Frame::text(text))
        .await
        .map_err(|error| failure(error, limit))
}

async fn read(
    stream: &mut (impl Stream<Item = Result<Frame, WebSocketError>> + Unpin),
    incoming: &mpsc::Sender<ServerJsonRpcMessage>,
    heard: &AtomicBool,
    limit: usize,
) -> TransportError {
    loop {
        let frame = match stream.next().await {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return failure(error, limit),
            None => return failure(WebSocketError::ConnectionClosed, limit),
        };
        // Relaxed: a flag between two futures of one task.
        heard.store(true, Ordering::Relaxed);
        match frame.opcode() {
            OpCode::Text => {
                if let Some(message) = parse("websocket", frame.payload()) {
                    // Fails while rmcp closes the transport: what still comes is dropped.
                    let _ = incoming.send(message).await;
                }
            }
            OpCode::Close => {
                let code = frame.close_code().map_or(1005, u16::from);
                let reason = frame.close_reason().ok().flatten().unwrap_or_default();
                return TransportError::PeerClosed(
                    format!("close code {code} {reason}").trim_end().into(),
                );
            }
            OpCode::Binary => tracing::warn!(transport = "websocket", "skipped a binary frame"),
            _ => {}
        }
    }
}

async fn silence(heard: &AtomicBool, patience: Duration) -> TransportError {
    let mut checks = every(patience);
    loop {
        checks.tick().await;
        if !heard.swap(false, Ordering::Relaxed) {
            return TransportError::Silent(patience);
        }
    }
}

/// Ticks now and then each period.
fn every(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The library's own `Stream` swallows errors; this one says why it ends.
struct Socket(TcpWebSocket);

impl Stream for Socket {
    type Item = Result<Frame, WebSocketError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_frame(cx).map(Some)
    }
}

impl Sink<Frame> for Socket {
    type Error = WebSocketError;

    fn poll_ready(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WebSocketError>> {
        self.0.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Frame) -> Result<(), WebSocketError> {
        self.0.start_send_unpin(frame)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WebSocketError>> {
        self.0.poll_flush_unpin(cx)
    }

    fn poll_close(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WebSocketError>> {
        self.0.poll_close_unpin(cx)
    }
}
