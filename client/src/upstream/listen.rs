//! What the server is asked to tell: subscriptions, and the stream of changes.

use super::connect::{Hear, Notice};
use rmcp::RoleClient;
use rmcp::model::{ServerNotification, SubscriptionFilter};
use rmcp::service::Peer;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The resources that changes are wanted of.
pub(super) type Subscriptions = watch::Receiver<BTreeSet<String>>;

/// How long a stream that ended is left alone.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the subscriptions of a connection: each is asked for once on the older revisions, all together in one
/// stream on the stateless one, which is opened anew when there is one more.
#[expect(deprecated, reason = "the older revisions have no other way")]
pub(super) async fn listen(
    peer: Peer<RoleClient>,
    stateless: bool,
    mut subscriptions: Subscriptions,
    hear: Hear,
) {
    let mut asked = BTreeSet::new();
    let mut told = false;
    loop {
        let wanted = subscriptions.borrow_and_update().clone();
        if stateless {
            tokio::select! {
                () = stream(&peer, &wanted, &hear, &mut told) => {
                    // A server without subscriptions, or one that ended the stream: not at once again.
                    tokio::time::sleep(AGAIN).await;
                }
                changed = subscriptions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    // Between this stream and the next one nobody listens.
                    told = true;
                }
            }
        } else {
            for uri in wanted.difference(&asked) {
                let params = rmcp::model::SubscribeRequestParams::new(uri.clone());
                if let Err(error) = peer.subscribe(params).await {
                    tracing::warn!(uri, %error, "cannot subscribe");
                }
            }
            for uri in asked.difference(&wanted) {
                let params = rmcp::model::UnsubscribeRequestParams::new(uri.clone());
                let _ = peer.unsubscribe(params).await;
            }
            asked = wanted;
            if subscriptions.changed().await.is_err() {
                return;
            }
        }
        if peer.is_transport_closed() {
            return;
        }
    }
}

/// One stream. `told`: whether there was one before that told of changes, so that some may have been missed since.
async fn stream(peer: &Peer<RoleClient>, wanted: &BTreeSet<String>, hear: &Hear, told: &mut bool) {
    let filter = SubscriptionFilter::builder()
        .tools_list_changed()
        .prompts_list_changed()
        .resources_list_changed();
    let filter = match wanted.is_empty() {
        true => filter,
        false => filter.resource_subscriptions(wanted.iter().cloned()),
    };
    let mut stream = match peer.listen(filter.build()).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "no stream of changes"),
    };
    if std::mem::take(told) {
        hear(Notice::Gap);
    }
    let opened = Instant::now();
    while let Ok(Some(notification)) = stream.next().await {
        let notice = match notification {
            ServerNotification::ResourceUpdatedNotification(updated) => {
                Notice::ResourceUpdated(updated.params.uri)
            }
            ServerNotification::ResourceListChangedNotification(_) => Notice::ResourcesChanged,
            ServerNotification::ToolListChangedNotification(_) => Notice::ToolsChanged,
            ServerNotification::PromptListChangedNotification(_) => Notice::PromptsChanged,
            _ => continue,
        };
        *told = true;
        hear(notice);
    }
    // One that ends at once, each time, is of a server that tells nobody: nothing is missed by that, and what it says
    // of how long its answers hold is all there is.
    *told |= opened.elapsed() >= AGAIN;
    if *told {
        hear(Notice::Gap);
    }
}
