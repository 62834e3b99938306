//! Bars: where somebody watches, and nowhere else.

use crate::pty::Pty;
use crate::store::Store;
use erlmcp_shm_writer::Kind;
use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

/// It would take for ever.
const LONG: [&str; 3] = ["bench", "--reads", "1000000000000"];

#[test]
fn on_a_terminal() {
    let store = Store::with(&[(Kind::Resource, b"k", b"v", b"{}")]);
    let mut pty = Pty::start(&store.command(LONG), 100, 24);
    pty.until_shown("measuring [");
    pty.until_shown("of 3,000,000,000,000");
}

#[test]
fn elsewhere_there_is_none() {
    let store = Store::with(&[(Kind::Resource, b"k", b"v", b"{}")]);
    let mut command = store.command(LONG);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    // On a terminal it would have come after one second.
    std::thread::sleep(Duration::from_secs(2));
    child.kill().unwrap();
    child.wait().unwrap();
    let mut said = vec![];
    child.stderr.take().unwrap().read_to_end(&mut said).unwrap();
    assert_eq!(said, b"");
}

#[test]
fn what_is_soon_done_has_none() {
    let store = Store::with(&[(Kind::Resource, b"k", b"v", b"{}")]);
    let mut pty = Pty::start(&store.command(["verify"]), 100, 24);
    pty.until_shown("sound: 1 records");
    assert_eq!(pty.end().code(), Some(0));
    assert!(!String::from_utf8_lossy(&pty.raw).contains("checking"));
}
