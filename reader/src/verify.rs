//! Checking a whole generation, byte by byte: what lookups leave out for speed.

use crate::ReadError;
use crate::generation::{Generation, patiently};
use erlmcp_shm_layout::{Kind, Record, RecordShape, SLOT_SIZE, SlotValue, key_hash};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a check of every record and slot found; from [`View::verify`](crate::View::verify).
///
/// Checked are the checksum of every record of the log up to the tail that the writer published,
/// and, for every slot, that its record is whole, is the one that it describes, and is found under
/// its key. Takes as long as reading the whole file.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::Reader;
/// let found = Reader::open(store.path())?.verify()?;
/// assert!(found.is_sound());
/// assert_eq!((found.records, found.entries), (3, 3));
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Records of the log that are whole, dead ones and tombstones included.
    pub records: u64,
    /// Bytes of the log that were walked.
    pub log_bytes: u64,
    /// Live entries that are whole.
    pub entries: u64,
    /// What is not, in the order of the file.
    pub damaged: Vec<Damage>,
}

impl Verification {
    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty()
    }
}

/// One damaged place of a file.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::Reader;
/// store.damage(b"hello");
/// let found = Reader::open(store.path())?.verify()?;
/// assert_eq!(found.damaged[0].what, "a record's checksum");
/// assert_eq!(found.damaged[0].key.as_deref(), Some(&b"file:///hello.txt"[..]));
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Offset of the record in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The key's name space and bytes, where the slot's hash proves that they are undamaged.
    pub kind: Option<Kind>,
    /// As above.
    pub key: Option<Vec<u8>>,
}

const CHECKSUM: &str = "a record's checksum";
const OUTSIDE: &str = "a slot points outside the log";
const DISAGREE: &str = "a record is not what its slot says";
const OVERLAP: &str = "records overlap";

pub(crate) fn verify(
    generation: &Arc<Generation>,
    told: &mut dyn FnMut(u64, u64),
) -> Result<Verification, ReadError> {
    let stats = |generation: &Generation| {
        let stats = generation.words(|words| words.stats())?;
        stats.ok_or(ReadError::Contended)
    };
    let mut check = Check {
        generation,
        found: Verification::default(),
        known: BTreeMap::new(),
        damaged: BTreeMap::new(),
        progress: Progress::new(generation, told),
    };
    check.note_slots()?;
    // The tail after the slots: so the records that they name lie before it, but for those of puts
    // that were just going on.
    let tail = patiently(|| stats(generation))?.log_tail;
    if tail < generation.header.log_offset() || tail > generation.header.file_size {
        return Err(ReadError::Corrupt("the log's tail lies outside the log"));
    }
    check.progress.total += tail - generation.header.log_offset();
    check.walk_log(tail)?;
    check.compare_slots()?;
    check.found.damaged = check.damaged.into_values().collect();
    Ok(check.found)
}

struct Check<'a> {
    generation: &'a Arc<Generation>,
    found: Verification,
    /// The records that slots name, and whether the log holds just that.
    known: BTreeMap<u64, (SlotValue, bool)>,
    damaged: BTreeMap<u64, Damage>,
    progress: Progress<'a>,
}

/// How much of the work is done, in bytes: the index is walked twice and the log once.
struct Progress<'a> {
    told: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
    next: u64,
}

/// So many bytes after one another are worth a call.
const STEP: u64 = 256 << 10;

impl<'a> Progress<'a> {
    /// As long as the log's tail is not known, of the index alone.
    fn new(generation: &Generation, told: &'a mut dyn FnMut(u64, u64)) -> Self {
        Self {
            told,
            done: 0,
            total: 2 * generation.header.slot_count * SLOT_SIZE as u64,
            next: STEP,
        }
    }

    fn step(&mut self, bytes: u64) {
        self.done += bytes;
        if self.done >= self.next {
            self.next = self.done + STEP;
            (self.told)(self.done, self.total);
        }
    }
}

