//! Everything that reads a mapping, over memory of exactly the file's length: a sanitizer or an
//! interpreter that checks every access sees whichever touches a byte too many.

#[path = "../../tests/support/mutation.rs"]
mod mutation;
#[path = "../../tests/support/property.rs"]
mod property;
#[path = "../../tests/support/strategy.rs"]
mod strategy;
#[allow(dead_code, reason = "each user needs a part of it")]
#[path = "../../tests/support/mod.rs"]
mod support;

use super::{Generation, Source};
use crate::map::Mapping;
use crate::open::FileId;
use crate::{Entry, ReadError, View};
use arc_swap::Guard;
use erlmcp_shm_layout::sync::Ordering;
use erlmcp_shm_layout::{FormatError, Header, Kind, RecordShape, SLOT_SIZE, SlotValue, checksum};
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU32;
use support::Image;

/// What sequences begin at: the usual start, and one so late that they wrap meanwhile.
const STARTS: [u64; 2] = [0, u64::MAX - 3];

fn view(bytes: &[u8]) -> Result<View, FormatError> {
    let header = Header::decode(bytes, bytes.len() as u64)?;
    let generation = Generation {
        #[cfg(feature = "l1")]
        serial: super::stamped::next_serial(),
        header,
        id: FileId::default(),
        path: Arc::from(Path::new("nowhere")),
        changes_base: 0,
        same_boot: true,
        source: Source::Mapped(Mapping::heap(bytes, header)),
        replaced: AtomicBool::new(false),
        prefaulted: AtomicBool::new(false),
    };
    Ok(View::new(Guard::from_inner(Some(Arc::new(generation)))).expect("a generation"))
}

/// Touches every byte that an entry gives access to.
fn touch(entry: Entry<'_>) -> u64 {
    let copies = [entry.to_bytes(), entry.metadata_to_bytes()].concat();
    let bytes = [entry.key(), entry.data(), entry.metadata()].concat();
    assert!(bytes.ends_with(&copies));
    let _ = (entry.expires_at(), entry.is_expired(), entry.scope());
    checksum(&bytes) ^ entry.version() ^ entry.into_data().len() as u64
}

/// Asks everything that a view can be asked; how many of the answers were an error.
fn exercise(view: &View, keys: &[(Kind, Vec<u8>)]) -> usize {
    let generation = view.pinned();
    let get = |(kind, key): &(Kind, Vec<u8>)| view.get(*kind, key).map(|e| e.map(touch));
    let one_by_one: Vec<_> = keys.iter().map(get).collect();
    let many = view.get_many(keys).into_iter();
    let many: Vec<_> = many.map(|found| found.map(|e| e.map(touch))).collect();
    assert_eq!(one_by_one, many);
    let walked: Vec<_> = view.try_iter().map(|entry| entry.map(touch)).collect();
    let _ = (view.is_current(), view.verify(), generation.changes());
    let _ = (
        generation.heartbeat_age(),
        generation.words(|words| words.stats()),
    );
    one_by_one.iter().filter(|found| found.is_err()).count()
        + walked.iter().filter(|entry| entry.is_err()).count()
}

fn keys() -> Vec<(Kind, Vec<u8>)> {
    let some = (0..20u8).map(|i| (Kind::ALL[usize::from(i) % 4], vec![i, 1]));
    let more = [b"x".to_vec(), vec![], b"absent".to_vec(), vec![7; 66_000]];
    some.chain(more.map(|key| (Kind::Resource, key))).collect()
}

/// Ten entries whose last record ends with the last byte of the file.
fn full(start: u64) -> Image {
    let mut image = Image::new(8192, 16);
    image.count_from(start);
    // Each slot's sequence wraps in the midst of these.
    for round in 0..5u8 {
        for key in 0..7u8 {
            image.put(Kind::Resource, &[key; 9], &[round; 30], b"{}");
        }
        image.delete(Kind::Resource, &[6; 9]);
    }
    let left = image.header.file_size - image.stats.log_tail;
    let around = RecordShape::new(9, 0, 0).total + 8;
    image.put(
        Kind::Resource,
        &[7; 9],
        &vec![8; (left - around) as usize],
        b"",
    );
    let left = image.header.file_size - image.stats.log_tail;
    assert!(left <= 8, "{left} bytes left");
    image
}

