//! Log records: a fixed header, padding, and the entry as the specification writes it.
//!
//! ```text
//!   0        8        16       24       32 33 34 35      40      40+pad
//!  +--------+--------+--------+--------+--+--+--+-------+-------+--------------------------+----+
//!  |checksum| length |version |expiry  |sc|fl|pd| zero  |padding| entry (big-endian)       |zero|
//!  +--------+--------+--------+--------+--+--+--+-------+-------+--------------------------+----+
//!
//!  entry     [Type:8][KeyLen:16][Key][DataLen:32][Data][MetadataLen:32][Metadata]
//! ```
//!
//! * **checksum** XXH3-64 (seed 0) of everything behind it, up to the record's end.
//! * **length** bytes of the whole record, this header and the zeros at its end included; a multiple
//!   of 8. 0 is the end of the log.
//! * **version** of the entry, unique in the store and rising with every publish.
//! * **expiry** CLOCK_BOOTTIME in ns at which the entry expires; 0 is never.
//! * **sc** scope: 0 public, 1 private. **fl** flags: bit 0 tombstone. **pd** bytes of padding, 0 to 7.
//! * **padding** zeros that put Data on a multiple of 8.
//!
//! Header integers are little-endian; the entry's are big-endian, as Erlang writes them. A tombstone
//! has no data and no metadata.

use crate::{Kind, Scope, SlotValue, checksum};

/// Bytes of the fixed header.
pub const RECORD_HEADER: usize = 40;
/// The longest key, in bytes.
pub const MAX_KEY: usize = u16::MAX as usize;

const LENGTH: usize = 8;
const VERSION: usize = 16;
const EXPIRY: usize = 24;
const SCOPE: usize = 32;
const FLAGS: usize = 33;
const PAD: usize = 34;
const TOMBSTONE: u8 = 1;
/// Type and KeyLen.
const ENTRY_HEAD: usize = 3;

/// Where the parts of a record lie, as offsets from its start.
///
/// ```
/// let shape = erlmcp_shm_layout::RecordShape::new(5, 100, 2);
/// assert_eq!(shape.data % 8, 0);
/// assert_eq!(shape.total % 8, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordShape {
    /// Start of the entry (its Type byte).
    pub entry: u64,
    /// Start of the key.
    pub key: u64,
    /// Start of the data, a multiple of 8.
    pub data: u64,
    /// Start of the metadata.
    pub metadata: u64,
    /// End of the metadata: what follows is zeros.
    pub end: u64,
    /// Bytes of the whole record, a multiple of 8.
    pub total: u64,
}

impl RecordShape {
    /// The shape that follows from the three lengths.
    #[inline(always)]
    pub const fn new(key_len: u16, data_len: u32, metadata_len: u32) -> Self {
        let key_len = key_len as u64;
        let unpadded = (RECORD_HEADER + ENTRY_HEAD + 4) as u64 + key_len;
        let data = (unpadded + 7) & !7;
        let key = data - 4 - key_len;
        let metadata = data + data_len as u64 + 4;
        let end = metadata + metadata_len as u64;
        Self {
            entry: key - ENTRY_HEAD as u64,
            key,
            data,
            metadata,
            end,
            total: (end + 7) & !7,
        }
    }

    /// The shape of the record a slot points to.
    #[inline(always)]
    pub const fn of(value: &SlotValue) -> Self {
        Self::new(value.key_len, value.data_len, value.metadata_len)
    }

    /// Bytes of the tombstone of a key: never more than of any record of that key.
    pub const fn tombstone(key_len: u16) -> u64 {
        Self::new(key_len, 0, 0).total
    }
}

/// Expiry and scope, as a record carries them.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::Attributes::default().expires_at, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// CLOCK_BOOTTIME in ns at which the entry expires; 0 is never.
    pub expires_at: u64,
    /// Who may share a copy.
    pub scope: Scope,
}

