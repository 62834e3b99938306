//! A cache of decoded values that is never stale.
//!
//! Looking an entry up costs two cache misses; parsing the JSON that it holds costs a thousand times
//! as much. [`Cache`] keeps what a function of the caller's made of an entry, and asks shared memory
//! at each use whether the entry is still the same: two relaxed loads. So a publish or a delete is
//! seen by the very next read in every process, and nothing has to be told to expire.
//!
//! **Roles.** Any number of threads read. A miss decodes and inserts; insertions, removals and
//! evictions take turns under one lock.
//!
//! **Fast path.** The table (papaya) is lock-free to read. With each value stand the generation that
//! it was found in, its slot, and the sequence of the slot's latch at that time. Load 1 is the
//! generation's state, by [`Reader::view`]: superseded, and the view is another one. Load 2 is the
//! sequence in that slot of the current view (never through an address that was kept): the same, and
//! nothing was published under the key since.
//!
//! **After a switch** the version decides. A record that was copied keeps its version, so its value is
//! kept too, with the new slot; another store id empties the cache.
//!
//! **Collision path.** Two threads that miss at the same time both decode, and the later insertion
//! stays. It may be the older value: then its stamp is the older one too, the next read finds that it
//! does not stand any more, and decodes again. No order of insertions can make a read stale.
//!
//! **Values from elsewhere** ([`Cache::insert_upstream`]) are known to be current as long as shared
//! memory does not have their key: they remember the change counter, look the key up when it has moved,
//! and yield as soon as it is there. Their time to live bounds them besides. A cache
//! [without a store](Cache::without_store) holds nothing else.
//!
//! # Orderings
//!
//! Load 1 pairs with the writer's mark, load 2 with its publish (W3 of
//! [`latch`](erlmcp_shm_layout::latch)), both as argued there: whatever carried the news that a put had
//! returned orders its stores before these loads. A value and its stamp reach other threads together, by
//! the table's own publish of one node.

mod counters;
mod keep;
mod key;
mod node;
mod options;
mod queues;
mod value;

pub use counters::histogram;
pub use hdrhistogram::Histogram;
pub use options::{CacheOptions, SAMPLE_EVERY};
pub use value::{CacheError, CacheStats, Cached, Tier, Upstream};

