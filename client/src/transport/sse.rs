//! A server over HTTP+SSE, the HTTP transport of 2024-11-05: one event stream brings every message, its first
//! event (`endpoint`) says where to POST.
//!
//! A POST is answered 202 and the answer comes as an event; servers that put it into the body of the POST are
//! understood too. A stream that breaks is resumed with Last-Event-ID where the server numbers its events.
//! Where it does not, or where it announces another endpoint afterwards, the session is lost, and with it the
//! answers that were to come: the transport ends, so that nobody waits for them.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use reqwest::{
    Client, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use sse_stream::{Sse as Event, SseStream};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use url::Url;

use super::token::bearer;
use super::{
    CONNECT_TIMEOUT, End, MAX_MESSAGE_BYTES, Tls, Token, TransportError,
    http::{client, parse_url},
    link::{Link, Wire, parse},
};

/// Attempts to resume a stream before it is given up.
const ATTEMPTS: u32 = 5;
/// The wait between two of them, unless the server names one; the longest it may name.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MOST: Duration = Duration::from_secs(5);
/// How long POSTs under way may take once the transport is closed.
const GOODBYE: Duration = Duration::from_secs(1);

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
            run(server, events, endpoint, wire)
        }))
    }
}

type Events = BoxStream<'static, Result<Event, TransportError>>;

#[derive(Clone)]
struct Server {
    client: Client,
    authorization: Option<HeaderValue>,
    url: Url,
    limit: usize,
}

impl Server {
    /// Opens the event stream, or goes on with it after the event `last_id`.
    async fn listen(&self, last_id: Option<&str>) -> Result<Events, TransportError> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = self.send(request).await?;
        if content_type(&response) != "text/event-stream" {
            return Err(TransportError::BadEndpoint(
                "what the address serves is no event stream".into(),
            ));
        }
        Ok(events(response, self.limit))
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, TransportError> {
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let response = request.send().await.map_err(TransportError::Http)?;
        // 204 to a GET means: do not connect again.
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(TransportError::Status(response.status().as_u16()))
        }
    }

    /// Waits for the `endpoint` event.
    async fn endpoint(&self, events: &mut Events) -> Result<Url, TransportError> {
        while let Some(event) = events.next().await {
            let event = event?;
            if event.event.as_deref() == Some("endpoint") {
                return self.resolve(event.data.as_deref().unwrap_or_default());
            }
        }
        Err(TransportError::BadEndpoint(
            "the stream ended before its `endpoint` event".into(),
        ))
    }

    /// The address to POST to. The token goes there, therefore never to another origin.
    fn resolve(&self, endpoint: &str) -> Result<Url, TransportError> {
        let url = self
            .url
            .join(endpoint.trim())
            .map_err(|error| TransportError::BadEndpoint(error.to_string()))?;
        if url.origin() == self.url.origin() {
            Ok(url)
        } else {
            Err(TransportError::BadEndpoint(format!(
                "{url} is another origin"
            )))
        }
    }

    /// Sends one message; an answer in the body goes the way of those that come as events.
    async fn post(
        &self,
        endpoint: Url,
        message: &ClientJsonRpcMessage,
    ) -> Result<Response, TransportError> {
        let body = serde_json::to_vec(message)?;
        let request = self
            .client
            .post(endpoint)
            .header(CONTENT_TYPE, "application/json");
        self.send(
            request
                .header(ACCEPT, "application/json, text/event-stream")
                .body(body),
        )
        .await
    }

    async fn read_body(
        &self,
        mut response: Response,
        incoming: &mpsc::Sender<ServerJsonRpcMessage>,
    ) -> Result<(), TransportError> {
        match content_type(&response).as_str() {
            "application/json" => {
                let mut body = Vec::new();
                while let Some(chunk) = response.chunk().await.map_err(TransportError::Http)? {
                    if body.len() + chunk.len() > self.limit {
                        return Err(TransportError::TooLarge { limit: self.limit });
                    }
                    body.extend_from_slice(&chunk);
                }
                deliver(&body, incoming).await;
            }
            "text/event-stream" => {
                let mut events = events(response, self.limit);
                while let Some(event) = events.next().await {
                    deliver(event?.data.unwrap_or_default().as_bytes(), incoming).await;
                }
            }
            // "Accepted" and the like.
            _ => {}
        }
        Ok(())
    }
}

fn content_type(response: &Response) -> String {
    let value = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase()
}

async fn deliver(text: &[u8], incoming: &mpsc::Sender<ServerJsonRpcMessage>) {
    if let Some(message) = parse("sse", text) {
        // Fails while rmcp closes the transport: what still comes is dropped.
        let _ = incoming.send(message).await;
    }
}

fn events(response: Response, limit: usize) -> Events {
    let mut bound = Bound {
        limit,
        held: 0,
        line_is_empty: true,
        after_cr: false,
    };
    let bytes = response.bytes_stream().map(move |chunk| {
        let chunk = chunk.map_err(TransportError::Http)?;
        bound.check(&chunk)?;
        Ok::<_, TransportError>(chunk)
    });
    SseStream::from_bytes_stream(bytes)
        .map_err(|error| match error {
            sse_stream::Error::Body(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => TransportError::EventStream(sse_stream::Error::Body(error)),
            },
            error => TransportError::EventStream(error),
        })
        .boxed()
}

/// The parser holds an event until the empty line that ends it: this counts what it holds.
struct Bound {
    limit: usize,
    held: usize,
    line_is_empty: bool,
    after_cr: bool,
}

impl Bound {
    fn check(&mut self, bytes: &[u8]) -> Result<(), TransportError> {
        for &byte in bytes {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    if self.line_is_empty {
                        self.held = 0;
                    }
                    self.line_is_empty = true;
                }
                _ => {
                    (self.after_cr, self.line_is_empty) = (false, false);
                    self.held += 1;
                    if self.held > self.limit {
                        return Err(TransportError::TooLarge { limit: self.limit });
                    }
                }
            }
        }
        Ok(())
    }
}

async fn run(
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
                last_id = event.id.or(last_id);
                retry = event
                    .retry
                    .map_or(retry, |ms| Duration::from_millis(ms).min(RETRY_MOST));
                let data = event.data.unwrap_or_default();
                match event.event.as_deref().unwrap_or("message") {
                    "message" => deliver(data.as_bytes(), incoming).await,
                    "endpoint" => match server.resolve(&data) {
                        Ok(url) if url == *endpoint => {}
                        Ok(_) => {
                            return TransportError::PeerClosed("it began a new session".into());
                        }
                        Err(error) => return error,
                    },
                    other => tracing::debug!(event = other, "skipped an event MCP does not know"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_bounded_whatever_ends_its_lines() {
        for newline in ["\n", "\r", "\r\n"] {
            let mut bound = Bound {
                limit: 10,
                held: 0,
                line_is_empty: true,
                after_cr: false,
            };
            let event = format!("data: 1234{newline}{newline}");
            for byte in event.repeat(3).as_bytes() {
                bound.check(&[*byte]).unwrap();
            }
            let long = format!("data: 1{newline}data: 2{newline}{newline}");
            assert!(bound.check(long.as_bytes()).is_err(), "{newline:?}");
        }
    }
}
