//! Lookups in a mapping. All safe: what may be called with what is checked here, what a slice is
//! formed from in [`map`](super).

#![deny(unsafe_code)]

use super::{Found, Mapping};
use crate::ReadError;
use crate::generation::RawEntry;
use erlmcp_shm_layout::{HEADER_SIZE, Kind, Probe, RecordShape, SLOT_SIZE, SlotValue};
use std::borrow::Cow;

pub(super) const OUTSIDE: ReadError = ReadError::Corrupt("a slot points outside the log");

/// Whether two keys are equal. Most keys are compared by two pieces that overlap in the middle, in line: a
/// call of `bcmp`, and saving registers around it, is a tenth of a lookup.
#[inline(always)]
fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match a.len() {
        8..=16 => ends_are_same::<8>(a, b),
        17..=32 => ends_are_same::<16>(a, b),
        33..=64 => ends_are_same::<32>(a, b),
        _ => a == b,
    }
}

#[inline(always)]
fn ends_are_same<const N: usize>(a: &[u8], b: &[u8]) -> bool {
    let (first, last) = (a.first_chunk::<N>(), a.last_chunk::<N>());
    (first == b.first_chunk()) & (last == b.last_chunk())
}

impl Mapping {
    /// The slot value and record of a key; a tombstone's too.
    #[inline(always)]
    pub fn find(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(SlotValue, Found<'_>)>, ReadError> {
        match self.candidate(hash, kind, key)? {
            Some(candidate) => self.resolve(candidate, hash, kind, key),
            None => Ok(None),
        }
    }

    /// The first slot value of this hash, kind and key length. Its record is on its way from memory: the
    /// key's line is asked for next, and the data's is fetched together with it, one miss and not two.
    #[inline(always)]
    pub fn candidate(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<SlotValue>, ReadError> {
        // A longer key is in no store.
        let Ok(key_len) = u16::try_from(key.len()) else {
            return Ok(None);
        };
        let Probe::Found(_, value) = self.index().probe(hash, kind, key_len, |_| true)? else {
            return Ok(None);
        };
        self.prefetch(value.record + RecordShape::of(&value).data);
        Ok(Some(value))
    }

    /// The value of the key, by the [`candidate`](Self::candidate) for it. Another key of the same hash is
    /// next to impossible: so what comes after one is kept apart, and nothing of the probe has to be
    /// remembered while keys are compared.
    #[inline(always)]
    pub fn resolve(
        &self,
        value: SlotValue,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(SlotValue, Found<'_>)>, ReadError> {
        let found = self.record(&value).ok_or(OUTSIDE)?;
        if same(found.key(&value), key) {
            return Ok(Some((value, found)));
        }
        match self.find_among_twins(hash, kind, key)? {
            Some(words) => {
                let value = SlotValue::decode(words).ok_or(OUTSIDE)?;
                Ok(Some((value, self.record(&value).ok_or(OUTSIDE)?)))
            }
            None => Ok(None),
        }
    }

    /// [`find`](Self::find) where several keys have this hash.
    #[cold]
    #[inline(never)]
    fn find_among_twins(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<[u64; 3]>, ReadError> {
        let probe = self.index().probe(hash, kind, key.len() as u16, |value| {
            // A record outside the log ends the probe, as an error.
            self.record(value)
                .is_none_or(|found| found.key(value) == key)
        })?;
        Ok(match probe {
            Probe::Found(_, value) => Some(value.encode()),
            Probe::Vacant(_) | Probe::Exhausted => None,
        })
    }

    /// The sequence of the key's slot.
    pub fn sequence(&self, hash: u64, kind: Kind, key: &[u8]) -> Result<Option<u64>, ReadError> {
        let probe = self.index().probe(hash, kind, key.len() as u16, |value| {
            self.record(value)
                .is_some_and(|found| found.key(value) == key)
        })?;
        Ok(match probe {
            Probe::Found(slot, _) => Some(slot.sequence()),
            Probe::Vacant(_) | Probe::Exhausted => None,
        })
    }

    /// What the slot at a position holds: nothing, or a value (perhaps a tombstone) and its record.
    pub fn entry(&self, position: usize) -> Result<Option<(SlotValue, Found<'_>)>, ReadError> {
        let Some((_, value)) = self.slot(position)? else {
            return Ok(None);
        };
        Ok(Some((value, self.record(&value).ok_or(OUTSIDE)?)))
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
            record: self.record(&value).map(|found| Cow::Borrowed(found.record)),
        }))
    }

    /// Starts to fetch the home slot of a hash.
    #[inline(always)]
    pub fn prefetch_slot(&self, hash: u64) {
        let home = hash & (self.header.slot_count - 1);
        self.prefetch(HEADER_SIZE as u64 + home * SLOT_SIZE as u64);
    }

    /// Starts to fetch what else a caller will look at: the key of a candidate, and where its data ends and
    /// its metadata begins.
    #[inline(always)]
    pub fn prefetch_ends(&self, value: &SlotValue) {
        let shape = RecordShape::of(value);
        self.prefetch(value.record + shape.key);
        self.prefetch(value.record + shape.metadata);
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn keys_of_every_length_differ_in_every_byte() {
        let key: Vec<u8> = (0..200).map(|i| i as u8 ^ 0x5a).collect();
        for len in 0..key.len() {
            let mut other = key[..len].to_vec();
            assert!(same(&key[..len], &other));
            assert!(!same(&key[..len], &key[..len + 1]));
            for at in 0..len {
                other[at] ^= 1;
                assert!(!same(&key[..len], &other), "byte {at} of {len}");
                other[at] ^= 1;
            }
        }
    }
}
