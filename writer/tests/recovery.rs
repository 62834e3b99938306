//! A writer started on any file whatever keeps what is whole in it, or refuses it by name: no panic, no
//! signal, and no store that its next start, or its readers, could not make sense of.

#[path = "../../reader/tests/support/mutation.rs"]
mod mutation;
#[path = "../../reader/tests/support/property.rs"]
mod property;
#[path = "common/recover.rs"]
mod recover;
#[path = "../../reader/tests/support/strategy.rs"]
mod strategy;
#[allow(dead_code, reason = "the reader's tests use the rest of it")]
#[path = "../../reader/tests/support/mod.rs"]
mod support;

use std::sync::atomic::{AtomicU32, Ordering};

use mutation::{Mutation, image, mutated, plausible};
use proptest::test_runner::TestRunner;
use recover::recover;
use strategy::mutations;

fn recovered(bytes: &[u8]) -> bool {
    thread_local!(static FOLDER: tempfile::TempDir = support::folder());
    FOLDER.with(|folder| recover(folder.path(), bytes))
}

#[test]
fn mutated_files() {
    let came_up = AtomicU32::new(0);
    let config = property::config(500, "tests/recovery.regressions");
    let cases = config.cases;
    let result = TestRunner::new(config).run(&mutations(), |mutations| {
        came_up.fetch_add(recovered(&mutated(&mutations)).into(), Ordering::Relaxed);
        Ok(())
    });
    let came_up = came_up.into_inner();
    println!("{cases} mutated files, on which {came_up} writers came up");
    result.unwrap();
    assert!(came_up > cases / 10, "hardly any got past the header");
}

#[test]
fn seeds_of_the_fuzzer() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/file");
    let files = std::fs::read_dir(seeds).unwrap();
    let files = files.map(|seed| std::fs::read(seed.unwrap().path()).unwrap());
    let came_up = files.filter(|file| recovered(file) | recovered(&plausible(file)));
    assert!(came_up.count() > 0);
}

#[test]
fn the_image_itself_comes_up() {
    assert!(recovered(&image().bytes()));
}

/// A past find: a start took a counter at its limit, counted on, and what it left was refused by the next.
#[test]
fn a_counter_at_its_limit_was_never_counted() {
    let limit = 1 << 62;
    let generation = vec![Mutation::Fixed(3, limit)];
    // In both halves of the statistics.
    let rollovers = vec![Mutation::Moving(48, limit), Mutation::Moving(64, limit)];
    for mutations in [generation, rollovers] {
        assert!(!recovered(&mutated(&mutations)), "{mutations:?}");
    }
}
