//! A whole file through the reader, mapped and by pread, as it is and with its header signed.
#![no_main]

#[path = "../../reader/tests/support/exercise.rs"]
mod exercise;
#[allow(dead_code)]
#[path = "../../reader/tests/support/mutation.rs"]
mod mutation;
#[allow(dead_code)]
#[path = "../../reader/tests/support/mod.rs"]
mod support;

libfuzzer_sys::fuzz_target!(init: FOLDER.set(tempfile::tempdir().unwrap()).unwrap(), |bytes: &[u8]| {
});
