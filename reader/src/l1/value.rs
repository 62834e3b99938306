//! What a cache answers, and what it tells of itself.

use super::DecodeError;
use crate::ReadError;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

/// Where a value was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In this process.
    L1,
    /// In shared memory.
    L2,
}

/// A value with what is known of it. Dereferences to the value.
#[derive(Clone, Debug)]
pub struct Cached<T> {
    pub(super) value: Arc<T>,
    pub(super) version: u64,
    pub(super) tier: Tier,
}

impl<T> Cached<T> {
    /// The value, to keep.
    pub fn into_value(self) -> Arc<T> {
        self.value
    }

    /// The version of the entry; 0 for a value that came from upstream.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the value came from upstream and not from shared memory.
    pub fn is_upstream(&self) -> bool {
        self.version == 0
    }

    /// Where it was found this time.
    pub fn tier(&self) -> Tier {
        self.tier
    }
}

impl<T> Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Why there is no answer. Absence is not among it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// Shared memory cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The entry is there, and the caller's function could make nothing of it.
    #[error("the entry cannot be decoded: {0}")]
    Decode(#[source] DecodeError),
}

/// A value that did not come from shared memory: see [`Cache::insert_upstream`](super::Cache::insert_upstream).
#[derive(Clone, Copy, Debug)]
pub struct Upstream {
    /// [`Reader::changes`](crate::Reader::changes) from *before* the value was asked for, if shared memory could be read.
    pub seen: Option<u64>,
    /// How long the value may be served at most.
    pub ttl: Duration,
    /// Bytes that it counts for.
    pub weight: usize,
    /// Entries in shared memory up to this version are known to be older; 0 if there was none.
    pub over: u64,
}

/// What a cache did since it was made, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheStats {
    /// Reads answered by a cached value.
    pub hits: u64,
    /// Reads answered by shared memory.
    pub misses: u64,
    /// Reads of keys that are in neither.
    pub absent: u64,
    /// Reads that found a cached value that was not current any more (each is a miss, or absent, as well).
    pub coherence_misses: u64,
    /// Values that had to make room.
    pub evictions: u64,
    /// Values that are held.
    pub entries: usize,
    /// Their weight in bytes.
    pub bytes: usize,
}
