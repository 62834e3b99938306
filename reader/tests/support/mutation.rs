// Files that are not what they should be: a sound one, and what may be wrong with it. Whoever uses
// this has the module `support` beside it.

use super::support::Image;
use erlmcp_shm_layout::{Attributes, HEADER_SIZE, Kind, MAX_FILE_SIZE, SlotValue, checksum};
use proptest::prelude::*;
use proptest::sample::Index;

/// Bytes of the image.
pub const SIZE: u64 = 32 << 10;

/// Live entries of every kind, one that has expired, and a deleted one; the sequences
/// begin at `sequence`.
pub fn image(sequence: u64) -> Image {
    let mut image = Image::new(SIZE, 64);
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

/// One way in which a file is not what it should be.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A word anywhere in one of the regions, with the header's checksum made right again.
    Fixed(Index, u64),
    Moving(Index, u64),
    Slot(Index, u64),
    Log(Index, u64),
    /// A byte anywhere, nothing made right.
    Byte(Index, u8),
    /// A slot's current half names another place, kind and length.
    Value(Index, u64, u8, u16, u32, u32),
    /// Two slots change places.
    Swap(Index, Index),
    /// The file ends early, or goes on.
    Cut(Index),
    Grow(u16),
}

fn number() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        7,
        8,
        255,
        SIZE - 8,
        SIZE,
        SIZE + 8,
        MAX_FILE_SIZE - 8,
        u64::MAX - 7,
        u64::MAX,
    ];
    prop_oneof![
        prop::sample::select(edges.to_vec()),
        any::<u64>(),
        (0u32..64).prop_map(|bit| 1 << bit),
        0..SIZE,
    ]
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = any::<Index>;
    prop_oneof![
        (at(), number()).prop_map(|(i, n)| Fixed(i, n)),
        (at(), number()).prop_map(|(i, n)| Moving(i, n)),
        (at(), number()).prop_map(|(i, n)| Slot(i, n)),
        (at(), number()).prop_map(|(i, n)| Log(i, n)),
        (at(), any::<u8>()).prop_map(|(i, n)| Byte(i, n)),
        (
            at(),
            number(),
            0u8..4,
            any::<u16>(),
            any::<u32>(),
            any::<u32>()
        )
            .prop_map(|(i, place, kind, key, data, meta)| Value(i, place, kind, key, data, meta)),
        (at(), number(), 0u8..4, 0u16..4, 0u32..99, 0u32..9)
            .prop_map(|(i, place, kind, key, data, meta)| Value(i, place, kind, key, data, meta)),
        (at(), at()).prop_map(|(i, j)| Swap(i, j)),
        at().prop_map(Cut),
        any::<u16>().prop_map(Grow),
    ]
}

fn set(bytes: &mut [u8], at: usize, n: u64) {
    if let Some(word) = bytes.get_mut(at..at + 8) {
        word.copy_from_slice(&n.to_le_bytes());
    }
}

pub fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
    let log = HEADER_SIZE + 64 * 64;
    let slot = |i: &Index| HEADER_SIZE + i.index(64) * 64;
    match mutation {
        Mutation::Fixed(i, n) => {
            set(bytes, 8 + i.index(14) * 8, *n);
            if bytes.len() >= 128 {
                let sum = checksum(&bytes[16..120]);
                set(bytes, 120, sum);
            }
        }
        Mutation::Moving(i, n) => set(bytes, 128 + i.index(112) * 8, *n),
        Mutation::Slot(i, n) => set(bytes, HEADER_SIZE + i.index(64 * 8) * 8, *n),
        Mutation::Log(i, n) => set(bytes, log + i.index(2000), *n),
        Mutation::Byte(i, n) if !bytes.is_empty() => {
            let at = i.index(bytes.len());
            bytes[at] = *n;
        }
        Mutation::Byte(..) => {}
        Mutation::Value(i, place, kind, key_len, data_len, metadata_len) => {
            let value = SlotValue {
                record: place & (MAX_FILE_SIZE - 8),
                kind: Kind::ALL[usize::from(*kind)],
                tombstone: place % 2 == 1,
                key_len: *key_len,
                data_len: *data_len,
                metadata_len: *metadata_len,
                version: *place,
            };
            for (i_word, word) in value.encode().into_iter().enumerate() {
                set(bytes, slot(i) + 16 + i_word * 8, word);
                set(bytes, slot(i) + 40 + i_word * 8, word);
            }
        }
        Mutation::Swap(i, j) if bytes.len() >= log => {
            for k in 0..64 {
                bytes.swap(slot(i) + k, slot(j) + k);
            }
        }
        Mutation::Swap(..) => {}
        Mutation::Cut(i) => bytes.truncate(i.index(bytes.len() + 1)),
        Mutation::Grow(n) => bytes.resize(bytes.len() + usize::from(*n), 0xa5),
    }
}
