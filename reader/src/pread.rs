//! Reading by system calls into memory of our own, for readers that cannot accept a SIGBUS.
//!
//! Nothing read here is trusted before it is checked: a slot is read twice and must name the same
//! value both times; a record must bear its checksum, its key and its slot's version. A copy that a
//! concurrent publish tore fails one of these and is read again.

use crate::ReadError;
use crate::generation::RawEntry;
use crate::open::{read_at, words};
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::words::{CHANGES, STATE};
use erlmcp_shm_layout::{
    HEADER_SIZE, Header, Index, Kind, MAX_PROBE, MIN_SLOTS, Record, SLOT_SIZE,
};
use erlmcp_shm_layout::{RECORD_HEADER, RecordShape, SlotValue, State, record_length};
use rustix::io::Errno;
use std::fs::File;

/// How often a slot or record that changed while it was read is read again.
const MAX_RETRIES: usize = 64;
/// Slots fetched by one system call of a probe.
const GROUP: usize = 8;
const _: () = assert!(MIN_SLOTS.is_multiple_of(GROUP as u64));

/// A generation's file, open and not mapped.
pub(crate) struct PreadFile {
    file: File,
    header: Header,
}

impl PreadFile {
    pub fn new(file: File, header: Header) -> Self {
        Self { file, header }
    }

    /// A copy of the header's words.
    pub fn header_words(&self) -> Result<[AtomicU64; HEADER_SIZE / 8], ReadError> {
        let mut bytes = [0; HEADER_SIZE];
        self.read(&mut bytes, 0)?;
        Ok(words(&bytes))
    }

    /// The state; `None` where it cannot be read or is no state.
    pub fn state(&self) -> Option<State> {
        State::from_u64(self.word(STATE).ok()?)
    }

    /// The file's change counter.
    pub fn changes(&self) -> Result<u64, ReadError> {
        self.word(CHANGES)
    }

