//! The mapped bytes of one generation: all the unsafe code of this crate.
//!
//! Nothing here hands out a reference to bytes that somebody else may write. Header and index are
//! only ever seen as atomics. The log is cut into **claims**, which never overlap: a claim is the
//! one way to write log bytes, and what it wrote is read as a slice only after it was sealed.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use erlmcp_shm_layout::HEADER_SIZE;
use nix::libc;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Where advice may begin: a multiple of any page size in use.
const PAGE: usize = 64 << 10;
/// Bytes of a huge page.
pub const HUGE: usize = 2 << 20;

/// A shared, writable mapping of one whole file.
#[derive(Debug)]
pub struct Region {
    /// Invariant: `base..base + len` is mapped readable and writable until `drop`, and the file
    /// behind it is at least `len` bytes long and allocated.
    base: NonNull<u8>,
    len: usize,
    /// Invariant: log bytes below it are claimed, none above it was ever handed out.
    frontier: AtomicU64,
    owner: Owner,
}

/// What to give back to the kernel.
#[derive(Debug)]
enum Owner {
    /// A reservation with the file mapped inside, on a 2 MiB boundary.
    Reserved { start: NonNull<u8>, len: usize },
    /// A mapping wherever the kernel put it.
    Plain(#[allow(dead_code, reason = "held for its drop")] memmap2::MmapRaw),
    /// Memory of the process's own, of exactly the region's length, so that tools which see every
    /// access also see one past the end.
    #[cfg(test)]
    Heap(std::alloc::Layout),
}

// SAFETY: the pointer is to shared memory, not to anything bound to a thread, and every access
// goes through atomics, claims (disjoint, used by one thread each) or slices of sealed bytes.
unsafe impl Send for Region {}
// SAFETY: as above; no method changes the fields but the atomic frontier.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes of `file`, aligned for huge pages where the address space allows it.
    ///
    /// `claimed` is the offset below which the log already holds sealed records.
    pub fn map(file: impl AsFd, len: u64, claimed: u64) -> Result<Self, Errno> {
        let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
        let (base, owner) = match map_aligned(&file, len) {
            Ok(mapped) => mapped,
            Err(_) => {
                let raw = memmap2::MmapOptions::new()
                    .len(len)
                    .map_raw(&file.as_fd())
                    .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::NOMEM))?;
                let base = NonNull::new(raw.as_mut_ptr()).ok_or(Errno::NOMEM)?;
                (base, Owner::Plain(raw))
            }
        };
        Ok(Self {
            base,
            len,
            frontier: AtomicU64::new(claimed),
            owner,
        })
    }

    /// `len` zeroed bytes without a file.
    #[cfg(test)]
    pub fn heap(len: usize, claimed: u64) -> Self {
        assert!(len >= HEADER_SIZE);
        let layout = std::alloc::Layout::from_size_align(len, 4096).expect("a small region");
        // SAFETY: the size is not zero (asserted above).
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        Self {
            base: NonNull::new(start).expect("memory"),
            len,
            frontier: AtomicU64::new(claimed),
            owner: Owner::Heap(layout),
        }
    }

    /// The words of header or index: `count` of them from the byte `offset` on.
    pub fn words(&self, offset: usize, count: usize) -> &[AtomicU64] {
        assert!(offset.is_multiple_of(8) && offset + count * 8 <= self.len);
        // SAFETY: in bounds and aligned (the base is page-aligned); callers ask for header and
        // index only, which are accessed as atomics everywhere, in this process and in others.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset).cast(), count) }
    }

    /// The header's words.
    pub fn header_words(&self) -> &[AtomicU64; HEADER_SIZE / 8] {
        let words = self.words(0, HEADER_SIZE / 8);
        words.try_into().expect("the header's length")
    }

    /// The first half of the word at `word`, on which readers sleep.
    pub fn futex<'a>(&self, word: &'a AtomicU64) -> &'a AtomicU32 {
        // SAFETY: the low half of a little-endian word; only its address goes to the kernel, and
        // every access in Rust is to the whole word, so no mixed-size race can arise.
        unsafe { AtomicU32::from_ptr(word.as_ptr().cast()) }
    }

    /// Sealed bytes of the log.
    ///
    /// Callers pass extents that they took from a published slot, or that they scan in a file
    /// nobody writes any more: never one inside a claim that is not sealed.
    pub fn sealed(&self, offset: u64, len: u64) -> &[u8] {
        let end = offset.checked_add(len).expect("offsets are below 2^47");
        assert!(end <= self.frontier.load(Ordering::Relaxed) && end <= self.len as u64);
        // SAFETY: in bounds; sealed bytes are never written again while the region is mapped.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().add(offset as usize), len as usize) }
    }

    /// The next `len` bytes of the log, for the caller alone; `None` where the file ends before.
    pub fn claim(&self, len: u64) -> Option<Claim<'_>> {
        // Relaxed: the frontier only keeps claims apart, it publishes nothing.
        let add = |at: u64| at.checked_add(len).filter(|end| *end <= self.len as u64);
        let offset = self
            .frontier
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .ok()?;
        Some(Claim {
            region: self,
            offset,
            len: len as usize,
        })
    }

    /// Starts to fetch the cache line at an offset, which may be any number.
    #[inline]
    pub fn prefetch(&self, offset: u64) {
        prefetch(self.base.as_ptr().wrapping_add(offset as usize));
    }

    /// Gives the bytes `from..to` their pages now, so that no put meets a page fault there. Older
    /// kernels do not know the advice; then pages come at first touch as ever.
    pub fn populate(&self, from: u64, to: u64) {
        let to = self.len.min(to as usize);
        let from = to.min(from as usize) / PAGE * PAGE;
        self.advise(from, to - from, libc::MADV_POPULATE_WRITE);
    }

    /// Moves the huge page that begins at `at` into one physical piece, whatever the system's
    /// settings are: one TLB entry instead of 512, here and in every reader that maps it aligned.
    /// `false` where the kernel or the mapping does not allow it.
    pub fn collapse(&self, at: u64) -> bool {
        let aligned = matches!(self.owner, Owner::Reserved { .. });
        let at = at as usize;
        let whole = at.is_multiple_of(HUGE) && at + HUGE <= self.len;
        aligned && whole && self.advise(at, HUGE, libc::MADV_COLLAPSE)
    }

    /// Whether the kernel took the advice. Both kinds used are optional: older kernels refuse them.
    fn advise(&self, offset: usize, len: usize, advice: libc::c_int) -> bool {
        // SAFETY: inside the mapping, and the advice changes no byte of it.
        unsafe { libc::madvise(self.base.as_ptr().add(offset).cast(), len, advice) == 0 }
    }
}

