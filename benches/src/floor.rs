//! The floor: an unsynchronised hash table over the same bytes. What a lookup costs that knows of no
//! writer: a hash, a probe, the bounds, a comparison of the key, the value.

use std::fs::File;
use std::ops::Deref;
use std::path::Path;

use erlmcp_shm_layout::{Header, Record};
use memmap2::{Advice, Mmap, MmapMut};
use twox_hash::XxHash3_64;

/// What the floor's bytes lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// A mapping of the file as anybody makes it: 4 KiB pages.
    Small,
    /// A copy in private memory, 2 MiB pages where the machine gives them on request.
    Huge,
}

enum Bytes {
    Mapped(Mmap),
    Copied(MmapMut),
}

impl Deref for Bytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Mapped(bytes) => bytes,
            Bytes::Copied(bytes) => bytes,
        }
    }
}

/// A table of its own over the bytes of one generation.
pub struct Floor {
    bytes: Bytes,
    slots: Vec<Slot>,
}

/// Where an entry lies; an empty slot has no key.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u64,
    key: u64,
    key_len: u32,
    data_len: u32,
}

impl Floor {
    /// A table over the store at `path`, with as many slots as ours has. Its log must hold live records
    /// only, as after a compaction, and nothing may write to it.
    pub fn new(path: &Path, pages: Pages) -> Self {
        let file = File::open(path).expect("the store is there");
        // SAFETY: a mapping of a file that nothing writes to or truncates while a floor is measured.
        let mapped = unsafe { Mmap::map(&file) }.expect("it can be mapped");
        let header = Header::decode(&mapped, mapped.len() as u64).expect("a store");
        let mut slots = vec![Slot::default(); header.slot_count as usize];
        let mut at = header.log_offset();
        while let Some(record) = Record::read(&mapped[at as usize..]) {
            let hash = XxHash3_64::oneshot(record.key);
            let mut slot = hash as usize & (slots.len() - 1);
            while slots[slot].key_len != 0 {
                slot = (slot + 1) & (slots.len() - 1);
            }
            slots[slot] = Slot {
                hash,
                key: at + record.shape().key,
                key_len: record.key.len() as u32,
                data_len: record.data.len() as u32,
            };
            at += record.shape().total;
        }
        let bytes = match pages {
            Pages::Small => Bytes::Mapped(mapped),
            Pages::Huge => {
                let mut copy = MmapMut::map_anon(mapped.len()).expect("memory");
                // Where the kernel has none to give, the pages stay small.
                let _ = copy.advise(Advice::HugePage);
                copy.copy_from_slice(&mapped);
                Bytes::Copied(copy)
            }
        };
        Self { bytes, slots }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let hash = XxHash3_64::oneshot(key);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &self.slots[at];
            if slot.key_len == 0 {
                return None;
            }
            if slot.hash == hash && slot.key_len as usize == key.len() {
                let (found, rest) = self.bytes[slot.key as usize..].split_at(key.len());
                if found == key {
                    return Some(&rest[4..][..slot.data_len as usize]);
                }
            }
            at = (at + 1) & mask;
        }
    }
}
