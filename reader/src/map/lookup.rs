//! Lookups in a mapping. All safe: what may be called with what is checked here, what a slice is
//! formed from in [`map`](super).

#![deny(unsafe_code)]

use super::Mapping;
use crate::ReadError;
use crate::generation::RawEntry;
use erlmcp_shm_layout::{HEADER_SIZE, Kind, Probe, RecordShape, SLOT_SIZE, SlotValue};
use std::borrow::Cow;

impl Mapping {
    /// The slot value and record of a key; a tombstone's too.
    #[inline(always)]
    pub fn find(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(SlotValue, &[u8])>, ReadError> {
        // A longer key is in no store.
        let Ok(key_len) = u16::try_from(key.len()) else {
            return Ok(None);
        };
        let mut found = None;
        let probe = self.index().probe(hash, kind, key_len, |value| {
            let shape = RecordShape::of(value);
            // The key's line and the data's are fetched together: one miss, not two.
            self.prefetch(value.record + shape.data);
            found = self.record(value);
            // A record outside the log ends the probe, as an error.
            found.is_none_or(|record| &record[shape.key as usize..][..key.len()] == key)
        })?;
        match (probe, found) {
            (Probe::Found(_, value), Some(record)) => Ok(Some((value, record))),
            (Probe::Found(..), None) => Err(ReadError::Corrupt("a slot points outside the log")),
            _ => Ok(None),
        }
    }

    /// Hash and value of the slot at a position; `None` if it is empty.
    pub fn slot(&self, position: usize) -> Result<Option<(u64, SlotValue)>, ReadError> {
        let slot = self.index().slot(position);
        Ok(slot.load()?.map(|value| (slot.hash(), value)))
    }

    /// The same with the record that it names.
    pub fn raw_entry(&self, position: usize) -> Result<Option<RawEntry<'_>>, ReadError> {
        let slot = self.slot(position)?;
        Ok(slot.map(|(hash, value)| RawEntry {
            hash,
            value,
            record: self.record(&value).map(Cow::Borrowed),
        }))
    }

    /// Starts to fetch the home slot of a hash.
    #[inline(always)]
    pub fn prefetch_slot(&self, hash: u64) {
        let home = hash & (self.header.slot_count - 1);
        self.prefetch(HEADER_SIZE as u64 + home * SLOT_SIZE as u64);
    }

    /// Starts to fetch key and data of what the slot of this hash names, if that is near its home.
    #[inline(always)]
    pub fn prefetch_record(&self, hash: u64) {
        const NEAR: usize = 4;
        let index = self.index();
        for step in 0..NEAR {
            let slot = index.slot(index.home(hash).wrapping_add(step));
            let found = slot.hash();
            if found == hash
                && let Ok(Some(value)) = slot.load()
            {
                let shape = RecordShape::of(&value);
                self.prefetch(value.record + shape.key);
                self.prefetch(value.record + shape.data);
            }
            if found == hash || found == 0 {
                return;
            }
        }
    }
}
