//! The slot index: open addressing over 64-byte slots, one cache line each.
//!
//! ```text
//!  word   0         1       2        3         4         5        6         7
//!       +---------+-------+--------+---------+---------+--------+---------+---------+
//!       | sequence| hash  | place  | lengths | version | place  | lengths | version |
//!       +---------+-------+--------+---------+---------+--------+---------+---------+
//!                         |<------ half 0 (even) ----->|<------ half 1 (odd) ------>|
//!
//!  place     bits 0-15 key length | 16-18 kind | 19 tombstone | 20-63 record offset / 8
//!  lengths   bits 0-31 data length | 32-63 metadata length
//! ```
//!
//! Sequence and halves are a [`Latch`]. A place of 0 means "never published". The hash is stored
//! once, before the slot's first publish, and stays for the life of the generation; a deleted key
//! keeps its slot, with the tombstone bit set. So the first slot whose hash is 0 ends every probe,
//! and a probe longer than [`MAX_PROBE`] does not occur: rather than make one, the writer starts a
//! generation with another seed.
//!
//! # Orderings
//!
//! The hash is stored Relaxed and loaded Relaxed. A reader that misses a hash just being stored
//! misses an entry whose put has not returned; a reader that sees it goes through the latch, whose
//! place is 0 until the put's one Release store. A put that *returned* before the reader's lookup
//! began is ordered before it by whatever carried that news.

use crate::sync::{AtomicU64, Ordering};
use crate::{Kind, Latch};

/// Bytes of one slot: a cache line.
pub const SLOT_SIZE: usize = 64;
/// Words of one slot.
pub const SLOT_WORDS: usize = SLOT_SIZE / 8;
/// The longest probe a lookup makes.
pub const MAX_PROBE: usize = 256;
/// Record offsets are stored in 44 bits as multiples of 8, so a file ends below this.
pub const MAX_FILE_SIZE: u64 = 1 << 47;

/// What a slot says of its entry: all that a lookup needs to fetch key and value at once.
///
/// ```
/// use erlmcp_shm_layout::{Kind, SlotValue};
/// let v = SlotValue { record: 4096, kind: Kind::Prompt, tombstone: false,
///     key_len: 3, data_len: 10, metadata_len: 2, version: 9 };
/// assert_eq!(SlotValue::decode(v.encode()), Some(v));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotValue {
    /// Offset of the record's header in the file, a multiple of 8.
    pub record: u64,
    /// The name space of the key.
    pub kind: Kind,
    /// The key was deleted; the record is the tombstone.
    pub tombstone: bool,
    /// Bytes of the key.
    pub key_len: u16,
    /// Bytes of the data.
    pub data_len: u32,
    /// Bytes of the metadata.
    pub metadata_len: u32,
    /// Version of the entry, unique in the store.
    pub version: u64,
}

impl SlotValue {
    /// The three words of a half.
    #[inline]
    pub const fn encode(&self) -> [u64; 3] {
        let place = (self.record >> 3) << 20
            | (self.tombstone as u64) << 19
            | (self.kind as u64) << 16
            | self.key_len as u64;
        let lengths = (self.metadata_len as u64) << 32 | self.data_len as u64;
        [place, lengths, self.version]
    }

    /// What the words of a half say; `None` for an unpublished slot and for words no writer stores.
    #[inline(always)]
    pub const fn decode([place, lengths, version]: [u64; 3]) -> Option<Self> {
        match Kind::from_u8((place >> 16) as u8 & 7) {
            Some(kind) => {
                let words = [place, lengths, version];
                Some(Self::from_words(words, kind, place as u16))
            }
            None => None,
        }
    }

    /// The words of a half whose kind and key length are known. (Taken from what is known and not from
    /// the words, they do not have to be waited for.)
    #[inline(always)]
    const fn from_words([place, lengths, version]: [u64; 3], kind: Kind, key_len: u16) -> Self {
        Self {
            record: place >> 20 << 3,
            kind,
            tombstone: place & (1 << 19) != 0,
            key_len,
            data_len: lengths as u32,
            metadata_len: (lengths >> 32) as u32,
            version,
        }
    }
}

