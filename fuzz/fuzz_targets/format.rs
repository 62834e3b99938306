//! Headers, records and slots through the format's own code, on heap memory that ends where they do.
#![no_main]

#[path = "../../layout/tests/support/parse.rs"]
mod parse;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parse::parse(bytes));
