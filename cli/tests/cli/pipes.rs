//! Output that nobody reads to its end, or that has no room.

use crate::store::{Ran, Store};
use erlmcp_shm_writer::Kind;
use std::fs::OpenOptions;
use std::io::Read;
use std::process::Stdio;

/// More than a pipe holds.
fn store() -> Store {
    let store = Store::new();
    let writer = store.writer();
    for n in 0..5000 {
        let key = format!("{n:0100}");
        writer
            .put(Kind::Resource, key.as_bytes(), b"v", b"{}")
            .unwrap();
    }
    writer
        .put(Kind::ToolSchema, b"large", &[b'x'; 400_000], b"{}")
        .unwrap();
    writer.close();
    store
}

#[test]
fn whoever_stops_reading_hears_no_complaint() {
    let store = store();
    let cases: [&[&str]; 5] = [
        &["dump"],
        &["list"],
        &["list", "--json"],
        &["get", "tool", "large"],
        &["get", "tool", "large", "--json"],
    ];
    for args in cases {
        let mut command = store.command(args);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{args:?}");
    }
}

#[test]
fn a_full_disk_is_no_success() {
    let store = store();
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        println!("SKIPPED: there is no /dev/full");
        return;
    };
    let cases: [&[&str]; 7] = [
        &["dump"],
        &["list"],
        &["stat"],
        &["stat", "--json"],
        &["verify"],
        &["get", "tool", "large"],
        &["bench", "--reads", "1"],
    ];
    for args in cases {
        let mut command = store.command(args);
        command
            .stdout(full.try_clone().unwrap())
            .stderr(Stdio::piped());
        let ran = Ran::of(command.spawn().unwrap().wait_with_output().unwrap());
        assert_eq!(ran.code, 2, "{args:?}");
        assert!(
            ran.stderr.starts_with("erlmcp-shm: stdout: No space left"),
            "{ran:?}"
        );
    }
}
