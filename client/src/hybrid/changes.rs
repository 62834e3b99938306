//! News of changes: from shared memory's change counter, and from the server.

use crate::Notice;
use erlmcp_shm_reader::{ReadError, Reader};
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::broadcast;

/// Something has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Something was published in shared memory, up to this count; wake-ups are coalesced.
    Shared(u64),
    /// The server says so.
    Server(Notice),
    /// The receiver was too slow, and this many changes were not kept for it.
    Missed(u64),
}

/// A stream of changes: see [`HybridClient::changes`](super::HybridClient::changes).
#[derive(Debug)]
pub struct Changes(pub(super) broadcast::Receiver<Change>);

impl Changes {
    /// The next change; `None` when the client is gone.
    pub async fn next(&mut self) -> Option<Change> {
        match self.0.recv().await {
            Ok(change) => Some(change),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Change::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Sleeps on the futex in a thread of its own, for as long as anybody could listen.
pub(super) fn watch<T: Send + Sync + 'static>(
    reader: Reader,
    client: Weak<T>,
    tell: impl Fn(&T, u64) + Send + 'static,
) -> std::io::Result<()> {
    const LOOK_UP: Duration = Duration::from_millis(500);
    let watching = move || {
        let mut seen = reader.changes().ok();
        loop {
            let waited = match seen {
                Some(count) => reader.wait_for_change(count, LOOK_UP),
                None => reader.changes().map(Some),
            };
            let Some(client) = client.upgrade() else {
                return;
            };
            match waited {
                Ok(Some(count)) => {
                    tell(&client, count);
                    seen = Some(count);
                }
                Ok(None) => {}
                // There is no store yet, or it cannot be read now.
                Err(ReadError::Contended) => {}
                Err(_) => {
                    drop(client);
                    std::thread::sleep(LOOK_UP);
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("erlmcp-shm-changes".into());
    thread.spawn(watching).map(drop)
}
