//! One generation as a reader holds it: a mapping, or (in pread mode) an open file.

#[cfg(test)]
mod heap;
mod lookup;
#[cfg(feature = "l1")]
mod stamped;

#[cfg(feature = "l1")]
pub(crate) use stamped::Stamp;

use crate::ReadError;
use crate::follow::Inner;
use crate::map::Mapping;
use crate::open::{FileId, Opened};
use crate::pread::PreadFile;
use erlmcp_shm_layout::{Header, HeaderWords, Kind, SlotValue, State, record_length};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A generation that passed every check of [`open`](crate::open).
pub(crate) struct Generation {
    pub header: Header,
    /// Unique in this process, unlike the number of a generation.
    #[cfg(feature = "l1")]
    pub serial: u64,
    /// Stays unique while the generation is held: a mapped or open file keeps its inode.
    pub id: FileId,
    /// Where it was found.
    pub path: Arc<Path>,
    /// Added to the file's change counter, so that the reader's own goes on rising when another
    /// store, whose counter starts anew, takes the path.
    pub changes_base: u64,
    /// Whether the file's times belong to this boot of the host.
    pub same_boot: bool,
    source: Source,
    /// Set when another generation took this one's place without its file having been marked.
    replaced: AtomicBool,
    prefaulted: AtomicBool,
}

enum Source {
    Mapped(Mapping),
    File(PreadFile),
}

impl Generation {
    /// Maps what was opened (or keeps it open, in pread mode), to follow `last`.
    pub fn new(opened: Opened, reader: &Inner, last: Option<&Self>) -> Result<Self, ReadError> {
        let Opened {
            file, header, id, ..
        } = opened;
        let source = if reader.options.pread {
            Source::File(PreadFile::new(file, header))
        } else {
            Source::Mapped(Mapping::new(&file, header)?)
        };
        let mut new = Self {
            header,
            #[cfg(feature = "l1")]
            serial: stamped::next_serial(),
            id,
            path: Arc::clone(&reader.absolute),
            changes_base: 0,
            same_boot: crate::sys::boot_id() == header.boot_id,
            source,
            replaced: AtomicBool::new(false),
            prefaulted: AtomicBool::new(false),
        };
        if let Some(last) = last {
            new.changes_base = last.changes_base;
            if last.header.store_id != header.store_id {
                // Unreadable only where the old file was truncated, and then any other number will do.
                let next = last.changes().unwrap_or(last.changes_base).wrapping_add(1);
                new.changes_base = next.wrapping_sub(new.file_changes()?);
            }
        }
        Ok(new)
    }

    /// Whether the file is at its path and shorter than it was.
    pub fn is_cut_off(&self) -> bool {
        FileId::and_length(&self.path)
            .is_ok_and(|(id, length)| id == self.id && length < self.header.file_size)
    }

    /// Maps every used page now, once.
    pub fn prefault(&self) {
        // Relaxed: doing it twice does no harm.
        if let Some(mapping) = self.mapping()
            && !self.prefaulted.swap(true, Ordering::Relaxed)
        {
            let tail = mapping.words().stats().map_or(0, |stats| stats.log_tail);
            mapping.prefault(tail.max(self.header.log_offset()));
        }
    }

    /// The mapping, unless this is pread mode.
    #[inline(always)]
    pub fn mapping(&self) -> Option<&Mapping> {
        match &self.source {
            Source::Mapped(mapping) => Some(mapping),
            Source::File(_) => None,
        }
    }

    /// Bytes of address space, and so at most of memory, that this generation pins.
    pub fn pinned_bytes(&self) -> u64 {
        self.mapping().map_or(0, |_| self.header.file_size)
    }

    /// Hands the header's moving words to `read`: the mapped ones, or a copy of this instant.
    #[inline(always)]
    pub fn words<T>(&self, read: impl FnOnce(HeaderWords<'_>) -> T) -> Result<T, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => Ok(read(mapping.words())),
            Source::File(file) => Ok(read(HeaderWords::new(&file.header_words()?))),
        }
    }

