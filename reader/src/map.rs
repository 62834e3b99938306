//! The mapping of one generation: all the unsafe code of this crate.
//!
//! What makes it sound, in two parts.
//!
//! *Checked here*: the header's regions lie inside the file ([`Header::decode`]), a record's bytes
//! lie inside the log ([`Header::contains`]), and no slice is formed before a slot read through its
//! latch has named the record. Header and index are only ever seen as atomics.
//!
//! *Promised by the file's owner*, whom [`open`](crate::open) checked: bytes of a published record
//! never change (the writer only appends), and the file is never truncated. An owner who breaks the
//! first can make a lookup return any bytes; one who breaks the second makes the kernel send
//! SIGBUS to whoever touches the missing pages. `Options::pread` is for readers that cannot accept
//! either.

mod lookup;
#[cfg(feature = "l1")]
mod stamped;

use crate::ReadError;
use crate::generation::Generation;
use erlmcp_shm_layout::header::index;
use erlmcp_shm_layout::slot::SLOT_WORDS;
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, Header, HeaderWords, Index, RecordShape, SlotValue};
use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fs::File;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Bytes of a huge page; a mapping that starts on a multiple of it can use them.
const HUGE_PAGE: usize = 2 << 20;

/// A generation, mapped read-only and shared.
pub(crate) struct Mapping {
    /// Invariant: the first of `header.file_size` bytes that stay mapped as long as `self` lives.
    base: NonNull<u8>,
    /// Invariant: it came from [`Header::decode`] with the length of the mapped file.
    header: Header,
    /// What to give back at the end.
    region: Region,
}

/// The bytes of a record that a lookup found.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    /// All of it, from its fixed header to the zeros at its end.
    pub record: &'a [u8],
    pub data: &'a [u8],
}

impl<'a> Found<'a> {
    /// The key in the record that `value` describes.
    #[inline(always)]
    pub fn key(&self, value: &SlotValue) -> &'a [u8] {
        &self.record[RecordShape::of(value).key as usize..][..value.key_len.into()]
    }
}

enum Region {
    /// Placed by us; this many bytes from `base` on.
    Aligned(usize),
    /// Placed by the system, and unmapped by this value's own destructor.
    Plain { _map: MmapRaw },
    /// Memory of the process's own, of exactly the file's length, so that tools which see every
    /// access also see one past the end.
    #[cfg(test)]
    Heap(std::alloc::Layout),
}

// SAFETY: the memory is only read, and what changes in it is read through atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above; there is no interior state besides the mapped bytes.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        match self.region {
            // SAFETY: `base` and `len` are the whole of a mapping that we made, and nothing borrows
            // from it any more, since everything that does borrows from `self`.
            Region::Aligned(len) => drop(unsafe { munmap(self.base.as_ptr().cast(), len) }),
            Region::Plain { .. } => {}
            #[cfg(test)]
            // SAFETY: allocated with this layout, freed once, and as above nothing borrows from it.
            Region::Heap(layout) => unsafe { std::alloc::dealloc(self.base.as_ptr(), layout) },
        }
    }
}

impl Mapping {
    /// Maps `file`, whose decoded header is `header`.
    pub fn new(file: &File, header: Header) -> Result<Self, ReadError> {
        let len = usize::try_from(header.file_size).map_err(|_| ReadError::Unsupported)?;
        if len >= HUGE_PAGE
            && let Ok((base, mapped)) = map_aligned(file, len)
        {
            return Ok(Self::over(base, header, Region::Aligned(mapped)));
        }
        let map = MmapOptions::new().len(len).map_raw_read_only(file)?;
        let base = NonNull::new(map.as_mut_ptr()).ok_or(ReadError::Io(Errno::NOMEM))?;
        Ok(Self::over(base, header, Region::Plain { _map: map }))
    }

    /// A copy of `bytes`, which `header` was decoded from, without a file.
    #[cfg(test)]
    pub fn heap(bytes: &[u8], header: Header) -> Self {
        assert_eq!(bytes.len() as u64, header.file_size);
        let layout = std::alloc::Layout::from_size_align(bytes.len(), 4096).expect("a small file");
        // SAFETY: the size is not zero, since no header describes an empty file.
        let start = unsafe { std::alloc::alloc(layout) };
        let base = NonNull::new(start).expect("memory");
        // SAFETY: fresh memory of exactly this length.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len()) };
        Self::over(base, header, Region::Heap(layout))
    }

    fn over(base: NonNull<u8>, header: Header, region: Region) -> Self {
        Self {
            base,
            header,
            region,
        }
    }

