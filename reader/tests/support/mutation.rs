// Ways in which a file is not what it should be. Shared by the tests and the fuzz targets.

#![allow(dead_code, reason = "each test file uses a part of it")]

use super::support::Image;
use arbitrary::Arbitrary;
use erlmcp_shm_layout::{
    Attributes, HEADER_SIZE, Kind, MAX_FILE_SIZE, MIN_FILE_SIZE, Record, SLOT_SIZE, SlotValue,
    checksum, record_length,
};

/// Bytes of the file that is mutated, and its slots.
pub const SIZE: u64 = 32 << 10;
const SLOTS: usize = 64;
const LOG: usize = HEADER_SIZE + SLOTS * SLOT_SIZE;

/// A sound file with entries of every kind, one of them expired and one deleted.
pub fn image() -> Image {
    image_from(0)
}

/// The same with sequences that begin there.
pub fn image_from(sequence: u64) -> Image {
    let mut image = Image::new(SIZE, SLOTS as u64);
    image.count_from(sequence);
    for i in 0..20u8 {
        let data = vec![i; usize::from(i) * 20];
        image.put(Kind::ALL[usize::from(i) % 4], &[i, 1], &data, b"{}");
    }
    let attributes = Attributes {
        expires_at: 5,
        ..Default::default()
    };
    image.put_with(Kind::Resource, b"x", b"value", b"{}", attributes);
    image.delete(Kind::Resource, &[4, 1]);
    image
}

/// One way to change it. Positions are taken modulo what they may be.
#[derive(Arbitrary, Clone, Debug)]
pub enum Mutation {
    /// A word of the header's fixed part, with its checksum made right again.
    Fixed(u16, u64),
    /// A word anywhere in one of the regions behind it.
    Moving(u16, u64),
    Slot(u16, u64),
    Log(u16, u64),
    /// Eight bytes anywhere in a record, with its checksum made right again.
    Record(u8, u16, u64),
    /// A byte anywhere, nothing made right.
    Byte(u16, u8),
    /// Both halves of a slot name another place, kind and length.
    Value(u16, u64, u8, u16, u32, u32),
    /// Two slots change places.
    Swap(u16, u16),
    /// The file ends early, or goes on.
    Cut(u16),
    Grow(u16),
}

/// The image with every mutation made, one after the other.
pub fn mutated(mutations: &[Mutation]) -> Vec<u8> {
    thread_local!(static IMAGE: Vec<u8> = image().bytes());
    let mut bytes = IMAGE.with(Clone::clone);
    for mutation in mutations {
        apply(&mut bytes, mutation);
    }
    bytes
}

/// The bytes as a file that gets past the first checks: zeros behind what is shorter than any store, and
/// the header's checksum made right.
pub fn plausible(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().max(MIN_FILE_SIZE as usize), 0);
    sign_header(&mut bytes);
    bytes
}

fn sign_header(bytes: &mut [u8]) {
    if bytes.len() >= 128 {
        let sum = checksum(&bytes[16..120]);
        set(bytes, 120, sum);
    }
}

fn set(bytes: &mut [u8], at: usize, n: u64) {
    if let Some(word) = bytes.get_mut(at..at + 8) {
        word.copy_from_slice(&n.to_le_bytes());
    }
}

fn index(i: u16, len: usize) -> usize {
    usize::from(i) % len
}

fn slot(i: u16) -> usize {
    HEADER_SIZE + index(i, SLOTS) * SLOT_SIZE
}

/// The bytes of a record, by the lengths that the ones before it claim.
fn record(bytes: &mut [u8], i: u8) -> Option<&mut [u8]> {
    let mut log = bytes.get_mut(LOG..)?;
    for _ in 0..i % 24 {
        let len = record_length(log)?;
        log = &mut log[len..];
    }
    let len = record_length(log)?;
    Some(&mut log[..len])
}

/// Makes one mutation.
pub fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    match *mutation {
        Mutation::Fixed(i, n) => {
            set(bytes, 8 + index(i, 14) * 8, n);
            sign_header(bytes);
        }
        Mutation::Moving(i, n) => set(bytes, 128 + index(i, 112) * 8, n),
        Mutation::Slot(i, n) => set(bytes, HEADER_SIZE + index(i, SLOTS * 8) * 8, n),
        Mutation::Log(i, n) => set(bytes, LOG + index(i, 8000), n),
        Mutation::Record(i, at, n) => {
            if let Some(record) = record(bytes, i) {
                set(record, 8 + index(at, record.len() - 8), n);
                // Of the length that it claims now, if there is room for that.
                if let Some(record) = self::record(bytes, i) {
                    Record::sign(record);
                }
            }
        }
        Mutation::Byte(i, n) if !bytes.is_empty() => {
            let at = index(i, bytes.len());
            bytes[at] = n;
        }
        Mutation::Byte(..) => {}
        Mutation::Value(i, place, kind, key_len, data_len, metadata_len) => {
            let value = SlotValue {
                record: place & (MAX_FILE_SIZE - 8),
                kind: Kind::ALL[usize::from(kind) % 4],
                tombstone: place % 2 == 1,
                key_len,
                data_len,
                metadata_len,
                version: place,
            };
            for (i_word, word) in value.encode().into_iter().enumerate() {
                set(bytes, slot(i) + 16 + i_word * 8, word);
                set(bytes, slot(i) + 40 + i_word * 8, word);
            }
        }
        Mutation::Swap(i, j) if bytes.len() >= LOG => {
            for k in 0..SLOT_SIZE {
                bytes.swap(slot(i) + k, slot(j) + k);
            }
        }
        Mutation::Swap(..) => {}
        Mutation::Cut(i) => bytes.truncate(index(i, bytes.len() + 1)),
        Mutation::Grow(n) => bytes.resize(bytes.len() + usize::from(n), 0xa5),
    }
}
