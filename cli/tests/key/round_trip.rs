// What the command line makes of any argument, and shows of any key. Shared by the tests and the fuzz
// targets.

use crate::key::{JsonKey, Key, escaped, hex};
use clap::Command;
use clap::builder::TypedValueParser;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

fn from_escaped(text: &[u8]) -> Option<Key> {
    let parser = Key::escaped_parser();
    let parsed = parser.parse_ref(&Command::new("test"), None, OsStr::from_bytes(text));
    parsed.ok()
}

/// Takes the bytes for a key and for each way to write one.
pub fn check(bytes: &[u8]) {
    let shown = escaped(bytes);
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert_eq!(from_escaped(shown.as_bytes()).unwrap().bytes(), bytes);
    assert_eq!(Key::from_hex(&hex(bytes)).unwrap().bytes(), bytes);
    let raw = Key::raw_parser().parse_ref(&Command::new("test"), None, OsStr::from_bytes(bytes));
    assert_eq!(raw.unwrap().bytes(), bytes);

    if let Some(key) = from_escaped(bytes) {
        let again = from_escaped(escaped(key.bytes()).as_bytes());
        assert_eq!(again, Some(key));
    }
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(key) = Key::from_hex(text)
    {
        assert_eq!(hex(key.bytes()), text.to_ascii_lowercase());
    }
    let json = serde_json::to_value(JsonKey::new(bytes)).unwrap();
    match str::from_utf8(bytes) {
        Ok(text) => assert_eq!(json["key"], text),
        Err(_) => assert_eq!(json["key_hex"], hex(bytes)),
    }
}