/// Starts to fetch the cache line of an address, which may be any.
#[inline]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Reserves address space and maps the file inside it on a 2 MiB boundary.
fn map_aligned(file: impl AsFd, len: usize) -> Result<(NonNull<u8>, Owner), Errno> {
    if len < HUGE {
        return Err(Errno::INVAL);
    }
    let reserved = len.checked_add(HUGE).ok_or(Errno::NOMEM)?;
    let hint = std::ptr::null_mut();
    // SAFETY: a fresh mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe { mmap_anonymous(hint, reserved, ProtFlags::empty(), MapFlags::PRIVATE)? };
    let start = NonNull::new(start.cast::<u8>()).ok_or(Errno::NOMEM)?;
    let gap = start.as_ptr().align_offset(HUGE);
    let owner = Owner::Reserved {
        start,
        len: reserved,
    };
    let flags = MapFlags::SHARED | MapFlags::FIXED;
    // SAFETY: `gap + len` lies inside the reservation made above (gap < HUGE), which nobody else
    // uses, so MAP_FIXED replaces nothing but that.
    let base = unsafe {
        let place = start.as_ptr().add(gap).cast();
        mmap(
            place,
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
            file,
            0,
        )
    };
    match base {
        Ok(base) => Ok((NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, owner)),
        Err(errno) => {
            drop_reservation(&owner);
            Err(errno)
        }
    }
}

