//! Any file whatever gives data or a typed error: no panic, no endless loop, no read outside the
//! mapping (which would be a signal here).

#[path = "support/mutation.rs"]
mod mutation;
#[path = "support/property.rs"]
mod property;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::{HEADER_SIZE, checksum};
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use mutation::{SIZE, apply, image, mutation};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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
        let mut bytes = image(0).bytes();
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
    assert!(exercise_both(&image(0).bytes()));
}

#[test]
fn a_file_truncated_after_open_is_an_error_and_no_signal() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image(0).save(&path);
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
    let mut bytes = image(0).bytes();
    let at = bytes.windows(5).position(|w| w == b"value").unwrap();
    bytes[at] ^= 1;
    support::save(&path, &bytes);
    let shm = Reader::options().pread(true).open(&path).unwrap();
    let found = shm.get_bytes(Kind::Resource, "x");
    assert_eq!(found, Err(ReadError::Corrupt("a record's checksum")));
}
