//! One generation as the writer holds it: the mapped file and the figures that go with it.
//!
//! # Orderings
//!
//! A publish is: the record's bytes (plain stores into a claim), then the slot's latch, whose fence
//! and Release store (W1, W3 in [`erlmcp_shm_layout::latch`]) order them before the sequence that a
//! reader acquires. The statistics and the change counter follow, of a batch once for each hold of the
//! lock; a reader that sees a count finds the publish it counts, and a writer killed in between has
//! published the entry all the same.

#[cfg(test)]
pub mod heap;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_shm_layout::{
    HEADER_SIZE, Header, HeaderWords, Index, Kind, Probe, Record, RecordShape, SLOT_SIZE, Slot,
    SlotValue, State, Stats, header, key_hash,
};
use rustix::thread::futex;

use crate::hints::Hints;
use crate::region::{Claim, HUGE, Region};
use crate::sizing::{Limits, Plan};
use crate::{WriteError, sys};

/// Bytes of the log to fetch for the next put, at most.
const FETCH_AHEAD: u64 = 2 << 10;
/// Bytes to populate in one step.
const POPULATE_STEP: u64 = 8 << 20;

pub const TRUNCATED: WriteError = WriteError::Corrupt("somebody truncated the file");

/// What is fixed for the life of a generation: its file, its mapping, its header.
#[derive(Debug)]
pub struct Mapped {
    pub region: Region,
    pub header: Header,
    /// Open for as long as it is mapped, and locked: whoever gets past a lock file that was removed
    /// still finds that this one has its writer.
    pub file: File,
    pub id: sys::FileId,
    /// Bytes from the start that have their pages.
    pub populated: AtomicU64,
    /// Bytes from the start that have huge pages.
    pub huge: AtomicU64,
    pub hints: Hints,
}

/// Who a generation belongs to, and where it stands among its siblings.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub store_id: [u8; 16],
    pub generation: u64,
}

/// Where a key is, or would go.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    hash: u64,
    /// `None`: no slot within reach, the index needs another seed.
    slot: Option<Slot<'a>>,
    /// What the slot says now, tombstones included.
    old: Option<SlotValue>,
}

impl Place<'_> {
    /// Whether a record of the key can be published at all.
    pub fn is_reachable(&self) -> bool {
        self.slot.is_some()
    }

    /// The entry, if the key has one.
    pub fn live(&self) -> Option<SlotValue> {
        self.old.filter(|value| !value.tombstone)
    }

    /// The figures of a generation once `record` is published here.
    pub fn after(&self, stats: &Stats, record: &Record<'_>) -> Stats {
        let total = record.shape().total;
        let tombstone = RecordShape::tombstone(record.key.len() as u16);
        let mut after = *stats;
        after.log_tail += total;
        after.used_slots += u64::from(self.old.is_none());
        if let Some(old) = self.live() {
            let old = RecordShape::of(&old).total;
            after.entries -= 1;
            after.live_bytes -= old;
            after.dead_bytes += old;
            after.reserved_bytes -= tombstone;
        }
        if record.tombstone {
            after.deletes += 1;
            after.dead_bytes += total;
        } else {
            after.puts += 1;
            after.entries += 1;
            after.live_bytes += total;
            after.reserved_bytes += tombstone;
        }
        after
    }
}

impl Mapped {
    /// Creates the file under `name` and maps it, by the first of the plans that there is room for.
    /// All of it is allocated, and populated as far as the live records will reach.
    pub fn create(
        name: &Path,
        plans: [Plan; 2],
        mode: u32,
        identity: Identity,
        live_bytes: u64,
    ) -> Result<Self, WriteError> {
        let create = |plan| Self::create_as(name, plan, mode, identity, live_bytes);
        match create(plans[0]) {
            Err(error) if error.is_no_room() => create(plans[1]),
            result => result,
        }
    }