    fn word(&self, offset: usize) -> Result<u64, ReadError> {
        let mut bytes = [0; 8];
        self.read(&mut bytes, offset as u64)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// The slot value and record of a key; a tombstone's too.
    pub fn find(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(SlotValue, Vec<u8>)>, ReadError> {
        let found = self.find_slot(hash, kind, key)?;
        Ok(found.map(|(_, value, record)| (value, record)))
    }

    /// The sequence of the key's slot.
    pub fn sequence(&self, hash: u64, kind: Kind, key: &[u8]) -> Result<Option<u64>, ReadError> {
        let Some((position, ..)) = self.find_slot(hash, kind, key)? else {
            return Ok(None);
        };
        let sequence = self.word(slot_offset(position) as usize)?;
        Ok(Some(sequence))
    }

    fn find_slot(
        &self,
        hash: u64,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<(usize, SlotValue, Vec<u8>)>, ReadError> {
        let slots = self.header.slot_count as usize;
        let home = hash as usize & (slots - 1);
        let mut group = [0; SLOT_SIZE * GROUP];
        for step in 0..MAX_PROBE.min(slots) {
            let position = home.wrapping_add(step) & (slots - 1);
            // The slots from here to the end of the group, by one system call. No group wraps,
            // since the number of slots is a multiple of it.
            let at = position % GROUP * SLOT_SIZE;
            if step == 0 || at == 0 {
                self.read(&mut group[at..], slot_offset(position))?;
            }
            match u64_at(&group, at + 8) {
                0 => return Ok(None),
                found if found == hash => match self.entry(position)? {
                    Some((value, record)) if value.kind == kind && key_of(&record) == key => {
                        return Ok(Some((position, value, record)));
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(None)
    }

    /// What the slot at a position holds: nothing, or a value (perhaps a tombstone) and its record,
    /// which was checked against it.
    pub fn entry(&self, position: usize) -> Result<Option<(SlotValue, Vec<u8>)>, ReadError> {
        for _ in 0..MAX_RETRIES {
            let Some((_, value)) = self.slot(position)? else {
                return Ok(None);
            };
            match self.record(&value) {
                Ok(record) => return Ok(Some((value, record))),
                // Damaged, unless the slot has moved on meanwhile.
                Err(ReadError::Corrupt(what)) => {
                    if self.slot(position)?.is_some_and(|(_, now)| now == value) {
                        return Err(ReadError::Corrupt(what));
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(ReadError::Contended)
    }

    /// What the slot at a position holds, and the bytes that it names, unchecked.
    pub fn raw_entry(&self, position: usize) -> Result<Option<RawEntry<'_>>, ReadError> {
        let Some((hash, value)) = self.slot(position)? else {
            return Ok(None);
        };
        let record = match self.header.contains(&value) {
            true => Some(
                self.bytes(value.record, RecordShape::of(&value).total)?
                    .into(),
            ),
            false => None,
        };
        Ok(Some(RawEntry {
            hash,
            value,
            record,
        }))
    }

    /// Hash and value of a slot, the same in two readings, one after the other.
    pub fn slot(&self, position: usize) -> Result<Option<(u64, SlotValue)>, ReadError> {
        let mut last = None;
        for _ in 0..MAX_RETRIES {
            let mut bytes = [0; SLOT_SIZE];
            self.read(&mut bytes, slot_offset(position))?;
            let words: [AtomicU64; SLOT_SIZE / 8] = words(&bytes);
            let index = Index::new(&words).ok_or(ReadError::Corrupt("slot"))?;
            let value = index.slot(0).load()?;
            let seen = Some((u64_at(&bytes, 0), value));
            if last == seen {
                return Ok(value.map(|value| (u64_at(&bytes, 8), value)));
            }
            last = seen;
        }
        Err(ReadError::Contended)
    }

    /// The record that `value` names, checked against it.
    fn record(&self, value: &SlotValue) -> Result<Vec<u8>, ReadError> {
        if !self.header.contains(value) {
            return Err(ReadError::Corrupt("a slot points outside the log"));
        }
        let bytes = self.bytes(value.record, RecordShape::of(value).total)?;
        match Record::read(&bytes) {
            Some(record) if record.slot_value(value.record) == *value => Ok(bytes),
            _ => Err(ReadError::Corrupt("a record's checksum")),
        }
    }

    /// The record at an offset of the log, as long as it claims to be; `None` if it claims nonsense.
    pub fn log_record(&self, offset: u64, end: u64) -> Result<Option<Vec<u8>>, ReadError> {
        if end.saturating_sub(offset) < RECORD_HEADER as u64 {
            return Ok(None);
        }
        let mut head = [0; RECORD_HEADER];
        self.read(&mut head, offset)?;
        // The length that it claims, were the log to hold it: only this header is at hand.
        let claimed = u64_at(&head, 8);
        if claimed < RECORD_HEADER as u64 || claimed > end - offset {
            return Ok(None);
        }
        let bytes = self.bytes(offset, claimed)?;
        Ok(record_length(&bytes).is_some().then_some(bytes))
    }

    /// `len` bytes from `offset` on, in fresh memory; asks for it in a way that can fail.
    fn bytes(&self, offset: u64, len: u64) -> Result<Vec<u8>, ReadError> {
        let len = usize::try_from(len).map_err(|_| ReadError::Unsupported)?;
        let mut out = Vec::new();
        out.try_reserve_exact(len)
            .map_err(|_| ReadError::Io(Errno::NOMEM))?;
        out.resize(len, 0);
        self.read(&mut out, offset)?;
        Ok(out)
    }

    fn read(&self, out: &mut [u8], offset: u64) -> Result<(), ReadError> {
        match read_at(&self.file, out, offset)? {
            n if n == out.len() => Ok(()),
            _ => Err(ReadError::Corrupt("the file was truncated")),
        }
    }
}

fn slot_offset(position: usize) -> u64 {
    (HEADER_SIZE + position * SLOT_SIZE) as u64
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// The key of a record that was checked.
fn key_of(record: &[u8]) -> &[u8] {
    Record::read(record).map_or(&[], |record| record.key)
}
