//! The format, byte for byte: a small store checked in, made again from its description and read
//! back. A change that breaks this breaks every file in the field: it needs a new format version.

use std::sync::atomic::{AtomicU64, Ordering};

use erlmcp_shm_layout::{
    Attributes, HEADER_SIZE, Header, HeaderWords, Index, Kind, Probe, Record, RecordShape, Scope,
    State, Stats, header, key_hash,
};

const GOLDEN: &[u8] = include_bytes!("golden/v1.bin");
const SIZE: usize = 8192;

/// The specification's sample entry, one of each other kind, a deleted key, and a private entry
/// that expires.
fn records() -> Vec<Record<'static>> {
    let record = |kind, version, key, data, metadata| Record {
        kind,
        version,
        tombstone: false,
        attributes: Attributes::default(),
        key,
        data,
        metadata,
    };
    let uri = b"file:///docs/readme.md";
    vec![
        record(Kind::Resource, 1, uri, &[b'x'; 1024], SAMPLE_METADATA),
        record(Kind::ToolSchema, 2, b"add", br#"{"type":"object"}"#, b"{}"),
        record(Kind::Prompt, 3, b"greet", br#"{"messages":[]}"#, b"{}"),
        record(Kind::Capability, 4, b"tools", b"{}", b"{}"),
        record(Kind::Resource, 5, b"add", b"", b""),
        Record {
            tombstone: true,
            ..record(Kind::Prompt, 6, b"greet", b"", b"")
        },
        Record {
            attributes: Attributes {
                expires_at: 0x0123_4567_89ab_cdef,
                scope: Scope::Private,
            },
            ..record(Kind::Resource, 7, b"\0\xff", b"secret", b"{}")
        },
    ]
}

const SAMPLE_METADATA: &[u8; 128] =
    br#"{"mime_type": "text/plain", "name": "readme", "description": "The sample entry of the specification, with 128 bytes of it ...."}"#;

fn header_of_golden() -> Header {
    Header {
        generation: 3,
        seed: 0x1122_3344_5566_7788,
        store_id: *b"sixteen bytes id",
        created: 1_000_000_007,
        boot_id: *b"boot id of 16 by",
        ..Header::new(SIZE as u64, 16).unwrap()
    }
}

/// A file image in words, so that slots and latches can be laid over it.
struct Image(Vec<AtomicU64>);

impl Image {
    fn from_bytes(bytes: &[u8]) -> Self {
        let word = |chunk: &[u8]| AtomicU64::new(u64::from_le_bytes(chunk.try_into().unwrap()));
        Self(bytes.chunks(8).map(word).collect())
    }

    fn bytes(&self) -> Vec<u8> {
        let words = self.0.iter().map(|w| w.load(Ordering::Relaxed));
        words.flat_map(u64::to_le_bytes).collect()
    }

    fn words(&self) -> HeaderWords<'_> {
        HeaderWords::new(self.0[..HEADER_SIZE / 8].try_into().unwrap())
    }

    fn index(&self) -> Index<'_> {
        header::index(self.0[HEADER_SIZE / 8..].as_chunks().0.split_at(16).0)
    }
}

fn make() -> Vec<u8> {
    let head = header_of_golden();
    let mut bytes = vec![0; SIZE];
    bytes[..HEADER_SIZE].copy_from_slice(&head.encode());
    let mut at = head.log_offset() as usize;
    let mut places = Vec::new();
    for record in records() {
        let total = record.shape().total as usize;
        record.write(&mut bytes[at..at + total]);
        places.push(record.slot_value(at as u64));
        at += total;
    }
    let image = Image::from_bytes(&bytes);
    for (record, value) in records().iter().zip(&places) {
        let hash = key_hash(head.seed, record.kind, record.key);
        let same = |v: &erlmcp_shm_layout::SlotValue| {
            let key = (v.record + RecordShape::of(v).key) as usize;
            bytes[key..key + v.key_len as usize] == *record.key
        };
        let key_len = record.key.len() as u16;
        match image
            .index()
            .probe(hash, record.kind, key_len, same)
            .unwrap()
        {
            Probe::Found(slot, _) | Probe::Vacant(slot) => slot.publish(hash, value),
            Probe::Exhausted => unreachable!("16 slots, 6 keys"),
        }
    }
    let words = image.words();
    words.set_writer(100, 4242);
    words.set_heartbeat(1_000_000_009);
    words.set_max_size(65_536);
    words.set_stats(&stats(at as u64));
    words.set_changes(7);
    words.set_state(State::Live);
    image.bytes()
}

