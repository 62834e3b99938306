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
mod options;
mod request;

pub use changes::{Change, Changes};
pub use options::{CacheMode, Options};
pub use request::Request;

use crate::ClientError;
use crate::answer::{Answer, Passed, Tier};
use crate::config::{Config, Pattern, TransportKind};
use crate::metrics::Metrics;
use crate::object::{self, Object};
use crate::published::Pulse;
use crate::upstream::{Notice, Route, TransportStatus, Upstream};
use erlmcp_shm_reader::l1::{Cache, CacheError, CacheOptions};
use erlmcp_shm_reader::{Kind, Reader};
use figures::Figures;
use flights::{Flights, What};
use holds::Holds;
use parking_lot::Mutex;
use rmcp::model::{CallToolResult, GetPromptResult, Prompt, ReadResourceResult, Resource, Tool};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// A client of all three tiers. Clones are cheap and share everything.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use erlmcp_shm_client::{HybridClient, Options, Tier};
/// use erlmcp_shm_reader::Reader;
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
    shared: Option<Shared>,
    upstream: Arc<Upstream>,
    options: Options,
    lists: Mutex<HashMap<What, Listed>>,
    flights: Arc<Flights>,
    holds: Holds,
    /// Goes up with every invalidation.
    epoch: AtomicU64,
    changes: broadcast::Sender<Change>,
    figures: Figures,
}

/// The first two tiers.
struct Shared {
    cache: Cache<Object>,
    pulse: Pulse,
}

/// A list from the server.
struct Listed {
    object: Arc<Object>,
    until: Instant,
}

/// What the first two tiers have for a key.
enum Local {
    Found(Arc<Object>, Tier, Option<u64>),
    Nothing,
    Passed(Passed, ClientError),
}