#[test]
fn what_was_put_is_read_up_to_the_last_byte() {
    for start in STARTS {
        let image = full(start);
        let view = view(&image.bytes()).unwrap();
        assert_eq!(view.pinned().changes(), Ok(image.changes));
        let get = |key: u8| view.get(Kind::Resource, [key; 9]).unwrap();
        for key in 0..6 {
            let entry = get(key).expect("a hit");
            assert_eq!((entry.data(), entry.metadata()), (&[4; 30][..], &b"{}"[..]));
        }
        assert!(get(6).is_none(), "a tombstone");
        assert!(get(8).is_none(), "a miss");
        assert!(view.get(Kind::Prompt, [0; 9]).unwrap().is_none());
        let keys: Vec<_> = (0..40).map(|key| (Kind::Resource, vec![key; 9])).collect();
        assert_eq!(exercise(&view, &keys), 0);
        let found = view.get_many(&keys);
        let hits = found
            .iter()
            .filter(|found| matches!(found, Ok(Some(_))))
            .count();
        assert_eq!((hits, view.iter().count()), (7, 7));
        let checked = view.verify().unwrap();
        assert!(checked.is_sound(), "{checked:?}");
        assert_eq!((checked.records, checked.entries), (41, 7));
        // A copy pins the memory; it is the last to let go of it.
        let last = get(7).unwrap().to_bytes();
        drop(found);
        drop(view);
        assert!(last.len() > 1000 && last.iter().all(|byte| *byte == 8));
    }
}

/// A slot may name any place and any lengths: those inside the log, to the byte, are read, and no
/// others.
#[test]
fn a_slot_that_names_anything() {
    let sizes = [0, 1, 7, 8, 9, 56, 4096, u32::MAX - 7, u32::MAX];
    let image = full(0);
    let header = image.header;
    let mut bytes = image.bytes();
    let (mut inside, mut outside) = (0, 0);
    let log = header.log_offset();
    let ends = [
        log - 8,
        log,
        log + 8,
        header.file_size - 8,
        header.file_size,
    ];
    let places = ends
        .into_iter()
        .chain((1..12).map(|i| header.file_size - i * 16));
    for record in places {
        for (data_len, metadata_len) in sizes.iter().flat_map(|a| sizes.map(|b| (*a, b))) {
            for key_len in [0, 9, u16::MAX] {
                let value = SlotValue {
                    record: record / 8 * 8,
                    kind: Kind::Resource,
                    tombstone: false,
                    key_len,
                    data_len,
                    metadata_len,
                    version: 1,
                };
                // Every slot that is in use says it, in both halves.
                let slots = (1024..log as usize).step_by(SLOT_SIZE);
                for at in slots {
                    for (i, word) in value.encode().into_iter().enumerate() {
                        for half in [2, 5] {
                            let at = at + (half + i) * 8;
                            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
                        }
                    }
                }
                let view = view(&bytes).unwrap();
                let shape = RecordShape::of(&value);
                let fits = value.record >= log && value.record + shape.total <= header.file_size;
                let first = view.try_iter().next().expect("slots are in use");
                match fits {
                    true => inside += u32::from(first.is_ok()),
                    false => {
                        let error = ReadError::Corrupt("a slot points outside the log");
                        assert_eq!(first.map(touch), Err(error));
                        outside += 1;
                    }
                }
                let keys: Vec<_> = (0..9).map(|key| (Kind::Resource, vec![key; 9])).collect();
                exercise(&view, &keys);
            }
        }
    }
    assert!(inside > 10 && outside > 1000, "{inside} inside, {outside}");
}

/// Whatever the bytes: an answer or a typed error.
#[test]
fn mutated_bytes() {
    let opened = AtomicU32::new(0);
    let few = if cfg!(miri) { 8 } else { 500 };
    let config = property::config(few, "tests/hostile.regressions");
    let cases = config.cases;
    let several = strategy::mutations();
    let images = STARTS.map(|start| {
        let image = mutation::image_from(start);
        assert_eq!(exercise(&view(&image.bytes()).unwrap(), &keys()), 0);
        image.bytes()
    });
    let result = TestRunner::new(config).run(&several, |mutations| {
        for bytes in &images {
            let mut bytes = bytes.clone();
            for mutation in &mutations {
                mutation::apply(&mut bytes, mutation);
            }
            if let Ok(view) = view(&bytes) {
                exercise(&view, &keys());
                opened.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(())
    });
    result.unwrap();
    let opened = opened.into_inner();
    assert!(opened > cases / 10, "hardly any got past the header");
}
