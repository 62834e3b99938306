//! The fixed part of the 1024-byte header: what is written once, when a generation is made.

use crate::slot::{MAX_FILE_SIZE, SLOT_SIZE, SLOT_WORDS};
use crate::sync::AtomicU64;
use crate::words::STATE;
use crate::{FormatError, Index, RecordShape, SlotValue, State, checksum};

/// The first 8 bytes of every store.
pub const MAGIC: [u8; 8] = *b"ERLMCP01";
/// The format version written here.
pub const FORMAT_VERSION: u32 = 1;
/// Bytes of the header; the slot index follows it.
pub const HEADER_SIZE: usize = 1024;
/// The smallest index, in slots.
pub const MIN_SLOTS: u64 = 16;
/// The smallest store, in bytes: header, smallest index, and a log of 6 kB.
pub const MIN_FILE_SIZE: u64 = 8192;

/// Bytes of the part that [`Header::decode`] reads.
pub const FIXED_SIZE: usize = 128;

// Offsets of the fixed part.
pub(crate) const VERSION: usize = 8;
const HEADER_LEN: usize = 16;
const SLOT_LEN: usize = 20;
const FILE_SIZE: usize = 24;
const GENERATION: usize = 32;
const SEED: usize = 40;
const STORE_ID: usize = 48;
const INDEX_OFFSET: usize = 64;
const SLOT_COUNT: usize = 72;
const LOG_OFFSET: usize = 80;
const LOG_END: usize = 88;
const CREATED: usize = 96;
const BOOT_ID: usize = 104;
const HEADER_SUM: usize = 120;

/// What is fixed for the life of a generation.
///
/// ```
/// use erlmcp_shm_layout::Header;
/// let header = Header::new(1 << 20, 1024).unwrap();
/// let bytes = header.encode();
/// assert_eq!(Header::decode(&bytes, 1 << 20), Ok(header));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the file, exactly.
    pub file_size: u64,
    /// Rises by at least one with every new generation of a store.
    pub generation: u64,
    /// Seed of [`key_hash`](crate::key_hash).
    pub seed: u64,
    /// Drawn when a store starts from nothing or is cleared.
    pub store_id: [u8; 16],
    /// Slots of the index, a power of two.
    pub slot_count: u64,
    /// CLOCK_BOOTTIME in ns when the generation was made.
    pub created: u64,
    /// The boot that CLOCK_BOOTTIME values in this file belong to.
    pub boot_id: [u8; 16],
}

impl Header {
    /// The geometry of a file of `file_size` bytes with `slot_count` slots, all else zero; `None`
    /// if the two do not make a store.
    pub fn new(file_size: u64, slot_count: u64) -> Option<Self> {
        let fits = slot_count.is_power_of_two()
            && slot_count >= MIN_SLOTS
            && matches!(file_size, MIN_FILE_SIZE..=MAX_FILE_SIZE)
            && slot_count <= file_size / SLOT_SIZE as u64;
        let header = Self {
            file_size,
            generation: 0,
            seed: 0,
            store_id: [0; 16],
            slot_count,
            created: 0,
            boot_id: [0; 16],
        };
        (fits && header.log_offset() < file_size).then_some(header)
    }

    /// Bytes of the slot index.
    pub const fn index_size(&self) -> u64 {
        self.slot_count * SLOT_SIZE as u64
    }

    /// Offset of the log: right behind the index.
    pub const fn log_offset(&self) -> u64 {
        HEADER_SIZE as u64 + self.index_size()
    }

    /// Whether the record that a slot names lies inside the log.
    #[inline(always)]
    pub const fn contains(&self, value: &SlotValue) -> bool {
        // No overflow: offsets are below 2^47 and a record below 2^34.
        value.record >= self.log_offset()
            && value.record + RecordShape::of(value).total <= self.file_size
    }