impl HybridClient {
    /// A client of what there is: shared memory, routes to a server, both, or neither.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(reader: Option<Reader>, routes: Vec<Route>, options: Options) -> Self {
        let followed = reader.clone();
        let inner = Arc::new_cyclic(|weak: &Weak<Inner>| {
            let client = weak.clone();
            let hear = Arc::new(move |notice: Notice| {
                if let Some(client) = client.upgrade() {
                    client.heard(notice);
                }
            });
            Inner {
                shared: reader.map(|reader| Shared::new(&reader, &options)),
                upstream: Upstream::new(routes, options.upstream, hear, followed),
                lists: Mutex::default(),
                flights: Arc::default(),
                holds: Holds::default(),
                epoch: AtomicU64::new(0),
                changes: broadcast::Sender::new(1024),
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
                let options = Reader::options().allow_absent(true);
                let options = options.refresh_interval(l2.refresh_interval);
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
    pub async fn read_resource(
        &self,
        uri: &str,
    ) -> Result<Answer<ReadResourceResult>, ClientError> {
        self.request().read_resource(uri).await
    }

    /// A tool with its input schema.
    pub async fn tool_schema(&self, name: &str) -> Result<Answer<Tool>, ClientError> {
        self.request().tool_schema(name).await
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
    /// What is not published is what the server said when the conversation with it began.
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
        if let Some(shared) = &self.inner.shared
            && self.inner.changes.receiver_count() == 1
        {
            let reader = shared.cache.reader().clone();
            let tell = |client: &Inner, count| {
                let _ = client.changes.send(Change::Shared(count));
            };
            if let Err(error) = changes::watch(reader, Arc::downgrade(&self.inner), tell) {
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
        Some(self.inner.shared.as_ref()?.cache.reader())
    }

    /// Ends every connection. Later requests make new ones.
    pub async fn close(&self) {
        self.inner.upstream.disconnect().await;
    }
}

impl Shared {
    fn new(reader: &Reader, options: &Options) -> Self {
        let partition = options.partition.clone();
        let bounds = CacheOptions::default().max_bytes(options.l1_bytes);
        Self {
            cache: Cache::new(reader, bounds, move |entry| {
                object::decode(entry, &partition)
            }),
            pulse: Pulse::of(reader),
        }
    }

    /// How long the writer has been silent, if that is longer than it may be.
    #[inline]
    fn silent(&self, ttl: Duration) -> Option<Duration> {
        self.pulse.silent(self.cache.reader(), ttl)
    }
}

impl Inner {
    /// Asks the first two tiers.
    fn local(&self, kind: Kind, key: &str) -> Local {
        let Some(shared) = &self.shared else {
            return Local::Nothing;
        };
        let silent = shared.silent(self.options.l2_ttl);
        let over = self.holds.over(key);
        match shared.cache.get(kind, key) {
            Ok(None) => Local::Nothing,
            Ok(Some(found)) => {
                let (version, tier) = (found.version(), found.tier());
                let upstream = found.is_upstream();
                let object = found.into_value();
                if matches!(*object, Object::Private) {
                    self.figures.rejected(tier);
                    return Local::Nothing;
                }
                if let Some(silent) = silent.filter(|_| !upstream) {
                    self.figures.rejected(tier);
                    return Local::Passed(Passed::Silent, ClientError::Silent(silent));
                }
                if !upstream && version <= over {
                    self.figures.rejected(tier);
                    let key = key.to_owned();
                    return Local::Passed(Passed::Invalidated, ClientError::NotFound { kind, key });
                }
                let tier = match tier {
                    erlmcp_shm_reader::l1::Tier::L1 => Tier::L1,
                    erlmcp_shm_reader::l1::Tier::L2 => Tier::L2,
                };
                Local::Found(object, tier, (!upstream).then_some(version))
            }
            Err(CacheError::Read(error)) => {
                let why = Passed::Unreadable(error.to_string());
                Local::Passed(why, ClientError::Shared(error))
            }
            Err(error) => {
                let what = error.to_string();
                tracing::warn!(key, %error, "an entry that MCP cannot make anything of");
                Local::Passed(
                    Passed::Unreadable(what.clone()),
                    ClientError::Undecodable(what),
                )
            }
        }
    }

    fn epoch(&self) -> u64 {
        // Acquire, pairs with the Release below: who sees an invalidation sees what it removed gone.
        self.epoch.load(Ordering::Acquire)
    }

    fn heard(&self, notice: Notice) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let cache = self.shared.as_ref().map(|shared| &shared.cache);
        match &notice {
            Notice::ResourceUpdated(uri) => {
                if let Some(cache) = cache {
                    cache.remove(Kind::Resource, uri);
                }
            }
            Notice::ResourcesChanged => {
                let mut lists = self.lists.lock();
                lists.remove(&What::Resources);
                lists.remove(&What::ResourceTemplates);
            }
            Notice::ToolsChanged => drop(self.lists.lock().remove(&What::Tools)),
            Notice::PromptsChanged => {
                self.lists.lock().remove(&What::Prompts);
                if let Some(cache) = cache {
                    cache.remove_where(|kind, _| kind == Kind::Prompt);
                }
            }
            Notice::Gap => {
                self.lists.lock().clear();
                if let Some(cache) = cache {
                    cache.expire_upstream();
                }
            }
        }
        // Again, for what was under way and put in between.
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let _ = self.changes.send(Change::Server(notice));
    }

    /// What a call of this tool invalidates.
    fn invalidated_by(&self, tool: &str) -> Vec<Pattern> {
        self.options.invalidate.by(tool).cloned().collect()
    }

    /// After a call: what it changed leaves the first tier, and shared memory has to show something newer.
    fn invalidate(&self, patterns: &[Pattern], over: u64) {
        if patterns.is_empty() {
            return;
        }
        self.holds.add(patterns, over, self.options.l2_ttl);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        if let Some(shared) = &self.shared {
            let matches = |key: &str| patterns.iter().any(|pattern| pattern.matches(key));
            let unwanted = |key: &[u8]| std::str::from_utf8(key).is_ok_and(matches);
            shared.cache.remove_where(|_, key| unwanted(key));
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
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
