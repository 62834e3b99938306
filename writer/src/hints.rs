//! Where the record may lie that a put replaces, known before its slot has come from memory.
//!
//! A put waits for its slot and then for the key that the slot names, to compare it. Each of the two waits
//! is longer than all else that a put does, and the second can begin with the first if the place of the record is
//! known. So the writer remembers it for each home slot, in memory of its own that is a sixteenth of the index
//! and stays in the processor's cache. Nothing is decided by it: what is wrong here (another key of the same
//! home, an offset beyond 2^35) costs a cache miss.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::region::prefetch;

/// A guess for each home slot: the latest record, in units of 8 bytes.
#[derive(Debug, Default)]
pub struct Hints(Box<[AtomicU32]>);

impl Hints {
    /// For an index of so many slots.
    pub fn new(slots: u64) -> Self {
        Self((0..slots).map(|_| AtomicU32::new(0)).collect())
    }

    /// Takes note of the record that was published under a hash.
    pub fn note(&self, hash: u64, record: u64) {
        if let Some(hint) = self.of(hash) {
            // Relaxed, here and below: a guess, by which nothing is published.
            hint.store((record >> 3) as u32, Ordering::Relaxed);
        }
    }

    /// Starts to fetch what is known of a hash.
    pub fn fetch(&self, hash: u64) {
        if let Some(hint) = self.of(hash) {
            prefetch(hint);
        }
    }

    /// Offset of the record that a hash may have.
    pub fn record(&self, hash: u64) -> u64 {
        let hint = self.of(hash);
        hint.map_or(0, |hint| u64::from(hint.load(Ordering::Relaxed)) << 3)
    }

    fn of(&self, hash: u64) -> Option<&AtomicU32> {
        // The number of slots is a power of two, or 0 where nothing will be put.
        self.0.get(hash as usize & self.0.len().wrapping_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_record_of_a_home_slot_is_known() {
        let hints = Hints::new(16);
        assert_eq!(hints.record(3), 0);
        hints.note(3, 4096);
        hints.note(4, 64);
        assert_eq!(hints.record(3 + 16), 4096);
        hints.note(3 + 32, 8192);
        assert_eq!((hints.record(3), hints.record(4)), (8192, 64));
        hints.note(5, (1 << 35) + 8);
        assert_eq!(hints.record(5), 8);
    }

    #[test]
    fn without_slots_there_is_nothing_to_know() {
        let hints = Hints::default();
        hints.note(3, 4096);
        assert_eq!(hints.record(3), 0);
    }
}
