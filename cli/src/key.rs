//! Keys are any bytes. As text they are escaped so that a terminal is safe and nothing is lost.

use clap::builder::{OsStringValueParser, TypedValueParser};
use serde::Serialize;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A key, or the beginning of one, as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes the bytes of the argument as they are.
    pub fn raw_parser() -> impl TypedValueParser<Value = Key> {
        OsStringValueParser::new().map(|text| Key(text.into_vec()))
    }

    /// Takes what [`escaped`] gives.
    pub fn escaped_parser() -> impl TypedValueParser<Value = Key> {
        OsStringValueParser::new().try_map(|text: OsString| unescaped(text.as_bytes()).map(Key))
    }

    /// Takes two hex digits a byte.
    pub fn from_hex(text: &str) -> Result<Key, &'static str> {
        let digits = text.as_bytes();
        if !digits.len().is_multiple_of(2) {
            return Err("an odd number of hex digits");
        }
        let bytes = digits.chunks(2).map(hex_byte).collect::<Option<_>>();
        bytes.map(Key).ok_or("not a hex digit")
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let [high, low] = digits else { return None };
    let digit = |c: &u8| char::from(*c).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

/// Two hex digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The key as text: what is printable as it is, `\\` for a backslash, and `\xNN` for each byte of the
/// rest: of control characters, of those that change how others are shown, and of what is no UTF-8.
pub fn escaped(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                // Quotes are escaped by what else knows which characters are printable.
                '"' | '\'' => text.push(c),
                _ if c.escape_debug().len() == 1 => text.push(c),
                _ => escape_bytes(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
            }
        }
        escape_bytes(chunk.invalid(), &mut text);
    }
    text
}

/// The key as text within a sentence.
pub fn quoted(key: &[u8]) -> String {
    format!("\"{}\"", escaped(key))
}

fn escape_bytes(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

fn unescaped(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        let byte = match (first, rest) {
            (b'\\', [b'\\', behind @ ..]) => {
                rest = behind;
                Some(b'\\')
            }
            (b'\\', [b'x', high, low, behind @ ..]) => {
                rest = behind;
                hex_byte(&[*high, *low])
            }
            (b'\\', _) => None,
            (byte, _) => Some(*byte),
        };
        bytes.push(byte.ok_or("a backslash must be followed by another one or by xNN")?);
    }
    Ok(bytes)
}

/// A key in JSON: `key` where it is text, else `key_hex`.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JsonKey<'a> {
    Key(&'a str),
    KeyHex(String),
}

impl<'a> JsonKey<'a> {
    pub fn new(key: &'a [u8]) -> Self {
        match str::from_utf8(key) {
            Ok(text) => JsonKey::Key(text),
            Err(_) => JsonKey::KeyHex(hex(key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_is_not_printable() {
        assert_eq!(escaped(b"file:///a b'c\".txt"), "file:///a b'c\".txt");
        assert_eq!(escaped("naïve/日本".as_bytes()), "naïve/日本");
        assert_eq!(escaped(b"a\\b"), r"a\\b");
        assert_eq!(escaped(b"\x1b[2J\n\0"), r"\x1b[2J\x0a\x00");
        assert_eq!(escaped(b"ok\xff\xfe"), r"ok\xff\xfe");
        assert_eq!(escaped("\u{202e}".as_bytes()), r"\xe2\x80\xae");
        assert_eq!(escaped(b""), "");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain("é\u{301}\u{202e}\\x41".bytes()).collect();
        assert_eq!(unescaped(escaped(&all).as_bytes()).unwrap(), all);
        assert_eq!(Key::from_hex(&hex(&all)).unwrap().bytes(), all);
    }

    #[test]
    fn refuses_what_is_no_escape() {
        for wrong in [r"\", r"\x", r"\x1", r"\xzz", r"\n"] {
            assert!(unescaped(wrong.as_bytes()).is_err(), "{wrong}");
        }
        for wrong in ["1", "1g", "+1", "é"] {
            assert!(Key::from_hex(wrong).is_err(), "{wrong}");
        }
        assert_eq!(unescaped(b"raw \xff").unwrap(), b"raw \xff");
    }
}
