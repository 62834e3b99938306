//! What comes into the table and what goes: insertions, removals and evictions take turns under the lock of
//! the queues.

use super::key::{Asked, Key};
use super::node::{Node, Origin};
use super::queues::{Place, Queues, Standing};
use super::{Cache, Cached, OVERHEAD, Tier, Upstream};
use erlmcp_shm_layout::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

impl<T: Send + Sync + 'static> Cache<T> {
    /// Keeps a value that came from elsewhere, an MCP server say, because shared memory does not have
    /// it. It is served until its time is over or its key appears in shared memory, whichever is first.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// use erlmcp_shm_reader::{Kind, Reader, l1::{Cache, CacheOptions, Upstream}};
    /// use std::{sync::Arc, time::Duration};
    ///
    /// let shm = Reader::open(store.path())?;
    /// let cache: Cache<String> = Cache::new(&shm, CacheOptions::default(), |entry| {
    ///     Ok(String::from_utf8(entry.data().to_vec())?)
    /// });
    /// let seen = shm.changes().ok();                              // first this, then the request
    /// let answer = Arc::new(String::from("from the server"));
    /// cache.insert_upstream(Kind::Resource, "dynamic://x", answer, Upstream {
    ///     seen, ttl: Duration::from_secs(1), weight: 15, over: 0,
    /// });
    /// assert!(cache.get(Kind::Resource, "dynamic://x")?.unwrap().is_upstream());
    /// # Ok::<(), erlmcp_shm_reader::l1::CacheError>(())
    /// ```
    pub fn insert_upstream(
        &self,
        kind: Kind,
        key: impl AsRef<[u8]>,
        value: Arc<T>,
        upstream: Upstream,
    ) {
        self.insert_upstream_if(kind, key, value, upstream, || true);
    }

    /// The same, unless `still` says no. It is asked when nothing can be removed or expired until the value is in:
    /// who notes an invalidation first and removes then leaves no value behind that is older. (It must not use the
    /// cache.)
    pub fn insert_upstream_if(
        &self,
        kind: Kind,
        key: impl AsRef<[u8]>,
        value: Arc<T>,
        upstream: Upstream,
        still: impl FnOnce() -> bool,
    ) {
        let Some(until) = Instant::now().checked_add(upstream.ttl) else {
            return;
        };
        let origin = Origin::Upstream {
            // The counter comes to this after more publishes than there will be.
            seen: AtomicU64::new(upstream.seen.unwrap_or(u64::MAX)),
            until,
            expired: AtomicBool::new(false),
            over: upstream.over,
        };
        let asked = Asked::new(self.seed, kind, key.as_ref());
        let node = Node::new(value, 0, origin, upstream.weight);
        self.insert_if(asked, node, still);
    }

    pub(super) fn insert(&self, asked: Asked<'_>, node: Node<T>) {
        self.insert_if(asked, node, || true);
    }

    fn insert_if(&self, asked: Asked<'_>, mut node: Node<T>, still: impl FnOnce() -> bool) {
        node.weight = node.weight.saturating_add(asked.key.len() + OVERHEAD);
        let mut queues = self.queues.lock();
        if !still() {
            return;
        }
        let table = self.table.pin();
        if let Some(old) = table.remove(&asked) {
            queues.left(old.weight, |place| self.standing(place, 0));
            // It has earned its place.
            (0..old.spend(0)).for_each(|_| node.used());
        }
        if node.weight > self.max_bytes {
            return;
        }
        let key = asked.to_key();
        node.ticket = queues.enter(key.clone(), node.weight);
        table.insert(key, node);
        while queues.bytes() > self.max_bytes || queues.entries() > self.max_entries {
            let Some(key) = queues.evict(|place, uses| self.standing(place, uses)) else {
                break;
            };
            table.remove(&key);
            // Relaxed: a figure.
            self.evictions.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn standing(&self, place: &Place, spend: u8) -> Standing {
        match self.table.pin().get(&place.key) {
            Some(node) if node.ticket == place.ticket => Standing::Used(node.spend(spend)),
            _ => Standing::Gone,
        }
    }

    /// What is held for a key, current or not: for who would rather have an old answer than none, when nothing
    /// else can be reached. Deleted entries are not among it once a read has noticed that they are gone.
    pub fn stale(&self, kind: Kind, key: impl AsRef<[u8]>) -> Option<Cached<T>> {
        let table = self.table.pin();
        let node = table.get(&Asked::new(self.seed, kind, key.as_ref()))?;
        Some(Cached {
            value: Arc::clone(&node.value),
            version: node.version,
            tier: Tier::L1,
        })
    }

    /// Forgets a value.
    pub fn remove(&self, kind: Kind, key: impl AsRef<[u8]>) {
        let asked = Asked::new(self.seed, kind, key.as_ref());
        self.remove_from(&mut self.queues.lock(), asked);
    }

    fn remove_from(&self, queues: &mut Queues, asked: Asked<'_>) {
        if let Some(old) = self.table.pin().remove(&asked) {
            queues.left(old.weight, |place| self.standing(place, 0));
        }
    }

    /// Forgets the values for whose keys `unwanted` says so. (It must not use the cache.)
    pub fn remove_where(&self, unwanted: impl Fn(Kind, &[u8]) -> bool) {
        let mut queues = self.queues.lock();
        let table = self.table.pin();
        let keys: Vec<Key> = table
            .keys()
            .filter(|key| unwanted(key.kind, &key.key))
            .cloned()
            .collect();
        for key in keys {
            self.remove_from(&mut queues, Asked::new(self.seed, key.kind, &key.key));
        }
    }

    /// Has every value that came from upstream expire now. [`stale`](Self::stale) still finds them.
    pub fn expire_upstream(&self) {
        let _queues = self.queues.lock();
        for node in self.table.pin().values() {
            if let Origin::Upstream { expired, .. } = &node.origin {
                // Relaxed: see where it is loaded.
                expired.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Forgets every value.
    pub fn clear(&self) {
        let mut queues = self.queues.lock();
        queues.clear();
        self.table.pin().clear();
    }
}
