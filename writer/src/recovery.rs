//! What a store held: read back from a file whose writer is gone.
//!
//! The log is the truth. Records are read from its start until the first that is not whole, which
//! is where the writer stopped, however far the statistics got (they are behind where it was killed).
//! Of several records of a key the highest version counts. Should a record *before* the published
//! tail be damaged, the index still knows the ones behind it: every slot that points there is checked
//! and taken as well, so one flipped bit costs one entry.

#[cfg(test)]
mod heap;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use erlmcp_shm_layout::{
    HEADER_SIZE, Header, HeaderWords, Kind, RECORD_HEADER, Record, RecordShape, State, Stats,
    claimed_length,
};
use rustix::fs::OFlags;

use crate::WriteError;
use crate::generation::{Generation, Mapped, wake};
use crate::hints::Hints;
use crate::region::Region;
use crate::sys::{self, FileId};

/// No counter comes near this in the life of a store: what reaches it was never counted. (A counter with
/// one flipped bit is not below it by little, so what a start takes for good, the next one does as well.)
pub const MAX_COUNTER: u64 = 1 << 62;

/// A store that some writer left behind.
pub struct Remains {
    pub map: Mapped,
    /// What its header says of itself.
    stats: Stats,
}

/// What stands at a path: a file of ours that is a store, by its header; `Ok(None)` if nothing does.
pub fn examine(path: &Path) -> Result<Option<(File, FileId, Header)>, WriteError> {
    let Some((file, stat)) = sys::open_own(path, OFlags::empty())? else {
        return Ok(None);
    };
    let mut head = [0; HEADER_SIZE];
    let mut filled = 0;
    while filled < head.len() {
        match rustix::io::pread(&file, &mut head[filled..], filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    let header = Header::decode(&head[..filled], stat.st_size as u64)?;
    Ok(Some((file, sys::file_id(&stat), header)))
}

/// Opens the store at a path for recovery; `Ok(None)` if nothing is there.
pub fn open(path: &Path) -> Result<Option<Remains>, WriteError> {
    let Some((file, id, header)) = examine(path)? else {
        return Ok(None);
    };
    if !wait_for_lock(&file)? {
        return Err(WriteError::Locked);
    }
    let map = Mapped {
        region: Region::map(&file, header.file_size, header.file_size)?,
        header,
        file,
        id,
        populated: AtomicU64::new(0),
        huge: AtomicU64::new(0),
        hints: Hints::default(),
    };
    let stats = map.words().stats().unwrap_or_default();
    let counters = [
        map.header.generation,
        map.words().changes(),
        stats.version,
        stats.puts,
        stats.deletes,
        stats.rollovers,
    ];
    if counters.iter().any(|counter| *counter >= MAX_COUNTER) {
        return Err(WriteError::Corrupt("a counter is beyond anything counted"));
    }
    Ok(Some(Remains { map, stats }))
}

/// Locks the file itself. Its writer held this lock as well as the lock file, and a process that is
/// being killed lets go of the two one after the other. A lock that only keeps others from writing is
/// no writer's: anybody who may read the file can hold one, and it must not stand in our way.
fn wait_for_lock(file: &File) -> Result<bool, WriteError> {
    for _ in 0..100 {
        if sys::lock(file, true)? || !sys::is_locked_by_a_writer(file)? {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(false)
}

/// The live entries of a store that was left behind.
#[derive(Default)]
pub struct Inventory {
    /// Offset and length of the record of each live key, with its version.
    entries: Vec<(u64, u64)>,
    /// Figures of a generation that holds just these.
    pub stats: Stats,
    /// Runs of bytes before the published tail that were not records.
    pub damaged: u64,
}

/// The newest record of each key, as far as the log was read.
#[derive(Default)]
struct Newest {
    records: HashMap<(Kind, Box<[u8]>), Found>,
    /// The highest version met.
    version: u64,
}

struct Found {
    version: u64,
    offset: u64,
    total: u64,
    tombstone: bool,
}

impl Newest {
    fn note(&mut self, offset: u64, record: &Record<'_>) {
        self.version = self.version.max(record.version);
        let found = Found {
            version: record.version,
            offset,
            total: record.shape().total,
            tombstone: record.tombstone,
        };
        match self.records.entry((record.kind, record.key.into())) {
            Entry::Vacant(entry) => {
                entry.insert(found);
            }
            Entry::Occupied(mut entry) if entry.get().version < found.version => {
                entry.insert(found);
            }
            Entry::Occupied(_) => {}
        }
    }
}

impl Inventory {
    /// Nothing but the figures that outlive the entries.
    pub fn empty(stats: Stats) -> Self {
        Self {
            stats,
            ..Self::default()
        }
    }
}

impl Remains {
    /// Reads everything back.
    pub fn take_inventory(&self) -> Inventory {
        let mut newest = Newest::default();
        let mut at = self.map.header.log_offset();
        while let Some(record) = self.record_at(at) {
            newest.note(at, &record);
            at += record.shape().total;
        }
        let damaged = at < self.stats.log_tail.min(self.map.header.file_size);
        if damaged {
            self.look_behind_damage(at, &mut newest);
        }
        let mut inventory = Inventory {
            damaged: damaged.into(),
            ..Inventory::default()
        };
        let stats = &mut inventory.stats;
        stats.version = newest.version.max(self.stats.version);
        for ((_, key), found) in newest.records {
            if !found.tombstone {
                inventory.entries.push((found.offset, found.total));
                stats.live_bytes += found.total;
                stats.reserved_bytes += RecordShape::tombstone(key.len() as u16);
            }
        }
        // In the order of the log: old neighbours stay neighbours.
        inventory.entries.sort_unstable();
        stats.entries = inventory.entries.len() as u64;
        stats.used_slots = stats.entries;
        stats.puts = self.stats.puts;
        stats.deletes = self.stats.deletes;
        stats.rollovers = self.stats.rollovers;
        inventory
    }

    /// The records from `damage` on, by the slots that name them. A key whose newest record is not whole
    /// has no value any more: an older one must not come back in its place.
    fn look_behind_damage(&self, damage: u64, newest: &mut Newest) {
        let mut lost = HashMap::new();
        for slot in self.map.index().slots() {
            let Ok(Some(value)) = slot.load() else {
                continue;
            };
            if value.record < damage || value.version >= MAX_COUNTER {
                continue;
            }
            let named = self.map.header.contains(&value);
            match named.then(|| self.record_at(value.record)).flatten() {
                Some(record) => newest.note(value.record, &record),
                None => {
                    newest.version = newest.version.max(value.version);
                    lost.insert((value.kind, slot.hash()), value.version);
                }
            }
        }
        let map = &self.map;
        newest.records.retain(|(kind, key), found| {
            let version = lost.get(&(*kind, map.hash(*kind, key)));
            version.is_none_or(|version| *version < found.version)
        });
    }

    fn record_at(&self, offset: u64) -> Option<Record<'_>> {
        let left = self.map.header.file_size.checked_sub(offset)?;
        if left < RECORD_HEADER as u64 {
            return None;
        }
        // The length first, so that no slice is longer than the one record.
        let head = self.map.region.sealed(offset, RECORD_HEADER as u64);
        let total = claimed_length(head, left)?;
        let record = Record::read(self.map.region.sealed(offset, total));
        record.filter(|record| record.version < MAX_COUNTER)
    }

    /// Copies the live records into an empty generation. `false`: its index has no place for one of
    /// them, which another seed will cure.
    pub fn copy_into(&self, inventory: &Inventory, next: &mut Generation) -> bool {
        let same_boot = self.map.header.boot_id == next.map.header.boot_id;
        inventory.entries.iter().all(|&(offset, total)| {
            let mut claim = next.map.region.claim(total).expect("planned for these");
            let bytes = self.map.region.sealed(offset, total);
            let record = Record::read(bytes).expect("read before");
            if record.attributes.expires_at != 0 && !same_boot {
                // The clock it was measured by is gone: how long it had left cannot be known.
                let mut expired = record;
                expired.attributes.expires_at = 1;
                expired.write(claim.bytes());
            } else {
                claim.bytes().copy_from_slice(bytes);
            }
            let at = claim.seal();
            next.stats.log_tail += total;
            next.adopt(at, &record.slot_value(at))
        })
    }

    /// The change counter where it stopped.
    pub fn changes(&self) -> u64 {
        self.map.words().changes()
    }

    /// Tells readers that a newer generation stands at the path.
    pub fn supersede(&self, changes: u64) {
        supersede(&self.map.region, changes);
    }

    /// Gives up an old generation that holds nothing to keep, so that the system can free it.
    pub fn discard(self, path: &Path, changes: u64) {
        let _ = rustix::fs::unlink(path);
        self.supersede(changes);
    }

    /// The highest version and the figures that outlive the entries.
    pub fn figures(&self) -> Stats {
        Stats {
            puts: self.stats.puts,
            deletes: self.stats.deletes,
            rollovers: self.stats.rollovers,
            version: self.take_inventory().stats.version,
            ..Stats::default()
        }
    }
}

/// Marks a generation superseded, moves its change counter and wakes whoever waits for it.
pub fn supersede(region: &Region, changes: u64) {
    let words = HeaderWords::new(region.header_words());
    words.set_state(State::Superseded);
    words.set_changes(changes);
    wake(region);
}

/// A store too damaged to be read.
pub struct Unreadable {
    pub id: FileId,
    /// As much as is where it is in any version, so that readers can still be told to leave it.
    pub header: Option<Region>,
}

/// What stands at a path where that is damaged.
pub fn unreadable(path: &Path) -> Result<Option<Unreadable>, WriteError> {
    let Some((file, stat)) = sys::open_own(path, OFlags::empty())? else {
        return Ok(None);
    };
    let has_header = stat.st_size as u64 >= HEADER_SIZE as u64;
    let header = has_header.then(|| Region::map(&file, HEADER_SIZE as u64, 0));
    Ok(Some(Unreadable {
        id: sys::file_id(&stat),
        header: header.transpose()?,
    }))
}

/// Marks, wakes and unlinks every file that an earlier writer left under a temporary name, `current`
/// being the one at the path. A file of somebody else stays: it can do no harm there.
pub fn sweep(path: &Path, current: Option<&Remains>) -> Result<(), WriteError> {
    let id = current.map(|current| current.map.id);
    for stray in sys::strays(path)? {
        if is_of_another_store(&stray, current) {
            let _ = rustix::fs::unlink(&stray);
            continue;
        }
        match open(&stray) {
            // A second name of the file at the path: nothing has taken its place yet.
            Err(WriteError::Locked) if sys::id_at(&stray)? == id => {}
            Ok(Some(remains)) => remains.supersede(remains.changes().wrapping_add(1)),
            // Ours, and not (yet) a store: killed while it was made.
            Err(WriteError::NotAStore | WriteError::Corrupt(_)) => {}
            // Somebody else's, or it could not be looked at: it might have readers to be told.
            Ok(None) | Err(_) => continue,
        }
        let _ = rustix::fs::unlink(&stray);
    }
    Ok(())
}

/// Whether a temporary name of ours was given, as one more, to the file of a store that is not ours: that store
/// is alive under its own name, and a mark would send its readers away for nothing.
fn is_of_another_store(stray: &Path, current: Option<&Remains>) -> bool {
    let Ok(Some((file, id, header))) = examine(stray) else {
        return false;
    };
    let has_other_names = file.metadata().is_ok_and(|found| found.nlink() > 1);
    let is_ours = current.is_some_and(|current| {
        current.map.id == id || current.map.header.store_id == header.store_id
    });
    has_other_names && !is_ours
}
