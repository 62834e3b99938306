//! Lookups in a mapping whose answer will be kept.

#![deny(unsafe_code)]

use super::lookup::OUTSIDE;
use super::{Found, Mapping};
use crate::ReadError;
use crate::generation::Stamp;
use erlmcp_shm_layout::{Kind, Probe, SlotValue};

impl Mapping {
    /// Like [`find`](Self::find), and says where the key's slot stands and what its sequence was. For
    /// who will keep what was found: a lookup that does not should not have to carry these along.
    #[cold]
    pub fn find_stamped(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(Stamp, SlotValue, Found<'_>)>, ReadError> {
        let Ok(key_len) = u16::try_from(key.len()) else {
            return Ok(None);
        };
        let bears_key = |value: &SlotValue| {
            // A record outside the log ends the probe, and is an error below.
            self.record(value)
                .is_none_or(|found| found.key(value) == key)
        };
        let index = self.index();
        let Probe::Found(slot, _) = index.probe(hash, kind, key_len, bears_key)? else {
            return Ok(None);
        };
        // Once more, for the sequence: a slot belongs to one key for as long as the generation lives.
        let Some((sequence, value)) = slot.load_stamped()? else {
            return Ok(None);
        };
        if (value.kind, value.key_len) != (kind, key_len) || !bears_key(&value) {
            return Err(ReadError::Corrupt("a slot has changed its key"));
        }
        let stamp = Stamp {
            position: index.position(slot),
            sequence,
        };
        Ok(Some((stamp, value, self.record(&value).ok_or(OUTSIDE)?)))
    }

    /// Whether nothing was published under a key since it was found: one relaxed load.
    #[inline(always)]
    pub fn is_unchanged(&self, stamp: Stamp) -> bool {
        self.index().slot(stamp.position).sequence() == stamp.sequence
    }
}
