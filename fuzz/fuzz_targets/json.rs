//! JSON text, against what serde_json makes of it.
#![no_main]

#[path = "../../native/tests/support/rules.rs"]
mod rules;
#[allow(dead_code, reason = "the NIFs use the rest of it")]
#[path = "../../native/src/text.rs"]
mod text;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    rules::check(text);
});
