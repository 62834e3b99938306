//! `list`: every entry once, as text that a terminal survives.

use crate::store::Store;
use erlmcp_shm_writer::Kind;
use serde_json::json;
use std::collections::BTreeSet;

fn store() -> Store {
    Store::with(&[
        (Kind::ToolSchema, b"search", b"{}", b"{}"),
        (Kind::Resource, b"file:///b", b"four", b"{}"),
        (Kind::Resource, b"file:///a", b"", b"{\"a\":1}"),
        (Kind::Resource, b"\x1b[31m\xff\n", b"x", b"{}"),
        (Kind::Capability, "naïve".as_bytes(), b"{}", b""),
    ])
}

#[test]
fn sorted_by_kind_and_key() {
    let expected = "\
resource            4          1      2 \\x1b[31m\\xff\\x0a
resource            3          0      7 file:///a
resource            2          4      2 file:///b
tool                1          2      2 search
capability          5          2      0 naïve
";
    assert_eq!(store().run(["list"]).text(), expected);
    assert_eq!(store().run(["list", "--pread"]).text(), expected);
}

#[test]
fn only_some() {
    let store = store();
    let keys = |args: &[&str]| {
        let ran = store.run(["list"].iter().chain(args));
        let none = ran.stderr.contains("no entry is of that kind and prefix");
        assert_eq!((ran.code, ran.stdout.is_empty()), (0, none), "{ran:?}");
        let text = String::from_utf8(ran.stdout).unwrap();
        let keys = text.lines().map(|line| line.rsplit(' ').next().unwrap());
        keys.map(String::from).collect::<Vec<_>>()
    };
    assert_eq!(keys(&["--kind", "tool"]), ["search"]);
    assert_eq!(keys(&["--kind", "prompt"]), [""; 0]);
    assert_eq!(keys(&["--prefix", "file:///"]), ["file:///a", "file:///b"]);
    assert_eq!(keys(&["--prefix", "file:///", "--kind", "tool"]), [""; 0]);
    assert_eq!(keys(&["--escaped-prefix", r"\x1b"]), [r"\x1b[31m\xff\x0a"]);
    assert_eq!(keys(&["--prefix", r"\x1b"]), [""; 0]);
}

#[test]
fn json() {
    let rows = store().run(["list", "--json"]).json();
    assert_eq!(rows.len(), 5);
    assert_eq!(
        rows[1],
        json!({"kind": "resource", "key": "file:///a", "version": 3, "data_bytes": 0,
               "metadata_bytes": 7, "expired": false})
    );
    assert_eq!(rows[0]["key_hex"], "1b5b33316dff0a");
    assert_eq!(rows[4]["key"], "naïve");
}

#[test]
fn what_it_prints_finds_the_entry_again() {
    let store = store();
    for line in store.run(["list", "--kind", "resource"]).text().lines() {
        let key = line.rsplit(' ').next().unwrap();
        store.run(["get", "resource", "--escaped", key]).fine();
    }
}

#[test]
fn an_empty_store() {
    let store = Store::with(&[]);
    for args in [&["list"][..], &["list", "--json"]] {
        store.run(args).refused(0, "the store is empty");
    }
    store.run(["bench"]).refused(1, "the store is empty");
}

#[test]
fn many_entries() {
    let store = Store::new();
    let writer = store.writer();
    let expected: BTreeSet<String> = (0..10_000).map(|n| format!("key {n}")).collect();
    for key in &expected {
        writer
            .put(Kind::Resource, key.as_bytes(), key.as_bytes(), b"{}")
            .unwrap();
    }
    let rows = store.run(["list", "--json"]).json();
    assert_eq!(rows.len(), expected.len());
    let keys = rows
        .iter()
        .map(|row| row["key"].as_str().unwrap().to_owned());
    assert_eq!(keys.collect::<BTreeSet<_>>(), expected);
}