    fn create_as(
        name: &Path,
        plan: Plan,
        mode: u32,
        identity: Identity,
        live_bytes: u64,
    ) -> Result<Self, WriteError> {
        let header = Header {
            generation: identity.generation,
            store_id: identity.store_id,
            seed: u64::from_ne_bytes(sys::random()?),
            created: sys::boottime_now(),
            boot_id: sys::boot_id(),
            ..Header::new(plan.file_size, plan.slot_count).ok_or(WriteError::BadOption("size"))?
        };
        let file = sys::create(name, plan.file_size, mode)?;
        let build = || -> Result<_, WriteError> {
            rustix::io::pwrite(&file, &header.encode(), 0)?;
            let id = sys::file_id(&rustix::fs::fstat(&file)?);
            let region = Region::map(&file, header.file_size, header.log_offset())?;
            // The index at once: every put goes through it.
            let huge = (0..header.log_offset()).step_by(HUGE);
            let huge = huge.take_while(|at| region.collapse(*at)).count() * HUGE;
            let populated = header.log_offset() + live_bytes + POPULATE_STEP;
            region.populate(0, populated);
            Ok((region, id, populated, huge))
        };
        let (region, id, populated, huge) = build().inspect_err(|_| {
            let _ = rustix::fs::unlink(name);
        })?;
        Ok(Self {
            region,
            header,
            file,
            id,
            populated: AtomicU64::new(populated),
            huge: AtomicU64::new(huge as u64),
            hints: Hints::new(header.slot_count),
        })
    }

    /// The words of the header that move.
    pub fn words(&self) -> HeaderWords<'_> {
        HeaderWords::new(self.region.header_words())
    }

    /// `Corrupt` where somebody truncated the file: to touch what is gone would be a SIGBUS, the end of this process.
    pub fn check_length(&self) -> Result<(), WriteError> {
        match sys::length(&self.file)? < self.header.file_size {
            true => Err(TRUNCATED),
            false => Ok(()),
        }
    }

    /// The slot index.
    pub fn index(&self) -> Index<'_> {
        let words = self.header.index_size() as usize / 8;
        let words = self.region.words(HEADER_SIZE, words);
        header::index(words.as_chunks().0)
    }

    /// The hash of a key in this generation.
    pub fn hash(&self, kind: Kind, key: &[u8]) -> u64 {
        key_hash(self.header.seed, kind, key)
    }

    /// The key of a published value.
    fn key_of(&self, value: &SlotValue) -> &[u8] {
        let key = value.record + RecordShape::of(value).key;
        self.region.sealed(key, value.key_len.into())
    }

    /// All bytes of the record of a published value.
    pub fn record_of(&self, value: &SlotValue) -> &[u8] {
        let total = RecordShape::of(value).total;
        self.region.sealed(value.record, total)
    }

    /// Finds the key's place.
    pub fn place(&self, kind: Kind, key: &[u8], hash: u64) -> Place<'_> {
        let is_key = |v: &SlotValue| self.key_of(v) == key;
        // The writer's lock is held, so no publish can disturb this.
        let (slot, old) = match self.index().probe(hash, kind, key.len() as u16, is_key) {
            Ok(Probe::Found(slot, value)) => (Some(slot), Some(value)),
            Ok(Probe::Vacant(slot)) => (Some(slot), None),
            Ok(Probe::Exhausted) | Err(_) => (None, None),
        };
        Place { hash, slot, old }
    }

    /// Whether log and index could take the step to `after`, with `pending` more to come.
    pub fn fits(&self, after: &Stats, pending: &Pending) -> bool {
        let log = after.log_tail + after.reserved_bytes.max(pending.reserved) + pending.bytes;
        let slots = after.used_slots + pending.keys;
        log <= self.header.file_size && slots <= self.header.slot_count / 2
    }

    /// Starts to fetch the home slot of a hash, and the hint which record it names.
    pub fn fetch_slot(&self, hash: u64) {
        let home = hash & (self.header.slot_count - 1);
        self.region
            .prefetch((HEADER_SIZE as u64) + home * SLOT_SIZE as u64);
        self.hints.fetch(hash);
    }

    /// Starts to fetch the key, of this hash and length, of the record that a change of it replaces, by the hint.
    pub fn fetch_old_key(&self, hash: u64, key_len: u16) {
        let key = RecordShape::new(key_len, 0, 0).key;
        self.region.prefetch(self.hints.record(hash) + key);
    }

    /// Whether a record has room, whatever the key's slot says: as a new key it would have. (That the
    /// index has a place for it within reach is not asked here.)
    pub fn has_room(&self, stats: &Stats, limits: &Limits, record: &Record<'_>) -> bool {
        let as_new = Place {
            hash: 0,
            slot: None,
            old: None,
        };
        let after = as_new.after(stats, record);
        let admitted = limits.admit(stats, &after, record.shape().total);
        admitted && self.fits(&after, &Pending::default())
    }

    /// Appends a record, for the caller to publish, or to retract where there is no place.
    ///
    /// # Panics
    /// If it does not fit, which the caller has checked: then the bookkeeping is wrong, and going on
    /// would damage the store.
    pub fn append(&self, record: &Record<'_>) -> Claim<'_> {
        let total = record.shape().total;
        let mut claim = self.region.claim(total).expect("room was checked");
        record.write(claim.bytes());
        claim
    }

    /// Publishes an appended record at its place.
    ///
    /// # Panics
    /// If the place is not reachable, which the caller has checked.
    pub fn publish(&self, place: &Place<'_>, record: &Record<'_>, claim: Claim<'_>) {
        let value = record.slot_value(claim.seal());
        let slot = place.slot.expect("reach was checked");
        slot.publish(place.hash, &value);
        self.hints.note(place.hash, value.record);
        // The next record goes right behind, and is likely of the same size: its lines may come from
        // memory while the caller is elsewhere.
        let next = value.record + RecordShape::of(&value).total;
        let ahead = RecordShape::of(&value).total.min(FETCH_AHEAD);
        (next..next + ahead)
            .step_by(64)
            .for_each(|line| self.region.prefetch(line));
    }

    /// Populates the next piece that puts will reach; `false` once the whole file is.
    pub fn populate_next(&self, tail: u64) -> bool {
        // Relaxed: the builder thread's own progress.
        let at = self.populated.load(Ordering::Relaxed).max(tail);
        self.region.populate(at, at + POPULATE_STEP);
        self.populated.store(at + POPULATE_STEP, Ordering::Relaxed);
        at < self.header.file_size
    }

    /// Gives the next 2 MiB below `end` huge pages; `false` once there is nothing left to do.
    pub fn collapse_next(&self, end: u64) -> bool {
        // Relaxed: the builder thread's own progress, and a figure for display.
        let at = self.huge.load(Ordering::Relaxed);
        let done = at < end && self.region.collapse(at);
        self.huge
            .fetch_add(u64::from(done) * HUGE as u64, Ordering::Relaxed);
        done
    }

    /// Wakes everyone who waits for the change counter.
    pub fn wake(&self) {
        wake(&self.region);
    }
}

