//! Keys as the command line takes and shows them.
#![no_main]

#[allow(dead_code, reason = "the command uses the rest of it")]
#[path = "../../cli/src/key.rs"]
mod key;
#[path = "../../cli/tests/key/round_trip.rs"]
mod round_trip;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| round_trip::check(bytes));
