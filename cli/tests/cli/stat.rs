//! `stat`: figures under names that do not change.

use crate::store::{Store, WriterProcess};
use erlmcp_shm_writer::Kind;
use serde_json::{Value, json};

const NAMES: [&str; 28] = [
    "path",
    "writer",
    "writer_pid",
    "lock_held",
    "heartbeat_age_ms",
    "heartbeat_interval_ms",
    "state",
    "store_id",
    "generation",
    "rollovers",
    "version",
    "changes",
    "puts",
    "deletes",
    "entries",
    "size",
    "live_bytes",
    "dead_bytes",
    "fragmentation",
    "log_used",
    "log_capacity",
    "max_size",
    "fill",
    "used_slots",
    "slot_count",
    "huge_page_bytes",
    "mapped_generations",
    "mapped_bytes",
];

fn stat(store: &Store) -> Value {
    store.run(["stat", "--json"]).json().remove(0)
}

#[test]
fn figures() {
    let store = Store::new();
    let writer = store.writer();
    for value in [&b"1"[..], b"22", b"333"] {
        writer.put(Kind::Resource, b"k", value, b"{}").unwrap();
    }
    writer.put(Kind::ToolSchema, b"t", b"{}", b"{}").unwrap();
    writer.delete(Kind::ToolSchema, b"t").unwrap();
    let answer = stat(&store);
    let names: Vec<_> = answer.as_object().unwrap().keys().collect();
    let mut expected = NAMES;
    expected.sort_unstable();
    assert_eq!(names, expected);
    let expected = json!({"entries": 1, "puts": 4, "deletes": 1, "version": 5, "size": 1 << 20,
        "state": "live", "writer": "alive", "writer_pid": std::process::id(), "lock_held": true,
        "path": store.path()});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(answer[name], *value, "{name}");
    }
    assert_eq!(answer["store_id"].as_str().unwrap().len(), 32);
}

#[test]
fn text_is_aligned_and_names_the_path() {
    let store = Store::with(&[(Kind::Resource, b"k", b"v", b"{}")]);
    let text = store.run(["stat"]).text();
    for line in text.lines() {
        let (name, value) = line.split_at(12);
        assert!(!name.trim_end().is_empty() && name.ends_with(' '), "{line}");
        assert!(!value.starts_with(' ') && !value.is_empty(), "{line}");
    }
    assert!(text.contains(&format!("path        {}\n", store.path().display())));
    assert!(text.contains("\nentries     1\n"));
    assert!(text.contains("\nwriter      closed"));
}

#[test]
fn the_writers_life() {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    writer.put("k", "v");
    let answer = stat(&store);
    assert_eq!(answer["writer"], "alive");
    assert_eq!(answer["writer_pid"], writer.pid());
    assert!(answer["heartbeat_age_ms"].is_u64());
    writer.kill();
    assert_eq!(stat(&store)["writer"], "dead");
    assert_eq!(stat(&store)["lock_held"], false);
    assert_eq!(store.run(["get", "resource", "k"]).fine(), b"v");
    WriterProcess::start(&store.path()).close();
    assert_eq!(stat(&store)["writer"], "closed");
    assert_eq!(store.run(["get", "resource", "k"]).fine(), b"v");
}