impl Check<'_> {
    fn damage(&mut self, offset: u64, what: &'static str, key: Option<(Kind, Vec<u8>)>) {
        let (kind, key) = key.unzip();
        let damage = Damage {
            offset,
            what,
            kind,
            key,
        };
        match self.damaged.get(&offset) {
            Some(before) if before.key.is_some() || damage.key.is_none() => {}
            _ => {
                self.damaged.insert(offset, damage);
            }
        }
    }

    fn positions(&self) -> std::ops::Range<usize> {
        0..self.generation.header.slot_count as usize
    }

    fn note_slots(&mut self) -> Result<(), ReadError> {
        for position in self.positions() {
            self.progress.step(SLOT_SIZE as u64);
            if let Some((_, value)) = patiently(|| self.generation.slot(position))? {
                self.known.insert(value.record, (value, false));
            }
        }
        Ok(())
    }

    fn walk_log(&mut self, tail: u64) -> Result<(), ReadError> {
        let start = self.generation.header.log_offset();
        self.found.log_bytes = tail - start;
        // Whole records are read once, and of honest damage no more than a few times the log.
        let mut budget = Budget((tail - start).saturating_mul(4));
        let mut offset = start;
        while offset < tail {
            let record = self.generation.log_record(offset, tail)?;
            let next = record.as_ref().map(|record| offset + record.len() as u64);
            budget.spend(next.unwrap_or(offset) - offset)?;
            let seen = record.as_deref().and_then(Record::read);
            if let Some(seen) = seen {
                self.found.records += 1;
                if let Some((value, sound)) = self.known.get_mut(&offset) {
                    *sound = *value == seen.slot_value(offset);
                }
            } else {
                self.damage(offset, CHECKSUM, None);
            }
            let before = offset;
            offset = match next {
                Some(next) if seen.is_some() => next,
                // Behind damage: where its length says, if a whole record stands there; else at
                // the next record that a slot names.
                Some(next) if next == tail || self.is_record(next, tail, &mut budget)? => next,
                _ => {
                    let mut behind = self.known.range(offset + 1..);
                    behind.next().map_or(tail, |(offset, _)| *offset)
                }
            };
            self.progress.step(offset - before);
        }
        Ok(())
    }

    fn is_record(&self, offset: u64, tail: u64, budget: &mut Budget) -> Result<bool, ReadError> {
        let Some(record) = self.generation.log_record(offset, tail)? else {
            return Ok(false);
        };
        budget.spend(record.len() as u64)?;
        Ok(Record::read(&record).is_some())
    }

    fn compare_slots(&mut self) -> Result<(), ReadError> {
        let generation = self.generation;
        // For records published since the walk, which are as disjoint as all.
        let mut budget = Budget(generation.header.file_size);
        for position in self.positions() {
            self.progress.step(SLOT_SIZE as u64);
            let Some(raw) = patiently(|| generation.raw_entry(position))? else {
                continue;
            };
            let (hash, value) = (raw.hash, raw.value);
            let Some(record) = raw.record else {
                self.damage(value.record, OUTSIDE, None);
                continue;
            };
            let key = &record[RecordShape::of(&value).key as usize..][..value.key_len.into()];
            let genuine = key_hash(generation.header.seed, value.kind, key) == hash;
            let owned = || genuine.then(|| (value.kind, key.to_vec()));
            let sound = match self.known.get(&value.record) {
                Some((_, true)) => true,
                Some((_, false)) if self.damaged.contains_key(&value.record) => false,
                _ => {
                    budget.spend(record.len() as u64)?;
                    let seen = Record::read(&record);
                    seen.is_some_and(|seen| seen.slot_value(value.record) == value)
                }
            };
            if !sound {
                let walked = self.damaged.contains_key(&value.record);
                self.damage(
                    value.record,
                    if walked { CHECKSUM } else { DISAGREE },
                    owned(),
                );
            } else if !genuine {
                self.damage(value.record, "a slot's hash is not its key's", None);
            } else if !self.is_found(hash, &value, key)? {
                self.damage(value.record, "a lookup misses a slot's key", owned());
            } else {
                self.found.entries += u64::from(!value.tombstone);
            }
        }
        Ok(())
    }

    /// Whether a lookup of the key ends at this value, or at one published meanwhile.
    fn is_found(&self, hash: u64, value: &SlotValue, key: &[u8]) -> Result<bool, ReadError> {
        let found = patiently(|| self.generation.find_version(hash, value.kind, key))?;
        Ok(found.is_some_and(|version| version >= value.version))
    }
}

/// How many more bytes may be read, so that no file makes a check take for ever.
struct Budget(u64);

impl Budget {
    fn spend(&mut self, bytes: u64) -> Result<(), ReadError> {
        self.0 = self
            .0
            .checked_sub(bytes)
            .ok_or(ReadError::Corrupt(OVERLAP))?;
        Ok(())
    }
}
