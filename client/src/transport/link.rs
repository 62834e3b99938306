//! What the transports that are not rmcp's have in common: a task owns the connection, two channels lead to it.
//!
//! The task is the only one that reads or writes, so a `receive` that rmcp drops half-way loses nothing. When
//! it ends, the reason is stored first and the channel for incoming messages closes after it: rmcp sees the end
//! of the transport and answers every pending request with `ServiceError::TransportClosed`, and whoever asks
//! [`End::reason`] then finds the reason there.

use std::{future::Future, sync::Arc};

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId, ServerJsonRpcMessage};
use serde_json::Value;
use tokio::{
    sync::{SetOnce, mpsc, oneshot},
    task::JoinHandle,
};

use super::TransportError;

/// Messages that may wait between rmcp and the connection, each way.
const QUEUE: usize = 64;

/// Tells why a transport ended; stays usable after the transport itself has been handed to rmcp.
///
/// ```
/// use erlmcp_shm_client::transport::End;
///
/// assert!(End::default().reason().is_none(), "it has not ended");
/// ```
#[derive(Clone, Debug, Default)]
pub struct End(Arc<SetOnce<Arc<TransportError>>>);

impl End {
    /// The reason, or nothing while the transport lives. [`TransportError::Closed`] where this side closed it.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<TransportError>> {
        self.0.get().cloned()
    }

    /// Waits for the end and gives its reason.
    ///
    /// ```no_run
    /// # async fn example(connected: erlmcp_shm_client::transport::Connected) {
    /// println!("it ended: {}", connected.end().wait().await);
    /// # }
    /// ```
    pub async fn wait(&self) -> Arc<TransportError> {
        Arc::clone(self.0.wait().await)
    }

    pub(super) fn set(&self, reason: TransportError) {
        // The first reason is the cause, later ones are its consequences.
        let _ = self.0.set(Arc::new(reason));
    }

    /// The error of a send that comes too late.
    async fn too_late(&self) -> TransportError {
        TransportError::Ended(self.wait().await)
    }
}

/// A message on its way out, and who waits for it to be written.
pub(super) struct Outgoing {
    pub message: ClientJsonRpcMessage,
    written: oneshot::Sender<Result<(), TransportError>>,
}

impl Outgoing {
    /// Tells the sender how it went; whether the sender still waits is its own affair.
    pub fn settle(self, result: Result<(), TransportError>) {
        let _ = self.written.send(result);
    }
}

/// The connection's side of the two channels.
pub(super) struct Wire {
    /// Closes when rmcp closes the transport.
    pub outgoing: mpsc::Receiver<Outgoing>,
    pub incoming: mpsc::Sender<ServerJsonRpcMessage>,
}

/// rmcp's side of the two channels.
pub(super) struct Link {
    outgoing: Option<mpsc::Sender<Outgoing>>,
    incoming: mpsc::Receiver<ServerJsonRpcMessage>,
    end: End,
    task: JoinHandle<()>,
}

impl Link {
    /// Runs `connection` in a task of its own. `Ok` from it means that this side closed the transport.
    pub fn spawn<F, C>(end: End, connection: F) -> Self
    where
        F: FnOnce(Wire) -> C,
        C: Future<Output = Result<(), TransportError>> + Send + 'static,
    {
        let (outgoing, outgoing_rx) = mpsc::channel(QUEUE);
        let (incoming_tx, incoming) = mpsc::channel(QUEUE);
        // Held until the reason is stored, so that nobody sees an end without one.
        let open = incoming_tx.clone();
        let connection = connection(Wire {
            outgoing: outgoing_rx,
            incoming: incoming_tx,
        });
        let ended = end.clone();
        let task = tokio::spawn(async move {
            ended.set(connection.await.err().unwrap_or(TransportError::Closed));
            drop(open);
        });
        Self {
            outgoing: Some(outgoing),
            incoming,
            end,
            task,
        }
    }

    pub fn send(
        &self,
        message: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), TransportError>> + Send + 'static {
        let outgoing = self.outgoing.clone();
        let end = self.end.clone();
        async move {
            let (written, done) = oneshot::channel();
            let outgoing = outgoing.ok_or(TransportError::Closed)?;
            if outgoing.send(Outgoing { message, written }).await.is_err() {
                return Err(end.too_late().await);
            }
            match done.await {
                Ok(result) => result,
                Err(_) => Err(end.too_late().await),
            }
        }
    }

    pub async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        self.incoming.recv().await
    }

    /// Lets the connection say goodbye and waits until it has.
    pub async fn close(&mut self) {
        self.outgoing = None;
        // A peer that goes on sending must not keep the task at a full channel.
        self.incoming.close();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Set here: an aborted task stores no reason, and a send under way waits for one.
        self.end.set(TransportError::Closed);
        self.task.abort();
    }
}

/// Reads one message. Nothing for what is none: a log line, a batch, a shape MCP does not know; it is logged
/// and skipped, because a server that prints a line too many still works. A response that cannot be read is
/// turned into an error with its id, for its caller would wait forever otherwise.
pub(super) fn parse(transport: &'static str, text: &[u8]) -> Option<ServerJsonRpcMessage> {
    if text.trim_ascii().is_empty() {
        return None;
    }
    let error = match serde_json::from_slice(text) {
        Ok(message) => return Some(message),
        Err(error) => error,
    };
    let shown = String::from_utf8_lossy(&text[..text.len().min(200)]);
    tracing::warn!(transport, %error, text = %shown, "skipped what is no MCP message");
    let value: Value = serde_json::from_slice(text).ok()?;
    if value.get("method").is_some() {
        return None;
    }
    let id: RequestId = serde_json::from_value(value.get("id")?.clone()).ok()?;
    let error =
        ErrorData::internal_error(format!("the server's answer cannot be read: {error}"), None);
    Some(ServerJsonRpcMessage::error(error, Some(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_skipped() {
        for text in [
            "",
            " \r",
            "starting up...",
            "{\"jsonrpc\":",
            "[1, 2]",
            "42",
            "{\"level\":\"info\"}",
        ] {
            assert!(parse("test", text.as_bytes()).is_none(), "{text}");
        }
    }

    #[test]
    fn an_unreadable_response_answers_its_request() {
        let text = br#"{"jsonrpc":"2.0","id":7,"error":{"code":"not a number"}}"#;
        let Some(ServerJsonRpcMessage::Error(error)) = parse("test", text) else {
            panic!("an error with the id");
        };
        assert_eq!(error.id, Some(RequestId::Number(7)));
    }

    #[tokio::test]
    async fn the_reason_is_there_when_the_end_is_seen() {
        let mut link = Link::spawn(End::default(), |_wire| async {
            Err(TransportError::PeerClosed("enough".into()))
        });
        assert!(link.receive().await.is_none());
        assert!(matches!(
            *link.end.reason().unwrap(),
            TransportError::PeerClosed(_)
        ));
    }
}
