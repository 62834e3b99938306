//! Any file whatever gives data or a typed error: no panic, no endless loop, no read outside the
//! mapping (which would be a signal here).

#[path = "support/exercise.rs"]
mod exercise;
#[path = "support/mutation.rs"]
mod mutation;
#[path = "support/property.rs"]
mod property;
#[path = "support/strategy.rs"]
mod strategy;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::HEADER_SIZE;
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use exercise::exercise;
use mutation::{Mutation, image, mutated, plausible};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::atomic::{AtomicU32, Ordering};
use strategy::mutations;

/// Files of their own for a test; in shared memory, for there are many.
fn exercised(bytes: &[u8]) -> bool {
    thread_local!(static FOLDER: tempfile::TempDir = support::folder());
    FOLDER.with(|folder| exercise(folder.path(), bytes))
}

proptest! {
    #![proptest_config(property::config(1500, "tests/hostile.regressions"))]

    #[test]
    fn random_files(bytes in prop::collection::vec(any::<u8>(), 0..9000)) {
        exercised(&bytes);
        let mut with_magic = b"ERLMCP01\x01\0\0\0".to_vec();
        with_magic.extend(&bytes);
        exercised(&with_magic);
    }
}

#[test]
fn mutated_files() {
    let opened = AtomicU32::new(0);
    let config = property::config(1500, "tests/hostile.regressions");
    let cases = config.cases;
    let result = TestRunner::new(config).run(&mutations(), |mutations| {
        opened.fetch_add(exercised(&mutated(&mutations)).into(), Ordering::Relaxed);
        Ok(())
    });
    let opened = opened.into_inner();
    println!("{cases} mutated files, of which {opened} could be opened");
    result.unwrap();
    assert!(opened > cases / 10, "hardly any got past the header");
}

/// A past find: the first word of the statistics' odd half.
#[test]
fn a_figure_of_the_statistics_beyond_every_file() {
    exercised(&mutated(&[Mutation::Moving(56, 1 << 56)]));
}

/// Files that found something, and those from which the fuzzer starts.
#[test]
fn seeds_of_the_fuzzer() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/file");
    let files = std::fs::read_dir(seeds).unwrap();
    let files = files.map(|seed| std::fs::read(seed.unwrap().path()).unwrap());
    let opened = files.filter(|file| exercised(file) | exercised(&plausible(file)));
    assert!(opened.count() > 0);
}

#[test]
fn the_image_itself_is_sound() {
    assert!(exercised(&image().bytes()));
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