/// A generation that takes records.
#[derive(Debug)]
pub struct Generation {
    pub map: Arc<Mapped>,
    /// The figures of this generation; the header has a copy that readers can see.
    pub stats: Stats,
}

impl Generation {
    /// An empty one, counting on from `before` where there is a predecessor.
    pub fn new(map: Mapped, before: &Stats) -> Self {
        let stats = Stats {
            log_tail: map.header.log_offset(),
            puts: before.puts,
            deletes: before.deletes,
            rollovers: before.rollovers,
            version: before.version,
            ..Stats::default()
        };
        Self {
            map: Arc::new(map),
            stats,
        }
    }

    /// Takes a record over from another generation as it stands, its checksum included. `false`: the
    /// index has no place for it within reach.
    pub fn adopt(&mut self, offset: u64, value: &SlotValue) -> bool {
        let value = SlotValue {
            record: offset,
            ..*value
        };
        let Self { map, stats } = self;
        let key = map.key_of(&value);
        let hash = map.hash(value.kind, key);
        let place = map.place(value.kind, key, hash);
        let Some(slot) = place.slot else { return false };
        slot.publish(hash, &value);
        map.hints.note(hash, offset);
        let total = RecordShape::of(&value).total;
        stats.live_bytes += total;
        stats.entries += 1;
        stats.used_slots += 1;
        stats.reserved_bytes += RecordShape::tombstone(value.key_len);
        true
    }

    /// Makes the figures visible, and the change counter with them.
    pub fn announce(&self, changes: u64) {
        let words = self.map.words();
        words.set_stats(&self.stats);
        words.set_changes(changes);
    }

    /// Marks the generation whole, before it goes to the path.
    pub fn go_live(&self, changes: u64, heartbeat_interval_ms: u64, max_size: u64) {
        let words = self.map.words();
        words.set_writer(heartbeat_interval_ms, std::process::id());
        words.set_max_size(max_size);
        words.set_heartbeat(sys::boottime_now());
        // Both halves of the statistics' latch: no flipped bit makes them read as none.
        self.announce(changes);
        self.announce(changes);
        words.set_state(State::Live);
    }
}

/// Wakes everyone who waits for the change counter of what is mapped there.
pub fn wake(region: &Region) {
    let words = HeaderWords::new(region.header_words());
    let word = region.futex(words.changes_word());
    // The only error is a bad address; the count of the woken is nobody's business.
    let _ = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// What a generation that is being built still has to take over.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pending {
    pub bytes: u64,
    pub keys: u64,
    /// The tombstones' reserve that the finished generation will need.
    pub reserved: u64,
}
