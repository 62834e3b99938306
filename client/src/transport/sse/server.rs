//! What is asked of the server: its stream, and POSTs.

use futures_util::StreamExt;
use reqwest::{
    Client, RequestBuilder, Response,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use tokio::sync::mpsc;
use url::Url;

use super::events::{self, Events};
use crate::transport::{TransportError, link::parse};

/// The server, as requests see it.
#[derive(Clone)]
pub(super) struct Server {
    pub client: Client,
    pub authorization: Option<HeaderValue>,
    /// Of the event stream.
    pub url: Url,
    pub limit: usize,
}

impl Server {
    /// Opens the event stream, or goes on with it after the event `last_id`.
    pub async fn listen(&self, last_id: Option<&str>) -> Result<Events, TransportError> {
        let mut request = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "text/event-stream");
        if let Some(id) = last_id {
            // As bytes: an id may be any text, and goes back as it came.
            request = request.header("last-event-id", id.as_bytes());
        }
        let response = self.send(request).await?;
        if content_type(&response) != "text/event-stream" {
            return Err(TransportError::BadEndpoint(
                "what the address serves is no event stream".into(),
            ));
        }
        Ok(events::of(response, self.limit))
    }

    async fn send(&self, mut request: RequestBuilder) -> Result<Response, TransportError> {
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value.clone());
        }
        let sent = request.send().await;
        let response =
            sent.map_err(|error| TransportError::certificate_or(error, TransportError::Http))?;
        // 204 to a GET means: do not connect again.
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(TransportError::Status(response.status().as_u16()))
        }
    }

    /// Waits for the `endpoint` event.
    pub async fn endpoint(&self, events: &mut Events) -> Result<Url, TransportError> {
        while let Some(event) = events.next().await {
            if let Some(("endpoint", data)) = events::dispatched(&event?) {
                return self.resolve(data);
            }
        }
        Err(TransportError::BadEndpoint(
            "the stream ended before its `endpoint` event".into(),
        ))
    }

    /// The address to POST to. The token goes there, therefore never to another origin.
    pub fn resolve(&self, endpoint: &str) -> Result<Url, TransportError> {
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
    pub async fn post(
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

    pub async fn read_body(
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
                let mut events = events::of(response, self.limit);
                while let Some(event) = events.next().await {
                    if let Some((_, data)) = events::dispatched(&event?) {
                        deliver(data.as_bytes(), incoming).await;
                    }
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

pub(super) async fn deliver(text: &[u8], incoming: &mpsc::Sender<ServerJsonRpcMessage>) {
    if let Some(message) = parse("sse", text) {
        // Fails while rmcp closes the transport: what still comes is dropped.
        let _ = incoming.send(message).await;
    }
}