/// One slot of the index.
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a>(&'a [AtomicU64; SLOT_WORDS]);

impl<'a> Slot<'a> {
    #[inline(always)]
    fn latch(&self) -> Latch<'a, 3> {
        Latch::new(&self.0[0], &self.0[2..])
    }

    /// The key's hash, 0 in a slot that was never used.
    #[inline(always)]
    pub fn hash(&self) -> u64 {
        self.0[1].load(Ordering::Relaxed)
    }

    /// The current value if it is of this kind and key length.
    #[inline(always)]
    fn load_if(&self, kind: Kind, key_len: u16) -> Result<Option<SlotValue>, Contended> {
        let words = self.latch().load().ok_or(Contended)?;
        // Kind and key length are the low 19 bits: one comparison for both, and no decoding before it.
        let tag = (kind as u64) << 16 | key_len as u64;
        let same = words[0] & ((1 << 19) - 1) == tag;
        Ok(same.then(|| SlotValue::from_words(words, kind, key_len)))
    }

    /// The current value; `Ok(None)` where none was published.
    #[inline(always)]
    pub fn load(&self) -> Result<Option<SlotValue>, Contended> {
        match self.latch().load() {
            Some(words) => Ok(SlotValue::decode(words)),
            None => Err(Contended),
        }
    }

    /// The current value with the sequence that names it; `Ok(None)` where none was published.
    #[inline]
    pub fn load_stamped(&self) -> Result<Option<(u64, SlotValue)>, Contended> {
        match self.latch().load_stamped() {
            Some((sequence, words)) => Ok(SlotValue::decode(words).map(|value| (sequence, value))),
            None => Err(Contended),
        }
    }

    /// Moves with every publish of this slot's key; see [`Latch::sequence`].
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.latch().sequence()
    }

    /// Publishes a value under its key's hash. Writer only.
    #[inline]
    pub fn publish(&self, hash: u64, value: &SlotValue) {
        // Relaxed, and before the latch's Release store: whoever sees the value sees the hash.
        self.0[1].store(hash, Ordering::Relaxed);
        self.latch().store(value.encode());
    }
}

/// The writer published again during each of a lookup's tries.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::Contended.to_string(),
///     "the entry changed during each of 64 tries to read it: try again");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the entry changed during each of 64 tries to read it: try again")]
pub struct Contended;

/// Where a probe ended.
#[derive(Clone, Copy, Debug)]
pub enum Probe<'a> {
    /// The key has a slot, and this is its current value (which may be a tombstone).
    Found(Slot<'a>, SlotValue),
    /// The key has none; this is where it would go.
    Vacant(Slot<'a>),
    /// The key has none, and there is no place for it within [`MAX_PROBE`] slots.
    Exhausted,
}

/// The slot index of a generation, laid over its words.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use erlmcp_shm_layout::{Index, Kind, Probe, SlotValue};
///
/// let words: Vec<AtomicU64> = (0..16 * 8).map(|_| AtomicU64::new(0)).collect();
/// let index = Index::new(&words).unwrap();
/// let value = SlotValue { record: 4096, kind: Kind::Resource, tombstone: false,
///     key_len: 1, data_len: 2, metadata_len: 3, version: 1 };
/// let find = || index.probe(99, Kind::Resource, 1, |_| true);
/// let Ok(Probe::Vacant(slot)) = find() else { panic!() };
/// slot.publish(99, &value);
/// assert!(matches!(find(), Ok(Probe::Found(_, v)) if v == value));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Index<'a> {
    slots: &'a [[AtomicU64; SLOT_WORDS]],
}

impl<'a> Index<'a> {
    /// An index over `words`, or `None` unless they make a power of two of slots.
    #[inline]
    pub fn new(words: &'a [AtomicU64]) -> Option<Self> {
        let (slots, rest) = words.as_chunks();
        (rest.is_empty() && slots.len().is_power_of_two()).then_some(Self { slots })
    }

    /// An index over what is known to be a power of two of slots. With any other number, not every
    /// slot is found.
    #[inline(always)]
    pub(crate) fn trusted(slots: &'a [[AtomicU64; SLOT_WORDS]]) -> Self {
        assert!(!slots.is_empty());
        Self { slots }
    }

    /// Number of slots, a power of two.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.slots.len()
    }

    /// The home slot of a hash: where its probe begins.
    #[inline(always)]
    pub fn home(&self, hash: u64) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// The slot at a position (taken modulo the capacity).
    #[inline(always)]
    pub fn slot(&self, position: usize) -> Slot<'a> {
        Slot(&self.slots[position & (self.slots.len() - 1)])
    }

    /// Where a slot of this index stands.
    #[inline]
    pub fn position(&self, slot: Slot<'_>) -> usize {
        (slot.0.as_ptr().addr() - self.slots.as_ptr().addr()) / SLOT_SIZE
    }

    /// Every slot, in order of position.
    pub fn slots(&self) -> impl Iterator<Item = Slot<'a>> + use<'a> {
        self.slots.iter().map(Slot)
    }

    /// Looks for a key of this hash, kind and length; `is_key` says whether a published value with all
    /// of these bears the key.
    #[inline(always)]
    pub fn probe(
        &self,
        hash: u64,
        kind: Kind,
        key_len: u16,
        mut is_key: impl FnMut(&SlotValue) -> bool,
    ) -> Result<Probe<'a>, Contended> {
        let home = self.home(hash);
        for step in 0..MAX_PROBE.min(self.slots.len()) {
            let slot = self.slot(home.wrapping_add(step));
            let found = slot.hash();
            if found == hash {
                if let Some(value) = slot.load_if(kind, key_len)?
                    && is_key(&value)
                {
                    return Ok(Probe::Found(slot, value));
                }
            } else if found == 0 {
                return Ok(Probe::Vacant(slot));
            }
        }
        Ok(Probe::Exhausted)
    }
}

const _: () = {
    assert!(SLOT_SIZE == 64 && SLOT_WORDS == 8);
    // Sequence, hash and two halves of three words fill a slot.
    assert!(2 + 2 * 3 == SLOT_WORDS);
    // 44 bits of 8-byte units.
    assert!(MAX_FILE_SIZE == 8 << 44);
};
