//! A sound file with mutations of its header, slots and records, through the reader and a writer's start.
#![no_main]

#[path = "../../reader/tests/support/exercise.rs"]
mod exercise;
#[path = "../../reader/tests/support/mutation.rs"]
mod mutation;
#[path = "../../writer/tests/common/recover.rs"]
mod recover;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../reader/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use mutation::{Mutation, mutated};
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

fn folder() -> &'static Path {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    FOLDER.path()
}

fuzz_target!(|mutations: Vec<Mutation>| {
    let bytes = mutated(&mutations);
    exercise::exercise(folder(), &bytes);
    recover::recover(folder(), &bytes);
});
