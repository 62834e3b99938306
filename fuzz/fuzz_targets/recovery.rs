//! A writer started on a whole file: as it is, and made plausible.
#![no_main]

#[path = "../../reader/tests/support/mutation.rs"]
mod mutation;
#[path = "../../writer/tests/common/recover.rs"]
mod recover;
#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../reader/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

fn folder() -> &'static Path {
    static FOLDER: LazyLock<TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    FOLDER.path()
}

fuzz_target!(|bytes: &[u8]| {
    recover::recover(folder(), bytes);
    recover::recover(folder(), &mutation::plausible(bytes));
});
