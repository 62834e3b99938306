//! Lookups whose answer will be kept: with what tells later whether it still stands.

use super::{Generation, Source};
use crate::ReadError;
use crate::entry::Entry;
use erlmcp_shm_layout::{Kind, MAX_KEY};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a key's slot stands, and what its sequence was when the key was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub position: usize,
    pub sequence: u64,
}

/// A number that no other generation of this process has.
pub(super) fn next_serial() -> u64 {
    static SERIAL: AtomicU64 = AtomicU64::new(1);
    // Relaxed: nothing but its being unique counts.
    SERIAL.fetch_add(1, Ordering::Relaxed)
}

impl Generation {
    /// The live entry of a key with the stamp by which a copy of it is known to be current.
    pub fn lookup_stamped<'a>(
        self: &'a Arc<Self>,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(Stamp, Entry<'a>)>, ReadError> {
        let Source::Mapped(mapping) = &self.source else {
            // No slot is at hand for one load: the version says the same, at a lookup's cost.
            let entry = self.lookup_in_file(kind, key)?;
            let stamp = |entry: &Entry<'_>| Stamp {
                position: 0,
                sequence: entry.version(),
            };
            return Ok(entry.map(|entry| (stamp(&entry), entry)));
        };
        if key.len() > MAX_KEY {
            return Ok(None);
        }
        let found = mapping.find_stamped(self.hash(kind, key), kind, key)?;
        let found = found.filter(|(_, value, _)| !value.tombstone);
        Ok(found.map(|(stamp, value, found)| (stamp, Entry::mapped(self, value, found))))
    }

    /// Whether what [`lookup_stamped`](Self::lookup_stamped) found is still what it would find.
    #[inline(always)]
    pub fn is_unchanged(&self, stamp: Stamp, kind: Kind, key: &[u8]) -> bool {
        match &self.source {
            Source::Mapped(mapping) => mapping.is_unchanged(stamp),
            Source::File(_) => self.has_version(stamp.sequence, kind, key),
        }
    }

    #[cold]
    #[inline(never)]
    fn has_version(&self, version: u64, kind: Kind, key: &[u8]) -> bool {
        let now = self.find_version(self.hash(kind, key), kind, key);
        now == Ok(Some(version))
    }
}
