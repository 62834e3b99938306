//! Any bytes whatever are a header, a record, or an index, or are not: no panic.

#[path = "support/parse.rs"]
mod parse;

use erlmcp_shm_layout::{Attributes, Header, Kind, Record};
use parse::parse;
use proptest::prelude::*;

/// A sound header with an index of 16 slots behind it, and a sound record.
fn sound() -> [Vec<u8>; 2] {
    let mut file = Header::new(8192, 16).unwrap().encode().to_vec();
    file.resize(2048, 0);
    let record = Record {
        kind: Kind::Prompt,
        version: 7,
        tombstone: false,
        attributes: Attributes::default(),
        key: b"key",
        data: b"data",
        metadata: b"{}",
    };
    let mut bytes = vec![0; record.shape().total as usize];
    record.write(&mut bytes);
    [file, bytes]
}

proptest! {
    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        parse(&bytes);
    }

    #[test]
    fn changed_bytes(changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..9)) {
        for mut bytes in sound() {
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            parse(&bytes);
        }
    }
}
