//! The three tiers together.
//!
//! **Reads** go to the first tier, which asks shared memory whether its value still stands; then to shared memory;
//! then to the server. A tier that is absent, off, silent or broken is passed over, and the answer says so.
//!
//! **Invalidation.** What comes from shared memory is never stale. What comes from the server is bounded by its own
//! `ttlMs` and by `l1.ttl`, goes when the server says that it changed, and yields to shared memory as soon as its key
//! appears there. An answer that was under way when something was invalidated is given to whoever waits for it, and
//! not kept.
//!
//! **Calls** of tools are never cached. What one invalidates (`[cache.invalidate]`) leaves the first tier, and is read
//! from the server until shared memory shows a newer version than stood there before the call.

mod changes;
mod fetch;
mod figures;
mod flights;
mod holds;
mod invalidation;
mod near;
mod options;
mod request;

pub use changes::{Change, Changes};
pub use options::{CacheMode, Options};
pub use request::Request;

use crate::ClientError;
use crate::answer::Answer;
use crate::config::{Config, TransportKind};
use crate::metrics::Metrics;
use crate::object::Object;
use crate::upstream::{Notice, Route, TransportStatus, Upstream};
use erlmcp_shm_reader::{Kind, Reader};
use figures::Figures;
use flights::{Flights, What};
use holds::Holds;
use near::Near;
use parking_lot::Mutex;
use rmcp::model::{CallToolResult, GetPromptResult, Prompt, ReadResourceResult, Resource, Tool};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// A client of all three tiers. Clones are cheap and share everything.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use erlmcp_shm_client::{HybridClient, Options, Tier};
/// use erlmcp_shm_reader::{Kind, Reader};
///
/// let shm = Reader::options().allow_absent(true).open("/dev/shm/erlmcp_export.bin")?;
/// let client = HybridClient::new(Some(shm), vec![], Options::default());
/// let answer = client.read_resource("file:///hello.txt").await?;
/// println!("{:?} from {:?}", answer.contents, answer.tier());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HybridClient {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    near: Near,
    upstream: Arc<Upstream>,
    options: Options,
    lists: Mutex<HashMap<What, Listed>>,
    flights: Arc<Flights>,
    holds: Holds,
    /// Goes up with every invalidation.
    epoch: AtomicU64,
    changes: broadcast::Sender<Change>,
    /// Whether a thread tells of changes in shared memory. Relaxed: it carries nothing.
    watched: AtomicBool,
    figures: Figures,
}

/// A list from the server.
struct Listed {
    object: Arc<Object>,
    until: Instant,
}

