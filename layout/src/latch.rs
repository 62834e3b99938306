//! A sequence latch: the newest of two copies of a few words, readable at every instant.
//!
//! **Roles.** One writer (callers serialise themselves), any number of readers in any process, on
//! memory that readers may have mapped read-only.
//!
//! **Fast path.** The lowest bit of the sequence says which half is current. A reader loads the
//! sequence, copies that half, and loads the sequence again: unchanged, the copy is whole.
//!
//! **Collision path.** The writer fills the half that is *not* current and then moves the sequence
//! by one, so a reader is disturbed only by a writer that publishes twice while it copies. A reader
//! retries whenever the sequence moved at all, [`MAX_RETRIES`] times at most.
//!
//! **ABA.** The sequence is 64 bits wide; it would have to wrap between two loads of one reader.
//! Wrapping itself is harmless: 2^64-1 is odd, 0 is even, and the halves go on alternating.
//!
//! **What a crash leaves.** Between any two stores the sequence still names a half that is whole:
//! a dead or stopped writer leaves the old value readable. (An ordinary seqlock would stay odd for
//! ever.) This is the kernel's `seqcount_latch`.
//!
//! # Orderings
//!
//! | | writer | reader |
//! |---|---|---|
//! | 1 | `fence(Release)` (W1) then fills the other half, Relaxed (W2) | copies the half, Relaxed (R2), then `fence(Acquire)` (R3) |
//! | 2 | sequence, Release store (W3) | sequence, Relaxed load (R1), then `fence(Acquire)` |
//!
//! * **W3 pairs with R1**: a reader that sees the new sequence sees the half that it names, and all
//!   that the writer wrote before (the record's plain bytes).
//! * **W1 pairs with R3**: a reader whose copy picked up even one word of a later publish (W2) finds,
//!   at its second load of the sequence, at least the value stored before that publish began, which
//!   differs from its first; so it retries. W1 orders the previous W3 before W2; R3 orders R2 before
//!   the second load.
//!
//! Readers use Relaxed loads with fences because Rust promises no more than relaxed loads on
//! memory that is mapped read-only.

use crate::sync::{AtomicU64, Ordering, fence};

/// How often [`Latch::load`] starts again before it gives up.
pub const MAX_RETRIES: u32 = 64;

/// A sequence word and two halves of `N` words each, somewhere in shared memory.
///
/// ```
/// use core::sync::atomic::AtomicU64;
/// use erlmcp_shm_layout::Latch;
///
/// let words: [AtomicU64; 5] = Default::default();
/// let (seq, halves) = words.split_first().unwrap();
/// let latch = Latch::<2>::new(seq, halves);
/// assert_eq!(latch.load(), Some([0, 0]));
/// latch.store([7, 8]);
/// assert_eq!(latch.load(), Some([7, 8]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Latch<'a, const N: usize> {
    seq: &'a AtomicU64,
    /// The even half and behind it the odd one.
    halves: &'a [[AtomicU64; N]; 2],
}

impl<'a, const N: usize> Latch<'a, N> {
    /// Lays a latch over its words: the even half and behind it the odd one.
    ///
    /// # Panics
    /// If the halves are not exactly `N` words each; the callers cut them by constants.
    #[inline(always)]
    pub fn new(seq: &'a AtomicU64, halves: &'a [AtomicU64]) -> Self {
        let (halves, rest) = halves.as_chunks();
        assert!(rest.is_empty(), "two halves of N words");
        let halves = halves.try_into().expect("two halves of N words");
        Self { seq, halves }
    }

    /// The half that a sequence names. (By its address and not by a branch: which half is current is
    /// as good as random where entries are updated, and a branch would be guessed wrong every other
    /// time.)
    #[inline(always)]
    fn half(&self, seq: u64) -> &'a [AtomicU64; N] {
        &self.halves[(seq & 1) as usize]
    }

    /// The sequence: it moves with every publish, and never comes back to where it was.
    ///
    /// Relaxed. Who keeps a copy of the words asks this whether they still stand, and touches nothing
    /// that a publish writes, so there is nothing to order; and a publish that returned before the
    /// question was asked is seen, because whatever carried that news ordered W3 before this load.
    #[inline(always)]
    pub fn sequence(&self) -> u64 {
        self.seq.load(Ordering::Relaxed) // R5
    }

    /// Publishes `words`: one Release store makes them current. Writer only.
    #[inline]
    pub fn store(&self, words: [u64; N]) {
        // Relaxed: only this writer stores to the sequence.
        let next = self.seq.load(Ordering::Relaxed).wrapping_add(1);
        // W1, pairs with R3: the previous publish is visible to whoever sees a store below.
        fence(Ordering::Release);
        for (cell, word) in self.half(next).iter().zip(words) {
            cell.store(word, Ordering::Relaxed); // W2
        }
        // W3, the publish; pairs with R1.
        self.seq.store(next, Ordering::Release);
    }

    /// The current words, or `None` if the writer published during each of [`MAX_RETRIES`] tries.
    #[inline(always)]
    pub fn load(&self) -> Option<[u64; N]> {
        Some(self.load_stamped()?.1)
    }

    /// The same with the sequence that names them: as long as [`sequence`](Self::sequence) answers
    /// that, they are the current ones.
    #[inline(always)]
    pub fn load_stamped(&self) -> Option<(u64, [u64; N])> {
        for _ in 0..MAX_RETRIES {
            let seen = self.seq.load(Ordering::Relaxed); // R1, with the fence pairs with W3
            fence(Ordering::Acquire);
            let half = self.half(seen);
            let words = core::array::from_fn(|i| half[i].load(Ordering::Relaxed)); // R2
            fence(Ordering::Acquire); // R3, pairs with W1
            if self.seq.load(Ordering::Relaxed) == seen {
                return Some((seen, words));
            }
            core::hint::spin_loop();
        }
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_without_losing_a_publish() {
        let words: [AtomicU64; 7] = Default::default();
        words[0].store(u64::MAX - 3, Ordering::Relaxed);
        let latch = Latch::<3>::new(&words[0], &words[1..]);
        for i in 1..=8u64 {
            latch.store([i, i + 1, i + 2]);
            assert_eq!(latch.load(), Some([i, i + 1, i + 2]));
        }
        assert_eq!(words[0].load(Ordering::Relaxed), 4);
    }

    #[test]
    fn a_writer_killed_between_any_two_stores_leaves_the_old_value() {
        let words: [AtomicU64; 5] = Default::default();
        let latch = Latch::<2>::new(&words[0], &words[1..]);
        latch.store([1, 2]);
        // The stores of the next publish, up to but without the last one.
        words[1].store(99, Ordering::Relaxed);
        assert_eq!(latch.load(), Some([1, 2]));
        words[2].store(98, Ordering::Relaxed);
        assert_eq!(latch.load(), Some([1, 2]));
    }
}
