//! `get`: the bytes, all of them and nothing else.

use crate::pty::Pty;
use crate::store::Store;
use erlmcp_shm_writer::{Attributes, Kind, Scope, boottime_now};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn data_is_unchanged() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let large: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let values: [(&str, &[u8]); 5] = [
        ("empty", b""),
        ("one", b"\0"),
        ("no newline", b"text"),
        ("every byte", &every_byte),
        ("large", &large),
    ];
    let store = Store::new();
    let writer = erlmcp_shm_writer::Writer::options()
        .size(4 << 20)
        .open(store.path())
        .unwrap();
    for (key, data) in values {
        writer
            .put(Kind::Resource, key.as_bytes(), data, b"{}")
            .unwrap();
    }
    for (key, data) in values {
        assert_eq!(store.run(["get", "resource", key]).fine(), data, "{key}");
        assert_eq!(store.run(["get", "resource", key, "--pread"]).fine(), data);
    }
}

#[test]
fn each_kind_is_a_name_space() {
    let store = Store::with(&[
        (Kind::Resource, b"x", b"a resource", b"{}"),
        (Kind::ToolSchema, b"x", b"a tool", b"{}"),
        (Kind::Prompt, b"x", b"a prompt", b"{}"),
    ]);
    assert_eq!(store.run(["get", "resource", "x"]).fine(), b"a resource");
    assert_eq!(store.run(["get", "tool", "x"]).fine(), b"a tool");
    assert_eq!(store.run(["get", "prompt", "x"]).fine(), b"a prompt");
    store
        .run(["get", "capability", "x"])
        .refused(1, r#"no capability "x""#);
}

#[test]
fn absent_and_deleted_keys() {
    let store = Store::with(&[(Kind::Resource, b"k", b"v", b"{}")]);
    store
        .run(["get", "resource", "K"])
        .refused(1, r#"no resource "K""#);
    store.run(["get", "resource", ""]).refused(1, "no resource");
    store
        .run(["get", "resource", "K", "--json"])
        .refused(1, r#"no resource "K""#);
    let writer = store.writer();
    writer.delete(Kind::Resource, b"k").unwrap();
    store
        .run(["get", "resource", "k"])
        .refused(1, r#"no resource "k""#);
}

#[test]
fn metadata() {
    let metadata = br#"{ "mime_type": "text/plain" }"#;
    let store = Store::with(&[
        (Kind::Resource, b"k", b"v", metadata),
        (Kind::Resource, b"none", b"v", b""),
    ]);
    assert_eq!(
        store.run(["get", "resource", "k", "--metadata"]).fine(),
        metadata
    );
    assert_eq!(
        store.run(["get", "resource", "none", "--metadata"]).fine(),
        b""
    );
}

#[test]
fn keys_of_any_bytes() {
    let every_byte: Vec<u8> = (0..=255).collect();
    let long = vec![b'k'; 65535];
    let not_utf8 = b"caf\xe9 \xff";
    let store = Store::with(&[
        (Kind::Resource, &every_byte, b"every byte", b"{}"),
        (Kind::Resource, &long, b"long", b"{}"),
        (Kind::Resource, not_utf8, b"not UTF-8", b"{}"),
        (Kind::Resource, b"--metadata", b"a dash", b"{}"),
        (Kind::Resource, br"\x41", b"a backslash", b"{}"),
    ]);
    let hex: String = every_byte
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let escaped: String = every_byte
        .iter()
        .map(|byte| format!("\\x{byte:02x}"))
        .collect();
    let get = |args: &[&str]| store.run(["get", "resource"].iter().chain(args)).fine();
    assert_eq!(get(&["--key-hex", &hex]), b"every byte");
    assert_eq!(get(&["--escaped", &escaped]), b"every byte");
    assert_eq!(get(&["--key-hex", &"6b".repeat(65535)]), b"long");
    assert_eq!(get(&["--", "--metadata"]), b"a dash");
    assert_eq!(get(&[r"\x41"]), b"a backslash");
    assert_eq!(get(&["--escaped", r"\\x41"]), b"a backslash");
    let raw = [
        OsStr::new("get"),
        OsStr::new("resource"),
        OsStr::from_bytes(not_utf8),
    ];
    assert_eq!(store.run(raw).fine(), b"not UTF-8");
}

#[test]
fn json() {
    let store = Store::with(&[
        (
            Kind::ToolSchema,
            b"t",
            br#"{"type":"object"}"#,
            b"{\n \"n\": 1.50,\r\n \"a\": null}",
        ),
        (Kind::Resource, b"\xff", b"\xfe\x00", b""),
        (Kind::Resource, b"text", b"\"\n", b"not JSON"),
    ]);
    let get = |args: &[&str]| store.run(["get", "--json"].iter().chain(args)).text();
    assert_eq!(
        get(&["tool", "t"]),
        "{\"kind\":\"tool\",\"key\":\"t\",\"version\":1,\"scope\":\"public\",\"expired\":false,\
         \"expires_at_ns\":null,\"metadata\":{  \"n\": 1.50,   \"a\": null},\
         \"data\":\"{\\\"type\\\":\\\"object\\\"}\"}\n"
    );
    let parsed = |args: &[&str]| serde_json::from_str::<serde_json::Value>(&get(args)).unwrap();
    let hex = parsed(&["resource", "--key-hex", "ff"]);
    assert_eq!(hex["key_hex"], "ff");
    assert_eq!(hex["data_hex"], "fe00");
    assert_eq!(hex["metadata"], json!(null));
    assert!(hex.get("key").is_none() && hex.get("data").is_none());
    let text = parsed(&["resource", "text"]);
    assert_eq!(text["data"], "\"\n");
    assert_eq!(text["metadata_text"], "not JSON");
    let metadata = parsed(&["tool", "t", "--metadata"]);
    assert_eq!(metadata["metadata"], json!({"n": 1.5, "a": null}));
    assert!(metadata.get("data").is_none());
}

#[test]
fn expiry_and_scope() {
    let store = Store::new();
    let writer = store.writer();
    let put = |key: &[u8], expires_at, scope| {
        let attributes = Attributes { expires_at, scope };
        writer
            .put_with(Kind::Resource, key, b"v", b"{}", attributes)
            .unwrap()
    };
    put(b"old", 1, Scope::Public);
    put(b"mine", boottime_now() + 3_600_000_000_000, Scope::Private);
    let old = store.run(["get", "resource", "old"]);
    assert_eq!((old.code, &old.stdout[..]), (0, &b"v"[..]));
    assert_eq!(old.stderr, "erlmcp-shm: the entry has expired\n");
    let mine = &store.run(["get", "resource", "mine", "--json"]).json()[0];
    assert_eq!(
        (&mine["scope"], &mine["expired"]),
        (&json!("private"), &json!(false))
    );
    assert!(mine["expires_at_ns"].is_u64());
}

#[test]
fn a_prompt_does_not_stand_behind_the_data_on_a_terminal() {
    let store = Store::with(&[
        (Kind::Resource, b"line", b"a line\n", b"{}"),
        (Kind::Resource, b"none", b"no line", b"{\"a\":1}"),
    ]);
    let shown = |args: &[&str]| {
        let mut pty = Pty::start(&store.command(args), 80, 24);
        assert!(pty.end().success());
        String::from_utf8(pty.raw.clone()).unwrap()
    };
    assert_eq!(shown(&["get", "resource", "line"]), "a line\r\n");
    assert_eq!(shown(&["get", "resource", "none"]), "no line\r\n");
    assert_eq!(
        shown(&["get", "resource", "none", "--metadata"]),
        "{\"a\":1}\r\n"
    );
    assert_eq!(store.run(["get", "resource", "none"]).fine(), b"no line");
}