impl HybridClient {
    /// A client of what there is: shared memory, routes to a server, both, or neither.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(reader: Option<Reader>, routes: Vec<Route>, options: Options) -> Self {
        let inner = Arc::new_cyclic(|weak: &Weak<Inner>| {
            let client = weak.clone();
            let hear = Arc::new(move |notice: Notice| {
                if let Some(client) = client.upgrade() {
                    client.heard(notice);
                }
            });
            Inner {
                near: Near::new(reader.as_ref(), &options),
                upstream: Upstream::new(routes, options.upstream, hear, reader),
                lists: Mutex::default(),
                flights: Arc::default(),
                holds: Holds::default(),
                epoch: AtomicU64::new(0),
                changes: broadcast::Sender::new(1024),
                watched: AtomicBool::new(false),
                figures: Figures::default(),
                options,
            }
        });
        inner.upstream.watch_health();
        figures::report(&inner);
        Self { inner }
    }

    /// The client that a configuration describes. A store that is not there yet is waited for; one that cannot be
    /// read, for now or for good, makes no error here, but is passed over by every request.
    ///
    /// # Errors
    /// What opening the store says, unless that may change.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use erlmcp_shm_client::{Config, HybridClient};
    /// let client = HybridClient::from_config(&Config::load("config.toml")?)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_config(config: &Config) -> Result<Self, ClientError> {
        let reader = match &config.l2 {
            None => None,
            Some(l2) => {
                let options = l2.options().allow_absent(true);
                Some(options.open(&l2.path).map_err(ClientError::Shared)?)
            }
        };
        let routes = config.transports.iter().map(crate::transport::route);
        Ok(Self::new(reader, routes.collect(), Options::of(config)))
    }

    /// A request with other than the usual ways: which tiers may answer, and how long it may take.
    pub fn request(&self) -> Request<'_> {
        Request::new(self)
    }

    /// Reads a resource.
    pub fn read_resource(
        &self,
        uri: &str,
    ) -> impl Future<Output = Result<Answer<ReadResourceResult>, ClientError>> + Send {
        self.request().read_resource(uri)
    }

    /// A tool with its input schema.
    pub fn tool_schema(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<Answer<Tool>, ClientError>> + Send {
        self.request().tool_schema(name)
    }

    /// Reads a resource, if this process or shared memory has it: for callers that cannot wait, or do not want to
    /// pay for a future. `None` where only the server could answer.
    ///
    /// ```no_run
    /// # async fn example(client: erlmcp_shm_client::HybridClient) -> Result<(), erlmcp_shm_client::ClientError> {
    /// let answer = match client.try_read_resource("file:///hello.txt") {
    ///     Some(answer) => answer,
    ///     None => client.read_resource("file:///hello.txt").await?,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn try_read_resource(&self, uri: &str) -> Option<Answer<ReadResourceResult>> {
        self.inner.near_answer(Kind::Resource, uri)
    }

    /// A tool with its input schema, in the same way.
    #[inline]
    pub fn try_tool_schema(&self, name: &str) -> Option<Answer<Tool>> {
        let found = self.inner.near_answer(Kind::ToolSchema, name);
        found.or_else(|| self.inner.listed_tool(name))
    }

    /// What the server is able to do, in the same way.
    #[inline]
    pub fn try_capability(&self, name: &str) -> Option<Answer<serde_json::Value>> {
        self.inner.near_answer(Kind::Capability, name)
    }

    /// A prompt with its arguments put in.
    pub async fn get_prompt(
        &self,
        name: &str,
        arguments: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Result<Answer<GetPromptResult>, ClientError> {
        self.request().get_prompt(name, arguments).await
    }

    /// What the server is able to do, by the capability's name; `server_info` and `instructions` are among them.
    /// What is not published, the server has said when the connection was made.
    pub async fn capability(&self, name: &str) -> Result<Answer<serde_json::Value>, ClientError> {
        self.request().capability(name).await
    }

    /// Every resource.
    pub async fn list_resources(&self) -> Result<Answer<Vec<Resource>>, ClientError> {
        self.request().list_resources().await
    }

    /// Every tool.
    pub async fn list_tools(&self) -> Result<Answer<Vec<Tool>>, ClientError> {
        self.request().list_tools().await
    }

    /// Every prompt.
    pub async fn list_prompts(&self) -> Result<Answer<Vec<Prompt>>, ClientError> {
        self.request().list_prompts().await
    }

    /// Calls a tool, and invalidates what is said to be invalidated by that.
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: Option<serde_json::Map<String, serde_json::Value>>,
    ) -> Result<CallToolResult, ClientError> {
        self.request().call_tool(name, arguments).await
    }

    /// Has the server tell when a resource changes; that is in [`changes`](Self::changes), and what the first tier
    /// holds of it goes. Kept over failovers.
    pub fn subscribe(&self, uri: &str) {
        self.inner.upstream.subscribe(uri);
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, uri: &str) {
        self.inner.upstream.unsubscribe(uri);
    }

    /// News of changes from now on, in shared memory and at the server. The first call starts a thread that sleeps
    /// until something is published.
    pub fn changes(&self) -> Changes {
        let receiver = self.inner.changes.subscribe();
        if let Some(reader) = self.reader()
            && !self.inner.watched.swap(true, Ordering::Relaxed)
        {
            let reader = reader.clone();
            let tell = |client: &Inner, count| {
                let _ = client.changes.send(Change::Shared(count));
            };
            if let Err(error) = changes::watch(reader, Arc::downgrade(&self.inner), tell) {
                // The next call may have better luck.
                self.inner.watched.store(false, Ordering::Relaxed);
                tracing::warn!(%error, "no thread to watch shared memory with");
            }
        }
        Changes(receiver)
    }

    /// Has everything that came from the server asked for anew. (What came from shared memory is always fresh.)
    pub fn refresh(&self) {
        self.inner.heard(Notice::Gap);
    }

    /// How each transport is doing, the highest priority first.
    pub fn transports(&self) -> Vec<TransportStatus> {
        self.inner.upstream.status()
    }

    /// Asks every transport for a sign of life: its name, and how long that took or why there was none.
    pub async fn probe(&self) -> Vec<(TransportKind, Result<Duration, String>)> {
        self.inner.upstream.probe_all().await
    }

    /// Looks at the health of every transport that was used, now.
    pub async fn check_health(&self) {
        self.inner.upstream.check_health().await;
    }

    /// What was counted and measured so far.
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }

    /// The reader of shared memory, if there is one.
    pub fn reader(&self) -> Option<&Reader> {
        self.inner.near.reader()
    }

    /// Ends every connection. Later requests make new ones.
    pub async fn close(&self) {
        self.inner.upstream.disconnect().await;
    }
}

impl std::fmt::Debug for HybridClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HybridClient")
            .field("reader", &self.reader())
            .field("transports", &self.transports())
            .finish_non_exhaustive()
    }
}