    /// The words of the header that move.
    #[inline(always)]
    pub fn words(&self) -> HeaderWords<'_> {
        // SAFETY: the first HEADER_SIZE bytes are mapped (invariants of `base` and `header`), page
        // alignment is more than the words need, and all access to them is atomic.
        HeaderWords::new(unsafe { self.base.cast::<[AtomicU64; HEADER_SIZE / 8]>().as_ref() })
    }

    #[inline(always)]
    fn index(&self) -> Index<'_> {
        // SAFETY: `header` puts the whole index inside the file, HEADER_SIZE is a multiple of 8,
        // and all access to its words is atomic.
        index(unsafe {
            let first = self.base.add(HEADER_SIZE).cast::<[AtomicU64; SLOT_WORDS]>();
            std::slice::from_raw_parts(first.as_ptr(), self.header.slot_count as usize)
        })
    }

    /// The bytes of the record that `value` names; `None` if they are not inside the log.
    ///
    /// For [`lookup`] only: `value` must have been read from a slot of this mapping through its latch.
    #[inline(always)]
    fn record(&self, value: &SlotValue) -> Option<Found<'_>> {
        let shape = RecordShape::of(value);
        let slice = |offset: u64, len: u64| {
            // SAFETY: the record lies inside the mapping (`contains`, below), and each part that is asked
            // for inside the record (what `RecordShape` says of itself). The slot was read
            // through its latch, so the record was published before, and a published record never
            // changes (the owner's promise).
            unsafe {
                let start = self.base.add((value.record + offset) as usize);
                std::slice::from_raw_parts(start.as_ptr(), len as usize)
            }
        };
        self.header.contains(value).then(|| Found {
            record: slice(0, shape.total),
            data: slice(shape.data, value.data_len.into()),
        })
    }

    /// The log up to the published tail.
    pub fn log(&self) -> Result<&[u8], ReadError> {
        let tail = self.words().stats().ok_or(ReadError::Contended)?.log_tail;
        let start = self.header.log_offset();
        if tail < start || tail > self.header.file_size {
            return Err(ReadError::Corrupt("the log's tail lies outside the log"));
        }
        // SAFETY: the range lies inside the mapping (checked above); the tail was read through the
        // statistics latch, so every record before it was published and never changes (the owner's
        // promise).
        Ok(unsafe {
            let first = self.base.add(start as usize);
            std::slice::from_raw_parts(first.as_ptr(), (tail - start) as usize)
        })
    }

    /// Starts to fetch the cache line at an offset, which may be any number.
    #[inline(always)]
    fn prefetch(&self, offset: u64) {
        prefetch(self.base.as_ptr().wrapping_add(offset as usize));
    }

    /// The futex word of the change counter: its low half.
    pub fn futex(&self) -> &AtomicU32 {
        let word = ptr::from_ref(self.words().changes_word()).cast::<AtomicU32>();
        // SAFETY: the first four of the eight bytes of a word that lives as long as `self`. Only
        // the kernel reads through this reference.
        unsafe { &*word }
    }

    /// Has the kernel map the first `len` bytes now, rather than at first touch.
    pub fn prefault(&self, len: u64) {
        #[cfg(target_os = "linux")]
        let advice = rustix::mm::Advice::LinuxPopulateRead;
        #[cfg(not(target_os = "linux"))]
        let advice = rustix::mm::Advice::WillNeed;
        let len = len.min(self.header.file_size) as usize;
        // SAFETY: the range is ours, and neither advice changes what it holds. A kernel that does
        // not know it says so, and pages are mapped at first touch as ever.
        let _ = unsafe { rustix::mm::madvise(self.base.as_ptr().cast(), len, advice) };
    }

    /// The addresses that are mapped.
    pub fn addresses(&self) -> Range<usize> {
        let start = self.base.addr().get();
        start..start + self.header.file_size as usize
    }
}

/// Starts to fetch the cache line at an address, which may be any.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it faults on no address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Maps `len` bytes of `file` on a multiple of [`HUGE_PAGE`]; also says how many bytes to unmap.
fn map_aligned(file: &File, len: usize) -> Result<(NonNull<u8>, usize), Errno> {
    let mapped = len
        .checked_next_multiple_of(rustix::param::page_size())
        .ok_or(Errno::NOMEM)?;
    let reserved = mapped.checked_add(HUGE_PAGE).ok_or(Errno::NOMEM)?;
    // SAFETY: addresses of the system's choice, and none of them is touched before it is replaced.
    let start = unsafe {
        mmap_anonymous(
            ptr::null_mut(),
            reserved,
            ProtFlags::empty(),
            MapFlags::PRIVATE,
        )?
    };
    let head = start.addr().next_multiple_of(HUGE_PAGE) - start.addr();
    let base = start.wrapping_byte_add(head);
    // SAFETY: FIXED replaces only a part of what was reserved just above.
    let result = unsafe {
        mmap(
            base,
            mapped,
            ProtFlags::READ,
            MapFlags::SHARED | MapFlags::FIXED,
            file,
            0,
        )
    };
    let unmap = |at: *mut c_void, len: usize| {
        if len > 0 {
            // SAFETY: a part of what was reserved above, and not (or no longer) the file's.
            let _ = unsafe { munmap(at, len) };
        }
    };
    match result {
        Ok(_) => {
            unmap(start, head);
            unmap(base.wrapping_byte_add(mapped), HUGE_PAGE - head);
            Ok((NonNull::new(base.cast()).ok_or(Errno::NOMEM)?, mapped))
        }
        Err(error) => {
            unmap(start, reserved);
            Err(error)
        }
    }
}

/// A part of a record together with the generation that keeps it mapped.
pub(crate) struct Pinned {
    /// Invariant: inside the mapping of `_generation`, and formed from a published record.
    bytes: NonNull<[u8]>,
    _generation: Arc<Generation>,
}

// SAFETY: immutable bytes that a generation, itself Send and Sync, keeps mapped.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Pins `part`; `None` if it does not lie in this generation's mapping.
    pub fn new(generation: &Arc<Generation>, part: &[u8]) -> Option<Self> {
        let mapped = generation.mapping()?.addresses();
        let start = part.as_ptr().addr();
        let inside = mapped.start <= start && start + part.len() <= mapped.end;
        inside.then(|| Self {
            bytes: NonNull::from(part),
            _generation: Arc::clone(generation),
        })
    }
}

impl AsRef<[u8]> for Pinned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the invariant of `bytes`: mapped as long as `self`, and never changing.
        unsafe { self.bytes.as_ref() }
    }
}

const _: () = assert!(size_of::<AtomicU64>() == 8 && align_of::<AtomicU64>() == 8);