use crate::generation::{Generation, patiently};
use crate::{Entry, Reader};
use counters::{Counters, Local};
use erlmcp_shm_layout::Kind;
use key::{Asked, ByHash, Key};
use node::{Node, Origin};
use papaya::HashMap;
use parking_lot::Mutex;
use queues::Queues;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type DecodeError = Box<dyn std::error::Error + Send + Sync>;
type Decode<T> = dyn Fn(&Entry<'_>) -> Result<T, DecodeError> + Send + Sync;
type Weigh<T> = dyn Fn(&Entry<'_>, &T) -> usize + Send + Sync;

/// Bytes that a value costs besides its own: table, node and queue, roughly.
const OVERHEAD: usize = 160;

/// Decoded values of a store's entries, never stale. See the [module](self) for how.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::{Kind, Reader, l1::{Cache, CacheOptions, Tier}};
///
/// let shm = Reader::open(store.path())?;
/// let schemas = Cache::new(&shm, CacheOptions::default(), |entry| {
///     Ok(String::from_utf8(entry.data().to_vec())?)     // a parser, as a rule
/// });
/// let schema = schemas.get(Kind::ToolSchema, "search")?.unwrap();
/// assert_eq!((schema.as_str(), schema.tier()), (r#"{"type":"object"}"#, Tier::L2));
/// let again = schemas.get(Kind::ToolSchema, "search")?.unwrap();
/// assert_eq!((again.version(), again.tier()), (schema.version(), Tier::L1));
/// # Ok::<(), erlmcp_shm_reader::l1::CacheError>(())
/// ```
pub struct Cache<T> {
    reader: Option<Reader>,
    decode: Box<Decode<T>>,
    weigh: Box<Weigh<T>>,
    max_bytes: usize,
    max_entries: usize,
    sample_every: u64,
    /// Of the hashes here; nobody outside can choose keys that collide.
    seed: u64,
    table: HashMap<Key, Node<T>, ByHash>,
    /// Whoever changes the table holds this.
    queues: Mutex<Queues>,
    /// The serial of the generation that was last found to belong to the same store as all before.
    same_store: AtomicU64,
    store_id: Mutex<Option<[u8; 16]>>,
    counters: Counters,
    evictions: AtomicU64,
}

impl<T: Send + Sync + 'static> Cache<T> {
    /// A cache over a store. `decode` makes the value of an entry; it runs on misses, in the thread
    /// that misses.
    pub fn new(
        reader: &Reader,
        options: CacheOptions,
        decode: impl Fn(&Entry<'_>) -> Result<T, DecodeError> + Send + Sync + 'static,
    ) -> Self {
        Self::weighing(reader, options, decode, |entry, _| {
            entry.data().len() + entry.metadata().len()
        })
    }

    /// The same with a function that says how many bytes a value takes; by default it is what the entry
    /// takes in shared memory.
    pub fn weighing(
        reader: &Reader,
        options: CacheOptions,
        decode: impl Fn(&Entry<'_>) -> Result<T, DecodeError> + Send + Sync + 'static,
        weigh: impl Fn(&Entry<'_>, &T) -> usize + Send + Sync + 'static,
    ) -> Self {
        Self::over(
            Some(reader.clone()),
            options,
            Box::new(decode),
            Box::new(weigh),
        )
    }

    /// A cache where there is no store: of values from [upstream](Self::insert_upstream) alone, with the same
    /// bounds.
    ///
    /// ```
    /// use erlmcp_shm_reader::{Kind, l1::{Cache, CacheOptions, Upstream}};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let cache: Cache<String> = Cache::without_store(CacheOptions::default());
    /// let answer = Arc::new(String::from("from the server"));
    /// cache.insert_upstream(Kind::Resource, "dynamic://x", answer, Upstream {
    ///     seen: None, ttl: Duration::from_secs(1), weight: 15, over: 0,
    /// });
    /// assert!(cache.get(Kind::Resource, "dynamic://x")?.is_some());
    /// assert!(cache.get(Kind::Resource, "dynamic://y")?.is_none());
    /// # Ok::<(), erlmcp_shm_reader::l1::CacheError>(())
    /// ```
    pub fn without_store(options: CacheOptions) -> Self {
        let decode = |_: &Entry<'_>| Err("no store has this entry".into());
        Self::over(None, options, Box::new(decode), Box::new(|_, _| 0))
    }

    fn over(
        reader: Option<Reader>,
        options: CacheOptions,
        decode: Box<Decode<T>>,
        weigh: Box<Weigh<T>>,
    ) -> Self {
        Self {
            reader,
            decode,
            weigh,
            max_bytes: options.max_bytes,
            max_entries: options.max_entries,
            sample_every: options.sample_every,
            seed: RandomState::new().hash_one(0u8),
            table: HashMap::with_hasher(ByHash::default()),
            queues: Mutex::default(),
            same_store: AtomicU64::new(0),
            store_id: Mutex::new(None),
            counters: Counters::default(),
            evictions: AtomicU64::new(0),
        }
    }

    /// The value of a key, from here or else from shared memory; `None` if both have none, or the
    /// entry has expired.
    ///
    /// A hit allocates nothing, takes no lock and makes no system call (values that expire, and those
    /// from upstream, look at the clock).
    ///
    /// # Errors
    /// What [`Reader::view`] and [`View::get`](crate::View::get) answer, and what `decode` does. A value
    /// from upstream that has not timed out is served even where shared memory cannot be read.
    #[inline]
    pub fn get(&self, kind: Kind, key: impl AsRef<[u8]>) -> Result<Option<Cached<T>>, CacheError> {
        let asked = Asked::new(self.seed, kind, key.as_ref());
        let local = self.counters.local();
        let started = local.begin(self.sample_every);
        let view = self.reader.as_ref().map(Reader::view);
        let generation = match &view {
            Some(Ok(view)) => Some(view.pinned()),
            _ => None,
        };
        let looked = self.cached(asked, generation);
        if let Looked::Current(value, version) = looked {
            local.hits.count();
            local.end(started);
            return Ok(Some(Cached {
                value,
                version,
                tier: Tier::L1,
            }));
        }
        let answer = match &view {
            Some(Ok(view)) => self.load(asked, view.pinned(), looked, local),
            Some(Err(error)) => Err((*error).into()),
            None => {
                if matches!(looked, Looked::Stale(_)) {
                    local.coherence_misses.count();
                }
                local.absent.count();
                Ok(None)
            }
        };
        // What somebody else has to answer takes as long as that.
        if matches!(answer, Ok(Some(_))) {
            local.end(started);
        }
        answer
    }

    #[inline(always)]
    fn cached(&self, asked: Asked<'_>, generation: Option<&Arc<Generation>>) -> Looked<T> {
        let table = self.table.pin();
        let Some(node) = table.get(&asked) else {
            return Looked::Nothing;
        };
        if node.is_current(generation, asked.kind, asked.key) {
            node.used();
            return Looked::Current(Arc::clone(&node.value), node.version);
        }
        let Origin::Shared { store_id, .. } = node.origin else {
            return Looked::Stale(None);
        };
        Looked::Stale(Some((Arc::clone(&node.value), node.version, store_id)))
    }

    /// Answers from shared memory, and keeps the answer.
    #[cold]
    #[inline(never)]
    fn load(
        &self,
        asked: Asked<'_>,
        generation: &Arc<Generation>,
        looked: Looked<T>,
        local: &Local,
    ) -> Result<Option<Cached<T>>, CacheError> {
        self.empty_if_another_store(generation);
        let known = match looked {
            Looked::Stale(known) => Some(known),
            _ => None,
        };
        let found = patiently(|| generation.lookup_stamped(asked.kind, asked.key))?;
        let Some((stamp, entry)) = found.filter(|(_, entry)| !entry.is_expired()) else {
            if let Some(known) = known {
                local.coherence_misses.count();
                // One from upstream stays, for `stale`, until it has to make room.
                if known.is_some() {
                    self.remove(asked.kind, asked.key);
                }
            }
            local.absent.count();
            return Ok(None);
        };
        let (version, store_id) = (entry.version(), generation.header.store_id);
        // A switch moved the record: the value is the same.
        let kept = known.as_ref().and_then(|known| known.as_ref());
        let kept = kept.filter(|known| (known.1, known.2) == (version, store_id));
        let (value, tier) = match kept {
            Some((value, ..)) => {
                local.hits.count();
                (Arc::clone(value), Tier::L1)
            }
            None => {
                if known.is_some() {
                    local.coherence_misses.count();
                }
                local.misses.count();
                let value = (self.decode)(&entry).map_err(CacheError::Decode)?;
                (Arc::new(value), Tier::L2)
            }
        };
        let origin = Origin::Shared {
            serial: generation.serial,
            stamp,
            store_id,
            expires_at: entry.expires_at().unwrap_or(0),
        };
        let weight = (self.weigh)(&entry, &value);
        self.insert(
            asked,
            Node::new(Arc::clone(&value), version, origin, weight),
        );
        Ok(Some(Cached {
            value,
            version,
            tier,
        }))
    }

    /// Versions of another store say nothing about what is held here.
    fn empty_if_another_store(&self, generation: &Arc<Generation>) {
        // Relaxed: a missed look is made up for under the lock.
        if self.same_store.load(Ordering::Relaxed) == generation.serial {
            return;
        }
        let id = generation.header.store_id;
        let mut store_id = self.store_id.lock();
        if store_id.replace(id).is_some_and(|before| before != id) {
            self.clear();
        }
        self.same_store.store(generation.serial, Ordering::Relaxed);
    }

    /// What the cache did and holds.
    pub fn stats(&self) -> CacheStats {
        let (entries, bytes) = {
            let queues = self.queues.lock();
            (queues.entries(), queues.bytes())
        };
        CacheStats {
            hits: self.counters.sum(|local| &local.hits),
            misses: self.counters.sum(|local| &local.misses),
            absent: self.counters.sum(|local| &local.absent),
            coherence_misses: self.counters.sum(|local| &local.coherence_misses),
            evictions: self.evictions.load(Ordering::Relaxed),
            entries,
            bytes,
        }
    }

    /// How long reads took, in ns, by a sample ([`CacheOptions::sample_every`]). Includes a look at the clock,
    /// some 25 ns.
    pub fn latency(&self) -> Histogram<u64> {
        self.counters.latency()
    }

    /// The reader of the store, if there is one.
    pub fn reader(&self) -> Option<&Reader> {
        self.reader.as_ref()
    }
}

/// What the table has for a key.
enum Looked<T> {
    Nothing,
    /// A value that may be served, and its version.
    Current(Arc<T>, u64),
    /// A value that cannot be served as it is: its version and store, if it came from shared memory.
    Stale(Option<(Arc<T>, u64, [u8; 16])>),
}

impl<T> std::fmt::Debug for Cache<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("reader", &self.reader)
            .field("max_bytes", &self.max_bytes)
            .field("max_entries", &self.max_entries)
            .finish_non_exhaustive()
    }
}