fn drop_reservation(owner: &Owner) {
    if let Owner::Reserved { start, len } = owner {
        // SAFETY: the reservation that this owner stands for, given back once; no reference into
        // it is left (they borrow from the region, and claims hold it alive).
        let _ = unsafe { munmap(start.as_ptr().cast(), *len) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        drop_reservation(&self.owner);
        #[cfg(test)]
        if let Owner::Heap(layout) = self.owner {
            // SAFETY: allocated with this layout, freed once, and nothing borrows from it any more.
            unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) };
        }
    }
}

/// Bytes of the log that belong to whoever holds this, until they are sealed.
#[derive(Debug)]
pub struct Claim<'r> {
    region: &'r Region,
    offset: u64,
    len: usize,
}

impl Claim<'_> {
    /// The bytes, to be written.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: in bounds (checked when claimed); claims do not overlap, this one is borrowed
        // mutably, and no slot names these bytes yet, so nobody else forms a reference to them.
        unsafe {
            let start = self.region.base.as_ptr().add(self.offset as usize);
            std::slice::from_raw_parts_mut(start, self.len)
        }
    }

    /// Ends the writing; says where the bytes stand.
    pub fn seal(self) -> u64 {
        self.offset
    }

    /// Gives the bytes back, as if they had never been claimed: the log ends before them. Only for
    /// the latest claim, with the writer's lock held since.
    pub fn retract(mut self) {
        let end = self.offset + self.len as u64;
        self.bytes().fill(0);
        let before = self.region.frontier.swap(self.offset, Ordering::Relaxed);
        assert_eq!(before, end, "only the latest claim can be given back");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: u64 = HEADER_SIZE as u64 + 64;

    /// An odd length: the last byte is the region's, the one after it nobody's.
    fn region(log: u64) -> Region {
        Region::heap((LOG + log) as usize, LOG)
    }

    #[test]
    fn claims_are_disjoint_and_end_with_the_region() {
        let region = region(101);
        let (mut a, mut b) = (region.claim(40).unwrap(), region.claim(61).unwrap());
        assert!(region.claim(1).is_none());
        assert!(region.claim(u64::MAX).is_none());
        b.bytes().fill(2);
        a.bytes().fill(1);
        let (a, b) = (a.seal(), b.seal());
        assert_eq!((a, b), (LOG, LOG + 40));
        assert_eq!(region.sealed(a, 40), [1; 40]);
        assert_eq!(region.sealed(b, 61), [2; 61]);
    }

    #[test]
    fn a_retracted_claim_is_zero_and_can_be_claimed_again() {
        let region = region(101);
        let mut claim = region.claim(101).unwrap();
        claim.bytes().fill(7);
        claim.retract();
        let mut again = region.claim(101).unwrap();
        assert_eq!(again.bytes(), [0; 101]);
        assert_eq!(again.seal(), LOG);
    }

    #[test]
    fn claims_of_two_threads_do_not_overlap() {
        let region = region(64 * 8);
        std::thread::scope(|scope| {
            for mark in 1..=2u8 {
                let region = &region;
                scope.spawn(move || {
                    while let Some(mut claim) = region.claim(8) {
                        claim.bytes().fill(mark);
                        let at = claim.seal();
                        assert_eq!(region.sealed(at, 8), [mark; 8]);
                    }
                });
            }
        });
        let log = region.sealed(LOG, 64 * 8);
        assert!(log.chunks(8).all(|c| c == [1; 8] || c == [2; 8]));
    }

    #[test]
    fn words_share_the_bytes_that_the_header_has() {
        let region = region(0);
        region.header_words()[3].store(9, Ordering::Relaxed);
        assert_eq!(region.words(24, 1)[0].load(Ordering::Relaxed), 9);
        assert!(region.claim(1).is_none());
    }

    #[test]
    #[should_panic]
    fn bytes_that_nobody_claimed_cannot_be_read() {
        region(8).sealed(LOG, 8);
    }
}
