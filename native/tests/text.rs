//! The rules for JSON text, without a BEAM.

#[path = "support/rules.rs"]
mod rules;
#[allow(dead_code, reason = "the NIFs use the rest of it")]
#[path = "../src/text.rs"]
mod text;

use erlmcp_shm_writer::{Attributes, Scope};
use text::{BadMetadata, MAX_DEPTH, Seen, Special, scan};

fn special(text: &str) -> Special {
    match scan(text.as_bytes()) {
        Some(Seen::Object(special)) => special,
        other => panic!("{text} is {other:?}"),
    }
}

fn attributes(text: &str) -> Result<Attributes, BadMetadata> {
    special(text).attributes(|| 1_000)
}

/// Texts that found something, and those from which the fuzzer starts.
#[test]
fn seeds_of_the_fuzzer() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/json");
    let texts = std::fs::read_dir(seeds).unwrap();
    let texts = texts.map(|seed| std::fs::read(seed.unwrap().path()).unwrap());
    let passed = texts.filter(|text| rules::check(text)).count();
    assert!(passed > 0);
}

#[test]
fn accepts_json() {
    for text in [
        "{}",
        " {} \r\n\t",
        "[]",
        "null",
        "true",
        "0",
        "-0.5e-7",
        "\"\"",
        "\"a\\u00e9\\ud83d\\ude00\"",
        "[1,[2,{\"a\":[]}],\"x\"]",
        "{\"a\":1,\"a\":2}",
        "123456789012345678901234567890",
    ] {
        assert!(rules::check(text.as_bytes()), "{text}");
    }
}

#[test]
fn refuses_what_is_not() {
    let texts: [&[u8]; 20] = [
        b"",
        b" ",
        b"{",
        b"{}}",
        b"{} {}",
        b"[1,]",
        b"{\"a\":1,}",
        b"{a:1}",
        b"'a'",
        b"01",
        b"+1",
        b"1.",
        b"NaN",
        b"nul",
        b"\"\n\"",
        b"\"\\x\"",
        b"\"\xff\"",
        b"\xef\xbb\xbf{}",
        // What parsers do not read, though the grammar allows it.
        b"\"\\ud800\"",
        b"1e999",
    ];
    for text in texts {
        assert!(!rules::check(text), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |open: &str, close: &str, n: usize| open.repeat(n) + "1" + &close.repeat(n);
    let most = usize::from(MAX_DEPTH);
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        assert!(scan(nested(open, close, most).as_bytes()).is_some());
        assert_eq!(scan(nested(open, close, most + 1).as_bytes()), None);
        assert_eq!(scan(open.repeat(1_000_000).as_bytes()), None);
    }
    // A document at the limit can still be read where it stands inside a message.
    let message = nested("[", "]", most + 7);
    serde_json::from_str::<serde_json::Value>(&message).expect("127 levels");
}

#[test]
fn meaningful_keys() {
    let public = |expires_at| {
        Ok(Attributes {
            expires_at,
            scope: Scope::Public,
        })
    };
    assert_eq!(attributes("{}"), public(0));
    assert_eq!(attributes(r#"{"ttl":5,"x":{"ttl_ms":7}}"#), public(0));
    assert_eq!(attributes(r#"{"ttl_ms":0}"#), public(1_000));
    assert_eq!(attributes(r#"{"ttlMs":2}"#), public(2_001_000));
    assert_eq!(
        attributes(r#"{"ttl_ms":18446744073709551615}"#),
        public(u64::MAX)
    );
    assert_eq!(attributes(r#"{"cacheScope":"public"}"#), public(0));
    let private = Attributes {
        expires_at: 1_001_000,
        scope: Scope::Private,
    };
    assert_eq!(
        attributes(r#"{"cache_scope":"private","\u0074tl_ms":1}"#),
        Ok(private)
    );
}

#[test]
fn an_expiry_of_now_is_not_never() {
    let at_boot = special(r#"{"ttl_ms":0}"#).attributes(|| 0);
    assert_eq!(at_boot.map(|a| a.expires_at), Ok(1));
}

#[test]
fn meaningful_keys_of_a_wrong_type() {
    for wrong in [
        "-1",
        "1.0",
        "1.5",
        "\"1\"",
        "null",
        "true",
        "[]",
        "{}",
        "18446744073709551616",
    ] {
        for key in ["ttl_ms", "ttlMs"] {
            let text = format!(r#"{{"{key}":{wrong}}}"#);
            assert_eq!(attributes(&text), Err(BadMetadata::TtlMs), "{text}");
        }
    }
    for wrong in ["1", "\"Public\"", "\"\"", "null", "[\"public\"]"] {
        for key in ["cache_scope", "cacheScope"] {
            let text = format!(r#"{{"{key}":{wrong}}}"#);
            assert_eq!(attributes(&text), Err(BadMetadata::CacheScope), "{text}");
        }
    }
}

#[test]
fn meaningful_keys_given_twice() {
    assert_eq!(
        attributes(r#"{"ttl_ms":1,"ttlMs":1}"#),
        Err(BadMetadata::TtlMs)
    );
    assert_eq!(
        attributes(r#"{"cache_scope":"public","cache_scope":"public"}"#),
        Err(BadMetadata::CacheScope)
    );
}
