//! The URI of a file: a prefix, and the file's path below the published folder.
//!
//! Letters, digits and ``-._~!$&'()*+,;=:@/`` stand for themselves, every other byte is `%XX`: that is what RFC 3986
//! lets a path be. `%` is one of the others, so each path has one URI and each URI one path, whatever bytes a name is
//! made of.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes of a path as a part of a URI.
pub fn encoded(path: &OsStr) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => text.push(char::from(*byte)),
            b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b'@' => text.push(char::from(*byte)),
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => {
                text.push(char::from(*byte));
            }
            _ => {
                let _ = write!(text, "%{byte:02X}");
            }
        }
    }
    text
}

/// What the URIs of a folder's files begin with, if nothing else is asked for: `file://`, its path, and a slash.
pub fn of_folder(absolute: &Path) -> String {
    with_slash(format!("file://{}", encoded(absolute.as_os_str())))
}

/// A prefix that a relative path can follow.
pub fn with_slash(mut prefix: String) -> String {
    if !prefix.ends_with(['/', ':']) {
        prefix.push('/');
    }
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What anybody makes of a URI's path.
    fn decoded(text: &str) -> Vec<u8> {
        let mut rest = text.as_bytes();
        let mut bytes = Vec::new();
        while let [first, behind @ ..] = rest {
            rest = behind;
            bytes.push(match first {
                b'%' => {
                    let (digits, behind) = rest.split_at(2);
                    rest = behind;
                    u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap()
                }
                byte => *byte,
            });
        }
        bytes
    }

    #[test]
    fn what_stands_for_itself() {
        let plain = "a/B.9-_~!$&'()*+,;=:@";
        assert_eq!(encoded(OsStr::new(plain)), plain);
        assert_eq!(encoded(OsStr::new("a b%20#?[]")), "a%20b%2520%23%3F%5B%5D");
        assert_eq!(encoded(OsStr::new("né\n")), "n%C3%A9%0A");
        assert_eq!(encoded(OsStr::from_bytes(b"\xff\\")), "%FF%5C");
    }

    #[test]
    fn prefixes() {
        assert_eq!(of_folder(Path::new("/srv/a b")), "file:///srv/a%20b/");
        assert_eq!(of_folder(Path::new("/")), "file:///");
        for (given, used) in [("docs://", "docs://"), ("x:", "x:"), ("a://b", "a://b/")] {
            assert_eq!(with_slash(given.into()), used);
        }
    }

    proptest! {
        #[test]
        fn every_path_comes_back(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = encoded(OsStr::from_bytes(&path));
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(decoded(&text), path);
        }
    }
}