/// A record to be written, or one that was read.
///
/// ```
/// use erlmcp_shm_layout::{Kind, Record};
/// let record = Record { kind: Kind::Resource, version: 1, tombstone: false,
///     attributes: Default::default(), key: b"file:///a", data: b"hello", metadata: b"{}" };
/// let mut bytes = vec![0; record.shape().total as usize];
/// record.write(&mut bytes);
/// assert_eq!(Record::read(&bytes).unwrap(), record);
/// bytes[60] ^= 1;
/// assert!(Record::read(&bytes).is_none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The name space of the key.
    pub kind: Kind,
    /// Version of the entry.
    pub version: u64,
    /// Whether this record deletes its key.
    pub tombstone: bool,
    /// Expiry and scope.
    pub attributes: Attributes,
    /// 1 to [`MAX_KEY`] bytes.
    pub key: &'a [u8],
    /// The published bytes.
    pub data: &'a [u8],
    /// JSON text.
    pub metadata: &'a [u8],
}

impl<'a> Record<'a> {
    /// Where the parts go.
    ///
    /// The lengths are checked by the writer before it makes a record; longer ones are cut here.
    pub fn shape(&self) -> RecordShape {
        RecordShape::new(
            self.key.len() as u16,
            self.data.len() as u32,
            self.metadata.len() as u32,
        )
    }

    /// What the slot of this record says, once the record stands at `offset`.
    pub fn slot_value(&self, offset: u64) -> SlotValue {
        SlotValue {
            record: offset,
            kind: self.kind,
            tombstone: self.tombstone,
            key_len: self.key.len() as u16,
            data_len: self.data.len() as u32,
            metadata_len: self.metadata.len() as u32,
            version: self.version,
        }
    }

    /// Writes the record into `out`, exactly [`RecordShape::total`] bytes.
    ///
    /// # Panics
    /// If `out` has another length.
    pub fn write(&self, out: &mut [u8]) {
        self.fill(out);
        Self::sign(out);
    }

    /// The first half of [`write`](Self::write): all but the checksum.
    ///
    /// ```
    /// # use erlmcp_shm_layout::{Kind, Record};
    /// # let record = Record { kind: Kind::Resource, version: 1, tombstone: false,
    /// #     attributes: Default::default(), key: b"file:///a", data: b"hello", metadata: b"{}" };
    /// let mut bytes = vec![0; record.shape().total as usize];
    /// record.fill(&mut bytes);
    /// assert!(Record::read(&bytes).is_none());
    /// Record::sign(&mut bytes);
    /// assert_eq!(Record::read(&bytes).unwrap(), record);
    /// ```
    ///
    /// # Panics
    /// If `out` has another length than [`RecordShape::total`].
    pub fn fill(&self, out: &mut [u8]) {
        let shape = self.shape();
        assert_eq!(out.len() as u64, shape.total);
        let (entry, key) = (shape.entry as usize, shape.key as usize);
        let (data, metadata) = (shape.data as usize, shape.metadata as usize);
        out[LENGTH..VERSION].copy_from_slice(&shape.total.to_le_bytes());
        out[VERSION..EXPIRY].copy_from_slice(&self.version.to_le_bytes());
        out[EXPIRY..SCOPE].copy_from_slice(&self.attributes.expires_at.to_le_bytes());
        out[SCOPE] = self.attributes.scope as u8;
        out[FLAGS] = if self.tombstone { TOMBSTONE } else { 0 };
        out[PAD] = (entry - RECORD_HEADER) as u8;
        out[PAD + 1..entry].fill(0);
        out[entry] = self.kind as u8;
        out[entry + 1..key].copy_from_slice(&(self.key.len() as u16).to_be_bytes());
        out[key..data - 4].copy_from_slice(self.key);
        out[data - 4..data].copy_from_slice(&(self.data.len() as u32).to_be_bytes());
        out[data..metadata - 4].copy_from_slice(self.data);
        out[metadata - 4..metadata].copy_from_slice(&(self.metadata.len() as u32).to_be_bytes());
        out[metadata..shape.end as usize].copy_from_slice(self.metadata);
        out[shape.end as usize..].fill(0);
    }

