//! Any bytes are a key that can be shown and typed again.

#[allow(dead_code, reason = "the command uses the rest of it")]
#[path = "../../src/key.rs"]
mod key;
mod round_trip;

use round_trip::check;

#[test]
fn bytes_of_every_sort() {
    let pieces: [&[u8]; 12] = [
        b"",
        b"a",
        b"\\",
        b"x4",
        b"41",
        b"\0\x1b[2J\x7f",
        b"\xff",
        "é\u{301}".as_bytes(),
        "\u{202e}\u{85}\u{2028}".as_bytes(),
        b"\xf0\x9f",
        b"\"'",
        b" \n",
    ];
    for a in pieces {
        for b in pieces {
            for c in pieces {
                check(&[a, b, c].concat());
            }
        }
    }
}
