//! Any file whatever gives data or a typed error: no panic, no endless loop, no read outside the
//! mapping (which would be a signal here).

#[path = "support/property.rs"]
mod property;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::{Attributes, HEADER_SIZE, MAX_FILE_SIZE, SlotValue, checksum};
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use support::Image;

const SIZE: u64 = 32 << 10;

fn image() -> Image {
    let mut image = Image::new(SIZE, 64);
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
enum Mutation {
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

fn mutation() -> impl Strategy<Value = Mutation> {
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

fn apply(bytes: &mut Vec<u8>, mutation: &Mutation) {
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

/// Everything that a reader can be asked.
fn exercise(path: &Path, pread: bool) -> Result<(), ReadError> {
    let options = Reader::options().pread(pread).prefault(true);
    let shm = options.watcher(false).open(path)?;
    let _ = shm.liveness().verdict();
    let _ = shm.stats();
    let _ = shm.wait_for_change(0, Duration::ZERO);
    let view = shm.view()?;
    let look = |entry: erlmcp_shm_reader::Entry<'_>| {
        let bytes = [entry.key(), entry.data(), entry.metadata()].concat();
        let _ = (checksum(&bytes), entry.expires_at(), entry.is_expired());
        let _ = (
            entry.scope(),
            entry.version(),
            entry.to_bytes(),
            format!("{entry:?}"),
        );
        entry.into_data().len()
    };
    let mut keys: Vec<(Kind, Vec<u8>)> = (0..20u8)
        .map(|i| (Kind::ALL[usize::from(i) % 4], vec![i, 1]))
        .collect();
    keys.extend([(Kind::Resource, b"x".to_vec()), (Kind::Prompt, vec![])]);
    for (kind, key) in &keys {
        let start = Instant::now();
        let _ = view.get(*kind, key).map(|entry| entry.map(look));
        assert!(start.elapsed() < Duration::from_secs(1), "a slow lookup");
    }
    for found in view.get_many(&keys) {
        let _ = found.map(|entry| entry.map(look));
    }
    let entries: Vec<_> = view.try_iter().collect();
    assert!(entries.len() as u64 <= SIZE);
    for entry in entries {
        let _ = entry.map(look);
    }
    let _ = view.verify();
    Ok(())
}

/// Says whether the file could be opened.
fn exercise_both(bytes: &[u8]) -> bool {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    support::save(&path, bytes);
    let results = [exercise(&path, false), exercise(&path, true)];
    // What open says does not depend on the mode.
    assert_eq!(results[0], results[1]);
    results[0].is_ok()
}

proptest! {
    #![proptest_config(property::config(1500, "tests/hostile.regressions"))]

    #[test]
    fn random_files(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        exercise_both(&bytes);
        let mut with_magic = b"ERLMCP01\x01\0\0\0".to_vec();
        with_magic.extend(&bytes);
        exercise_both(&with_magic);
    }
}

#[test]
fn mutated_files() {
    let opened = AtomicU32::new(0);
    let config = property::config(1500, "tests/hostile.regressions");
    let cases = config.cases;
    let mut runner = TestRunner::new(config);
    let result = runner.run(&prop::collection::vec(mutation(), 1..6), |mutations| {
        let mut bytes = image().bytes();
        for mutation in &mutations {
            apply(&mut bytes, mutation);
        }
        opened.fetch_add(exercise_both(&bytes).into(), Ordering::Relaxed);
        Ok(())
    });
    let opened = opened.into_inner();
    println!("{cases} mutated files, of which {opened} could be opened");
    result.unwrap();
    assert!(opened > cases / 10, "hardly any got past the header");
}

#[test]
fn the_image_itself_is_sound() {
    assert!(exercise_both(&image().bytes()));
}

#[test]
fn a_file_truncated_after_open_is_an_error_and_no_signal() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image().save(&path);
    let options = Reader::options().pread(true).watcher(false);
    let shm = options.open(&path).unwrap();
    let view = shm.view().unwrap();
    let truncate = |len| {
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(len).unwrap();
    };
    truncate(HEADER_SIZE as u64 + 64 * 64 + 8);
    let truncated = ReadError::Corrupt("the file was truncated");
    assert_eq!(view.get(Kind::Resource, "x").unwrap_err(), truncated);
    assert!(view.try_iter().any(|entry| entry.is_err()));
    truncate(HEADER_SIZE as u64);
    assert_eq!(view.get(Kind::Resource, "x").unwrap_err(), truncated);
    truncate(0);
    assert_eq!(view.get(Kind::Resource, "x").unwrap_err(), truncated);
    assert!(!view.is_current());
    assert!(shm.view().is_err() && shm.stats().is_err());
}

#[test]
fn a_record_rewritten_after_publish_fails_its_checksum_in_pread_mode() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let mut bytes = image().bytes();
    let at = bytes.windows(5).position(|w| w == b"value").unwrap();
    bytes[at] ^= 1;
    support::save(&path, &bytes);
    let shm = Reader::options().pread(true).open(&path).unwrap();
    let found = shm.get_bytes(Kind::Resource, "x");
    assert_eq!(found, Err(ReadError::Corrupt("a record's checksum")));
}