    /// The second half of [`write`](Self::write): the checksum of what [`fill`](Self::fill) wrote.
    ///
    /// # Panics
    /// If `out` is shorter than [`RECORD_HEADER`].
    pub fn sign(out: &mut [u8]) {
        let sum = checksum(&out[LENGTH..]);
        out[..LENGTH].copy_from_slice(&sum.to_le_bytes());
    }

    /// The record at the start of `log`, or `None` where there is no whole and undamaged one.
    pub fn read(log: &'a [u8]) -> Option<Self> {
        let total = record_length(log)?;
        let bytes = &log[..total];
        if u64_at(bytes, 0) != checksum(&bytes[LENGTH..]) {
            return None;
        }
        let entry = RECORD_HEADER + bytes[PAD] as usize;
        let key = entry + ENTRY_HEAD;
        let key_len = u16::from_be_bytes(bytes.get(entry + 1..key)?.try_into().ok()?);
        let data = key + key_len as usize + 4;
        let data_len = u32::from_be_bytes(bytes.get(data - 4..data)?.try_into().ok()?);
        let metadata = data + data_len as usize + 4;
        let metadata_len = u32::from_be_bytes(bytes.get(metadata - 4..metadata)?.try_into().ok()?);
        let shape = RecordShape::new(key_len, data_len, metadata_len);
        if shape.entry != entry as u64 || shape.total != total as u64 || key_len == 0 {
            return None;
        }
        Some(Self {
            kind: Kind::from_u8(bytes[entry])?,
            version: u64_at(bytes, VERSION),
            tombstone: bytes[FLAGS] & TOMBSTONE != 0,
            attributes: attributes(bytes),
            key: &bytes[key..data - 4],
            data: &bytes[data..metadata - 4],
            metadata: &bytes[metadata..shape.end as usize],
        })
    }
}

/// Expiry and scope from a record's fixed header.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::attributes(&[0; 40]), Default::default());
/// ```
///
/// # Panics
/// If `header` is shorter than [`RECORD_HEADER`].
pub fn attributes(header: &[u8]) -> Attributes {
    Attributes {
        expires_at: u64_at(header, EXPIRY),
        scope: if header[SCOPE] == Scope::Private as u8 {
            Scope::Private
        } else {
            Scope::Public
        },
    }
}

/// The length that the record at the start of `log` claims, if that many bytes are there.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::record_length(&[0; 64]), None); // the end of a log
/// ```
pub fn record_length(log: &[u8]) -> Option<usize> {
    claimed_length(log, log.len() as u64).map(|total| total as usize)
}

/// The length that a record claims in its fixed header, if it is one and at most `left`, the bytes
/// from the record's start to the end of the log. For callers that may not look at more than the
/// header before they know.
///
/// ```
/// let mut header = [0; erlmcp_shm_layout::RECORD_HEADER];
/// header[8] = 64;
/// assert_eq!(erlmcp_shm_layout::claimed_length(&header, 64), Some(64));
/// assert_eq!(erlmcp_shm_layout::claimed_length(&header, 63), None);
/// ```
pub fn claimed_length(header: &[u8], left: u64) -> Option<u64> {
    let total = (header.len() >= RECORD_HEADER).then(|| u64_at(header, LENGTH))?;
    let whole = total >= RECORD_HEADER as u64 && total <= left && total.is_multiple_of(8);
    whole.then_some(total)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

const _: () = {
    assert!(VERSION == LENGTH + 8 && EXPIRY == VERSION + 8 && SCOPE == EXPIRY + 8);
    assert!(FLAGS == SCOPE + 1 && PAD == FLAGS + 1 && RECORD_HEADER == SCOPE + 8);
    let s = RecordShape::new(9, 5, 2);
    assert!(s.entry == 40 && s.key == 43 && s.data == 56 && s.metadata == 65 && s.total == 72);
    // The longest record still fits the arithmetic.
    let s = RecordShape::new(u16::MAX, u32::MAX, u32::MAX);
    assert!(s.data.is_multiple_of(8) && s.total.is_multiple_of(8));
    assert!(s.total > u32::MAX as u64 * 2);
};
