//! `verify`: whole stores pass, damaged ones are told where.

use crate::store::{Ran, Store, json_lines, run};
use erlmcp_shm_writer::Kind;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

fn store() -> Store {
    Store::with(&[
        (
            Kind::Resource,
            b"file:///first\n",
            b"the first value",
            b"{}",
        ),
        (Kind::Resource, b"second", b"the second value", b"{}"),
        (Kind::ToolSchema, b"third", b"the third value", b"{}"),
    ])
}

/// A copy of the store in which one bit of each of the words is wrong; and where the first one is.
fn damaged_copy(store: &Store, words: &[&str]) -> (PathBuf, usize) {
    let mut bytes = fs::read(store.path()).unwrap();
    let places: Vec<_> = words
        .iter()
        .map(|word| {
            bytes
                .windows(word.len())
                .position(|w| w == word.as_bytes())
                .unwrap()
        })
        .collect();
    for place in &places {
        bytes[*place] ^= 0x10;
    }
    let copy = store.beside("damaged.bin");
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::metadata(store.path()).unwrap().permissions()).unwrap();
    (copy, places[0])
}

#[test]
fn a_sound_store() {
    let store = store();
    let text = store.run(["verify"]).text();
    assert!(text.starts_with("sound: 3 records in "), "{text}");
    assert!(text.ends_with(" bytes of log, 3 entries\n"), "{text}");
    let answer = store.run(["verify", "--json"]).json().remove(0);
    assert_eq!(answer["sound"], true);
    assert_eq!(answer["damaged"], json!([]));
    assert_eq!(
        (&answer["records"], &answer["entries"]),
        (&json!(3), &json!(3))
    );
}

#[test]
fn a_damaged_store() {
    let store = store();
    let (copy, place) = damaged_copy(&store, &["the first value", "the third value"]);
    for mode in [&["verify"][..], &["verify", "--pread"]] {
        let Ran {
            code,
            stdout,
            stderr,
        } = run(&copy, mode);
        assert_eq!((code, stderr.as_str()), (1, ""));
        let text = String::from_utf8(stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(
            lines[0].ends_with(r": a record's checksum: resource file:///first\x0a"),
            "{text}"
        );
        assert!(
            lines[1].ends_with(": a record's checksum: tool third"),
            "{text}"
        );
        assert!(
            lines[2].starts_with("damaged, places: 2: 1 records in "),
            "{text}"
        );
    }
    let Ran {
        code,
        stdout,
        stderr,
    } = run(&copy, ["verify", "--json"]);
    assert_eq!((code, stderr.as_str()), (1, ""));
    let answer = json_lines(&stdout).remove(0);
    assert_eq!(answer["sound"], false);
    let first = &answer["damaged"][0];
    assert_eq!(
        (&first["kind"], &first["key"]),
        (&json!("resource"), &json!("file:///first\n"))
    );
    let offset = first["offset"].as_u64().unwrap() as usize;
    assert!((offset..offset + 200).contains(&place), "{offset} {place}");
}

/// Of a key that is damaged itself nothing is known but the place.
#[test]
fn a_damaged_key() {
    let store = store();
    let (copy, _) = damaged_copy(&store, &["second"]);
    let Ran { code, stdout, .. } = run(&copy, ["verify", "--json"]);
    assert_eq!(code, 1);
    let damage = &json_lines(&stdout)[0]["damaged"][0];
    assert!(damage.get("kind").is_none() && damage.get("key").is_none());
    assert!(damage["offset"].as_u64().unwrap() > 1024);
}

/// Reading what is damaged by system calls finds out; the others are still there.
#[test]
fn a_damaged_entry_in_pread_mode() {
    let store = store();
    let (copy, _) = damaged_copy(&store, &["the second value"]);
    run(&copy, ["get", "resource", "second", "--pread"]).refused(1, "damaged");
    assert_eq!(
        run(&copy, ["get", "tool", "third", "--pread"]).fine(),
        b"the third value"
    );
    let listed = run(&copy, ["list", "--pread"]);
    assert_eq!(listed.code, 1);
    assert_eq!(listed.stdout.split(|byte| *byte == b'\n').count(), 3);
    assert!(listed.stderr.contains("damaged"), "{}", listed.stderr);
}