    /// Notes whether another generation has taken this one's place.
    pub fn set_replaced(&self, replaced: bool) {
        // Relaxed: it carries nothing. Whoever sees it takes the lock under which it was set, and that orders
        // what he finds. It is not lost: who was told of the look that set it loads it as set.
        self.replaced.store(replaced, Ordering::Relaxed);
    }

    /// Whether readers may go on with this generation: it is live, or closed in good order, and
    /// nothing took its place.
    #[inline(always)]
    pub fn is_current(&self) -> bool {
        if self.replaced.load(Ordering::Relaxed) {
            return false;
        }
        let state = match &self.source {
            Source::Mapped(mapping) => mapping.words().state(),
            Source::File(_) => self.state_in_file(),
        };
        matches!(state, Some(State::Live | State::Closed))
    }

    #[cold]
    #[inline(never)]
    fn state_in_file(&self) -> Option<State> {
        match &self.source {
            Source::File(file) => file.state(),
            Source::Mapped(_) => None,
        }
    }

    /// The reader's change counter.
    pub fn changes(&self) -> Result<u64, ReadError> {
        Ok(self.file_changes()?.wrapping_add(self.changes_base))
    }

    /// The change counter in the file.
    pub fn file_changes(&self) -> Result<u64, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => Ok(mapping.words().changes()),
            Source::File(file) => file.changes(),
        }
    }

    /// How long ago the writer's last heartbeat was; `None` before the first and after a reboot.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        let at = self.words(|words| words.heartbeat()).ok()?;
        let age = crate::sys::boottime_now().saturating_sub(at);
        (at != 0 && self.same_boot).then(|| Duration::from_nanos(age))
    }

    /// Hash and value of the slot at `position`; `None` if it is empty.
    pub fn slot(&self, position: usize) -> Result<Option<(u64, SlotValue)>, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => mapping.slot(position),
            Source::File(file) => file.slot(position),
        }
    }

    /// The slot at `position` with the bytes that it names, unchecked; `None` if it is empty.
    pub fn raw_entry(&self, position: usize) -> Result<Option<RawEntry<'_>>, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => mapping.raw_entry(position),
            Source::File(file) => file.raw_entry(position),
        }
    }

    /// The version that a lookup of a key ends at, be it a tombstone's.
    pub fn find_version(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<u64>, ReadError> {
        Ok(match &self.source {
            Source::Mapped(mapping) => mapping.find(hash, kind, key)?.map(|(v, _)| v.version),
            Source::File(file) => file.find(hash, kind, key)?.map(|(v, _)| v.version),
        })
    }

    /// The record that begins at `offset` of the log, as long as it claims to be; `None` if that is
    /// nonsense, or more than there is before `tail`.
    pub fn log_record(&self, offset: u64, tail: u64) -> Result<Option<Cow<'_, [u8]>>, ReadError> {
        match &self.source {
            Source::Mapped(mapping) => {
                // The tail may have risen since; what is asked for ends where it was.
                let (start, log) = (self.header.log_offset(), mapping.log()?);
                let rest = log.get((offset - start) as usize..(tail - start) as usize);
                let record = rest.and_then(|rest| rest.get(..record_length(rest)?));
                Ok(record.map(Cow::Borrowed))
            }
            Source::File(file) => Ok(file.log_record(offset, tail)?.map(Cow::Owned)),
        }
    }
}

/// A slot's content with the bytes that it names, before any check of them.
pub(crate) struct RawEntry<'a> {
    pub hash: u64,
    pub value: SlotValue,
    /// `None` if it names bytes outside the log.
    pub record: Option<Cow<'a, [u8]>>,
}

/// Repeats what is `Contended`, giving way each time. A publish takes a fraction of a microsecond,
/// so in practice the second round succeeds; a writer that means ill cannot make it endless.
pub(crate) fn patiently<T>(
    mut attempt: impl FnMut() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    const MAX_ROUNDS: usize = 1000;
    for _ in 0..MAX_ROUNDS {
        match attempt() {
            Err(ReadError::Contended) => std::thread::yield_now(),
            result => return result,
        }
    }
    Err(ReadError::Contended)
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("generation", &self.header.generation)
            .field("size", &self.header.file_size)
            .finish_non_exhaustive()
    }
}
