//! Keys of the table: hashed once, by the caller.

use erlmcp_shm_layout::{Kind, key_hash};
use papaya::Equivalent;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

/// A key as it is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    hash: u64,
    pub kind: Kind,
    pub key: &'a [u8],
}

impl<'a> Asked<'a> {
    #[inline(always)]
    pub fn new(seed: u64, kind: Kind, key: &'a [u8]) -> Self {
        let hash = key_hash(seed, kind, key);
        Self { hash, kind, key }
    }

    pub fn to_key(self) -> Key {
        Key {
            hash: self.hash,
            kind: self.kind,
            key: self.key.into(),
        }
    }
}

/// A key as it is kept: in the table and in a queue.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    pub hash: u64,
    pub kind: Kind,
    pub key: Arc<[u8]>,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Key> for Asked<'_> {
    #[inline(always)]
    fn equivalent(&self, key: &Key) -> bool {
        self.hash == key.hash && self.kind == key.kind && *self.key == *key.key
    }
}

/// Hands the hash of a key through.
#[derive(Clone, Default)]
pub struct Through(u64);

impl Hasher for Through {
    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline(always)]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is hashed as one number")
    }
}

pub type ByHash = BuildHasherDefault<Through>;
