//! What a store held: read back from a file whose writer is gone.
//!
//! The log is the truth. Records are read from its start until the first that is not whole, which
//! is where the writer stopped. Of several records of a key the highest version counts. Should a
//! record *before* the published tail be damaged, the index still knows the ones behind it: every
//! slot that points there is checked and taken as well, so one flipped bit costs one entry.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use erlmcp_shm_layout::{
    HEADER_SIZE, Header, Kind, RECORD_HEADER, Record, RecordShape, State, Stats, claimed_length,
};
use rustix::fs::OFlags;

use crate::generation::{Generation, Mapped};
use crate::region::Region;
use crate::{WriteError, sys};

/// A store that some writer left behind.
pub struct Remains {
    pub map: Mapped,
    /// What its header says of itself.
    stats: Stats,
}

/// Opens the store at a path for recovery; `Ok(None)` if nothing is there.
pub fn open(path: &Path) -> Result<Option<Remains>, WriteError> {
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
    let map = Mapped {
        region: Region::map(&file, header.file_size, header.file_size)?,
        header,
        id: sys::file_id(&stat),
        populated: AtomicU64::new(0),
        huge: AtomicU64::new(0),
    };
    let stats = map.words().stats().unwrap_or_default();
    Ok(Some(Remains { map, stats }))
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
        let mut newest = HashMap::new();
        let mut version = self.stats.version;
        let mut note = |offset: u64, record: &Record<'_>| {
            version = version.max(record.version);
            let total = record.shape().total;
            let found = (record.version, offset, total, record.tombstone);
            let key: (Kind, Box<[u8]>) = (record.kind, record.key.into());
            let best = newest.entry(key).or_insert(found);
            if best.0 < found.0 {
                *best = found;
            }
        };
        let mut at = self.map.header.log_offset();
        while let Some(record) = self.record_at(at) {
            note(at, &record);
            at += record.shape().total;
        }
        let damaged = at < self.stats.log_tail.min(self.map.header.file_size);
        if damaged {
            for slot in self.map.index().slots() {
                let Ok(Some(value)) = slot.load() else {
                    continue;
                };
                if value.record < at || !self.map.header.contains(&value) {
                    continue;
                }
                if let Some(record) = self.record_at(value.record) {
                    note(value.record, &record);
                }
            }
        }
        let mut inventory = Inventory {
            damaged: damaged.into(),
            ..Inventory::default()
        };
        let stats = &mut inventory.stats;
        for ((_, key), (_, offset, total, tombstone)) in newest {
            if !tombstone {
                inventory.entries.push((offset, total));
                stats.live_bytes += total;
                stats.reserved_bytes += RecordShape::tombstone(key.len() as u16);
            }
        }
        // In the order of the log: old neighbours stay neighbours.
        inventory.entries.sort_unstable();
        stats.entries = inventory.entries.len() as u64;
        stats.used_slots = stats.entries;
        stats.version = version;
        stats.puts = self.stats.puts;
        stats.deletes = self.stats.deletes;
        stats.rollovers = self.stats.rollovers;
        inventory
    }

    fn record_at(&self, offset: u64) -> Option<Record<'_>> {
        let left = self.map.header.file_size.checked_sub(offset)?;
        if left < RECORD_HEADER as u64 {
            return None;
        }
        // The length first, so that no slice is longer than the one record.
        let head = self.map.region.sealed(offset, RECORD_HEADER as u64);
        let total = claimed_length(head, left)?;
        Record::read(self.map.region.sealed(offset, total))
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
        supersede(&self.map, changes);
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
pub fn supersede(map: &Mapped, changes: u64) {
    let words = map.words();
    words.set_state(State::Superseded);
    words.set_changes(changes);
    map.wake();
}

/// Marks, wakes and unlinks every file that an earlier writer left under a temporary name, `current`
/// being the one at the path. A file of somebody else stays: it can do no harm there.
pub fn sweep(path: &Path, current: Option<sys::FileId>) -> Result<(), WriteError> {
    for stray in sys::strays(path)? {
        match open(&stray) {
            // A second name of the file at the path: nothing has taken its place yet.
            Ok(Some(remains)) if Some(remains.map.id) == current => {}
            Ok(Some(remains)) => remains.supersede(remains.changes() + 1),
            Ok(None) | Err(WriteError::BadOwner) => continue,
            // Ours, and not (yet) a store: killed while it was made.
            Err(_) => {}
        }
        let _ = rustix::fs::unlink(&stray);
    }
    Ok(())
}