/// The prompt was deleted: its record and the tombstone are dead, the others live.
fn stats(log_tail: u64) -> Stats {
    let (dead, live): (Vec<_>, Vec<_>) = records()
        .into_iter()
        .partition(|record| record.kind == Kind::Prompt);
    let bytes = |records: &[Record<'_>]| records.iter().map(|r| r.shape().total).sum();
    let tombstones = live
        .iter()
        .map(|r| RecordShape::tombstone(r.key.len() as u16));
    Stats {
        entries: 5,
        used_slots: 6,
        log_tail,
        live_bytes: bytes(&live),
        dead_bytes: bytes(&dead),
        reserved_bytes: tombstones.sum(),
        puts: 6,
        deletes: 1,
        rollovers: 2,
        version: 7,
    }
}

#[test]
fn what_we_write_is_the_golden_file() {
    let made = make();
    if std::env::var_os("ERLMCP_SHM_WRITE_GOLDEN").is_some() {
        std::fs::write("tests/golden/v1.bin", &made).unwrap();
    }
    let differs = made.iter().zip(GOLDEN).position(|(a, b)| a != b);
    assert_eq!(differs, None, "first difference at this offset");
    assert_eq!(made.len(), GOLDEN.len());
}

#[test]
fn the_golden_file_reads_back() {
    let head = Header::decode(GOLDEN, GOLDEN.len() as u64).unwrap();
    assert_eq!(head, header_of_golden());
    let mut log = &GOLDEN[head.log_offset() as usize..];
    for expected in records() {
        let read = Record::read(log).unwrap();
        assert_eq!(read, expected);
        log = &log[read.shape().total as usize..];
    }
    assert_eq!(Record::read(log), None);
    let image = Image::from_bytes(GOLDEN);
    let tail = (GOLDEN.len() - log.len()) as u64;
    assert_eq!(image.words().stats(), Some(stats(tail)));
    assert_eq!(image.words().entry_count(), 5);
    assert_eq!(image.words().changes(), 7);
    assert_eq!(image.words().writer(), (100, 4242));
    assert_eq!(image.words().max_size(), 65_536);
    assert_eq!(image.words().state(), Some(State::Live));
    let live = image
        .index()
        .slots()
        .filter_map(|slot| slot.load().unwrap());
    assert_eq!(live.filter(|v| !v.tombstone && head.contains(v)).count(), 5);
}

/// The entry as the specification writes it, big-endian, found at its place in the file.
#[test]
fn an_entry_has_the_specified_bytes() {
    let head = header_of_golden();
    let record = records()[1];
    let first = records()[0].shape().total;
    let entry = (head.log_offset() + first + record.shape().entry) as usize;
    let expected = b"\x02\x00\x03add\x00\x00\x00\x11{\"type\":\"object\"}\x00\x00\x00\x02{}";
    assert_eq!(&GOLDEN[entry..entry + expected.len()], expected);
    assert_eq!(&GOLDEN[..8], b"ERLMCP01");
    assert_eq!(GOLDEN[8..16], [1, 0, 0, 0, 5, 0, 0, 0]);
}

#[test]
fn damage_is_told_from_other_files_and_other_versions() {
    use erlmcp_shm_layout::FormatError as E;
    let len = GOLDEN.len() as u64;
    let decode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = GOLDEN.to_vec();
        change(&mut bytes);
        Header::decode(&bytes, len)
    };
    assert_eq!(decode(&|b| b[0] = b'X'), Err(E::NotAStore));
    assert_eq!(decode(&|b| b[8] = 2), Err(E::Version(2)));
    assert!(matches!(decode(&|b| b[72] ^= 1), Err(E::Corrupt(_))));
    assert!(matches!(
        Header::decode(GOLDEN, len - 1),
        Err(E::Corrupt(_))
    ));
    assert!(matches!(
        Header::decode(&GOLDEN[..100], 100),
        Err(E::Corrupt(_))
    ));
    assert_eq!(Header::decode(b"", 0), Err(E::NotAStore));
}
