//! Finding live entries in a generation, mapped or read.

use super::{Generation, Source};
use crate::ReadError;
use crate::entry::Entry;
use crate::map::{Found, prefetch};
use erlmcp_shm_layout::{Kind, MAX_KEY, SlotValue, key_hash};
use std::sync::Arc;

/// How many keys of a batch are in flight at a time.
const BATCH: usize = 16;

impl Generation {
    /// The live entry of a key.
    #[inline(always)]
    pub fn lookup<'a>(
        self: &'a Arc<Self>,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<Entry<'a>>, ReadError> {
        let Source::Mapped(mapping) = &self.source else {
            return self.lookup_in_file(kind, key);
        };
        // Asked before the hash is computed: nobody should wait for that of a megabyte.
        if key.len() > MAX_KEY {
            return Ok(None);
        }
        self.live(mapping.find(self.hash(kind, key), kind, key)?)
    }

    /// Apart, so that the code of a mapped lookup stays small.
    #[cold]
    #[inline(never)]
    pub(super) fn lookup_in_file<'a>(
        self: &'a Arc<Self>,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<Entry<'a>>, ReadError> {
        let Source::File(file) = &self.source else {
            return Ok(None);
        };
        if key.len() > MAX_KEY {
            return Ok(None);
        }
        match file.find(self.hash(kind, key), kind, key)? {
            Some((value, record)) if !value.tombstone => {
                Ok(Some(Entry::owned(self, value, record)))
            }
            _ => Ok(None),
        }
    }

    /// The live entries of many keys. Each step is taken for a whole batch before the next one, so that
    /// the misses of one key overlap with those of the others.
    pub fn lookup_many<'a, K: AsRef<[u8]>>(
        self: &'a Arc<Self>,
        keys: &[(Kind, K)],
    ) -> Vec<Result<Option<Entry<'a>>, ReadError>> {
        let Source::Mapped(mapping) = &self.source else {
            let get = |(kind, key): &(Kind, K)| self.lookup(*kind, key.as_ref());
            return keys.iter().map(get).collect();
        };
        let mut found = Vec::with_capacity(keys.len());
        let mut hashes = [0; BATCH];
        let mut candidates = [None; BATCH];
        for batch in keys.chunks(BATCH) {
            for (_, key) in batch {
                prefetch(key.as_ref().as_ptr());
            }
            for (hash, (kind, key)) in hashes.iter_mut().zip(batch) {
                let key = key.as_ref();
                *hash = self.hash(*kind, &key[..key.len().min(MAX_KEY)]);
                mapping.prefetch_slot(*hash);
            }
            for ((candidate, hash), (kind, key)) in candidates.iter_mut().zip(&hashes).zip(batch) {
                *candidate = mapping
                    .candidate(*hash, *kind, key.as_ref())
                    .unwrap_or(None);
                if let Some(value) = candidate {
                    mapping.prefetch_ends(value);
                }
            }
            let answers = candidates.iter().zip(&hashes).zip(batch);
            found.extend(answers.map(|((candidate, hash), (kind, key))| {
                let (hash, kind, key) = (*hash, *kind, key.as_ref());
                let answer = match *candidate {
                    Some(value) => mapping.resolve(value, hash, kind, key),
                    // Absent, or something is wrong: `find` says what.
                    None => mapping.find(hash, kind, key),
                };
                self.live(answer?)
            }));
        }
        found
    }

    /// How often the slot of a key was published; `None` if the key has none.
    pub fn publishes(&self, kind: Kind, key: &[u8]) -> Result<Option<u64>, ReadError> {
        if key.len() > MAX_KEY {
            return Ok(None);
        }
        let hash = self.hash(kind, key);
        match &self.source {
            Source::Mapped(mapping) => mapping.sequence(hash, kind, key),
            Source::File(file) => file.sequence(hash, kind, key),
        }
    }

    /// The hash of a key in this generation.
    #[inline(always)]
    pub(super) fn hash(&self, kind: Kind, key: &[u8]) -> u64 {
        key_hash(self.header.seed, kind, key)
    }

    /// What was found in the mapping, unless that is a tombstone.
    #[inline(always)]
    fn live<'a>(
        self: &'a Arc<Self>,
        found: Option<(SlotValue, Found<'a>)>,
    ) -> Result<Option<Entry<'a>>, ReadError> {
        Ok(match found {
            Some((value, found)) if !value.tombstone => Some(Entry::mapped(self, value, found)),
            _ => None,
        })
    }

    /// The live entry whose slot stands at `position`.
    pub fn entry_at<'a>(
        self: &'a Arc<Self>,
        position: usize,
    ) -> Result<Option<Entry<'a>>, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => self.live(mapping.entry(position)?),
            Source::File(file) => match file.entry(position)? {
                Some((value, record)) if !value.tombstone => {
                    Ok(Some(Entry::owned(self, value, record)))
                }
                _ => Ok(None),
            },
        }
    }
}