    /// The first [`HEADER_SIZE`] bytes of a new file, in state [`State::Building`].
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(VERSION, &FORMAT_VERSION.to_le_bytes());
        put(HEADER_LEN, &(HEADER_SIZE as u32).to_le_bytes());
        put(SLOT_LEN, &(SLOT_SIZE as u32).to_le_bytes());
        put(FILE_SIZE, &self.file_size.to_le_bytes());
        put(GENERATION, &self.generation.to_le_bytes());
        put(SEED, &self.seed.to_le_bytes());
        put(STORE_ID, &self.store_id);
        put(INDEX_OFFSET, &(HEADER_SIZE as u64).to_le_bytes());
        put(SLOT_COUNT, &self.slot_count.to_le_bytes());
        put(LOG_OFFSET, &self.log_offset().to_le_bytes());
        put(LOG_END, &self.file_size.to_le_bytes());
        put(CREATED, &self.created.to_le_bytes());
        put(BOOT_ID, &self.boot_id);
        put(STATE, &(State::Building as u64).to_le_bytes());
        let sum = checksum(&out[HEADER_LEN..HEADER_SUM]);
        out[HEADER_SUM..FIXED_SIZE].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads the fixed part from the first bytes of a file that is `file_len` bytes long.
    ///
    /// Accepts any bytes; what it returns describes regions that lie inside the file.
    pub fn decode(bytes: &[u8], file_len: u64) -> Result<Self, FormatError> {
        if cfg!(not(all(
            target_endian = "little",
            target_pointer_width = "64"
        ))) {
            return Err(FormatError::Unsupported);
        }
        if bytes.get(..8) != Some(&MAGIC) {
            return Err(FormatError::NotAStore);
        }
        let version = bytes.get(VERSION..VERSION + 4);
        match version.map(|v| u32::from_le_bytes(v.try_into().expect("four bytes"))) {
            Some(FORMAT_VERSION) => {}
            Some(other) => return Err(FormatError::Version(other)),
            None => return Err(FormatError::Corrupt("the file ends inside its header")),
        }
        if bytes.len() < FIXED_SIZE || file_len < HEADER_SIZE as u64 {
            return Err(FormatError::Corrupt("the file ends inside its header"));
        }
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if checksum(&bytes[HEADER_LEN..HEADER_SUM]) != word(HEADER_SUM) {
            return Err(FormatError::Corrupt("header checksum"));
        }
        let sizes = word(HEADER_LEN);
        if sizes != (SLOT_SIZE as u64) << 32 | HEADER_SIZE as u64 {
            return Err(FormatError::Corrupt("header or slot size"));
        }
        let id = |at: usize| bytes[at..at + 16].try_into().expect("16 bytes");
        let header = Self {
            generation: word(GENERATION),
            seed: word(SEED),
            store_id: id(STORE_ID),
            created: word(CREATED),
            boot_id: id(BOOT_ID),
            ..Self::new(word(FILE_SIZE), word(SLOT_COUNT))
                .ok_or(FormatError::Corrupt("file size or slot count"))?
        };
        if word(INDEX_OFFSET) != HEADER_SIZE as u64
            || word(LOG_OFFSET) != header.log_offset()
            || word(LOG_END) != header.file_size
        {
            return Err(FormatError::Corrupt("offsets of index or log"));
        }
        if header.file_size != file_len {
            return Err(FormatError::Corrupt(
                "the file is not as long as its header says",
            ));
        }
        Ok(header)
    }
}

/// Slots of the smallest index that is at most half full with this many keys.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::least_slots(9), 32);
/// ```
pub const fn least_slots(keys: u64) -> u64 {
    // Any number may be asked for, one from a damaged file too.
    match keys.saturating_mul(2).checked_next_power_of_two() {
        Some(slots) if slots < MIN_SLOTS => MIN_SLOTS,
        Some(slots) => slots,
        None => 1 << 63,
    }
}

/// Bytes of log in a file of `size` bytes whose index is the smallest for this many keys.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::log_room(8192, 1), 8192 - 1024 - 16 * 64);
/// ```
pub const fn log_room(size: u64, keys: u64) -> u64 {
    let index = least_slots(keys).saturating_mul(SLOT_SIZE as u64);
    size.saturating_sub(index)
        .saturating_sub(HEADER_SIZE as u64)
}

/// The index of a generation, from its [`slot_count`](Header::slot_count) slots, which begin at
/// [`HEADER_SIZE`]. That they are a power of two, [`Header`] has seen to; a lookup does not look again.
///
/// # Panics
/// If there is not one slot.
#[inline(always)]
pub fn index(slots: &[[AtomicU64; SLOT_WORDS]]) -> Index<'_> {
    Index::trusted(slots)
}

const _: () = {
    // The specification: magic, version, entry count first; entries follow the first 1024 bytes.
    assert!(VERSION == 8 && HEADER_SIZE == 1024 && MAGIC.len() == 8);
    assert!(HEADER_LEN == VERSION + 8 && SLOT_LEN == HEADER_LEN + 4 && FILE_SIZE == SLOT_LEN + 4);
    assert!(GENERATION == FILE_SIZE + 8 && SEED == GENERATION + 8 && STORE_ID == SEED + 8);
    assert!(INDEX_OFFSET == STORE_ID + 16 && SLOT_COUNT == INDEX_OFFSET + 8);
    assert!(LOG_OFFSET == SLOT_COUNT + 8 && LOG_END == LOG_OFFSET + 8 && CREATED == LOG_END + 8);
    assert!(BOOT_ID == CREATED + 8 && HEADER_SUM == BOOT_ID + 16 && FIXED_SIZE == HEADER_SUM + 8);
    // Smallest header, index and a log.
    assert!(MIN_FILE_SIZE > HEADER_SIZE as u64 + MIN_SLOTS * SLOT_SIZE as u64);
};
