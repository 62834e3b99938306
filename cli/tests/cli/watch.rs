//! `watch`: every change a line, whatever becomes of the writer.

use crate::store::{Store, WriterProcess};
use erlmcp_shm_writer::{Kind, Writer};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `watch`.
struct Watch {
    child: Child,
    changes: Receiver<String>,
    remarks: Receiver<String>,
}

impl Watch {
    /// Returns once it watches.
    fn start(store: &Store, args: &[&str]) -> (Self, String) {
        let mut command = store.command(["watch"].iter().chain(args));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let watch = Self {
            changes: lines(child.stdout.take().unwrap()),
            remarks: lines(child.stderr.take().unwrap()),
            child,
        };
        let first = watch.remark();
        assert!(first.contains("watching"), "{first}");
        (watch, first)
    }

    #[track_caller]
    fn change(&self) -> String {
        let line = self.changes.recv_timeout(PATIENCE).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[track_caller]
    fn remark(&self) -> String {
        self.remarks.recv_timeout(PATIENCE).unwrap()
    }

    #[track_caller]
    fn expect_remark(&self, words: &str) {
        let remark = self.remark();
        assert!(
            remark.starts_with("erlmcp-shm: ") && remark.contains(words),
            "{remark}"
        );
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            if line.is_err() || sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[test]
fn a_line_for_each_change() {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    writer.put("old", "1");
    let (watch, first) = Watch::start(&store, &[]);
    assert!(
        first.contains(&format!("the writer is alive (process {})", writer.pid())),
        "{first}"
    );
    writer.put("k", "1");
    assert_eq!(watch.change(), "added resource 2 k");
    writer.put("k", "2");
    assert_eq!(watch.change(), "changed resource 3 k");
    writer.delete("k");
    assert_eq!(watch.change(), "deleted resource 3 k");
    writer.put("old", "2");
    assert_eq!(watch.change(), "changed resource 5 old");
}

#[test]
fn json_and_filters() {
    let store = Store::new();
    let writer = store.writer();
    let put = |kind, key: &[u8]| {
        writer.put(kind, key, b"v", b"{}").unwrap();
        writer.flush().unwrap();
    };
    let (watch, _) = Watch::start(&store, &["--json", "--kind", "tool", "--prefix", "a"]);
    put(Kind::Resource, b"a");
    put(Kind::ToolSchema, b"b");
    put(Kind::ToolSchema, b"a\xff");
    assert_eq!(
        watch.change(),
        r#"{"change":"added","kind":"tool","key_hex":"61ff","version":3}"#
    );
}

#[test]
fn the_writer_is_killed_and_comes_back() {
    let store = Store::new();
    let mut writer = WriterProcess::start(&store.path());
    writer.put("kept", "1");
    let (watch, _) = Watch::start(&store, &[]);
    writer.kill();
    watch.expect_remark("is dead");
    let mut writer = WriterProcess::start(&store.path());
    watch.expect_remark(&format!("the writer is alive (process {})", writer.pid()));
    writer.put("kept", "2");
    assert_eq!(watch.change(), "changed resource 2 kept");
    writer.put("new", "1");
    assert_eq!(watch.change(), "added resource 3 new");
    writer.close();
    watch.expect_remark("has closed the store");
}

#[test]
fn a_writer_that_stopped_is_not_a_dead_one() {
    let store = Store::new();
    let options = Writer::options().size(1 << 20);
    let options = options.heartbeat_interval(Duration::from_millis(10));
    let writer = options.open(store.path()).unwrap();
    writer.heartbeat().unwrap();
    let (watch, first) = Watch::start(&store, &[]);
    if first.contains("is alive") {
        watch.expect_remark("gives no sign of life");
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                writer.heartbeat().unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        watch.expect_remark("is alive");
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_file_comes_goes_and_comes_back_as_another_store() {
    let store = Store::new();
    let (watch, first) = Watch::start(&store, &[]);
    assert!(
        first.ends_with("there is no file at the path; waiting for one"),
        "{first}"
    );
    let mut writer = WriterProcess::start(&store.path());
    writer.put("a", "1");
    writer.put("b", "1");
    let mut changes = [watch.change(), watch.change()];
    changes.sort();
    assert_eq!(changes, ["added resource 1 a", "added resource 2 b"]);
    watch.expect_remark("is alive");
    writer.kill();
    watch.expect_remark("is dead");
    fs::remove_file(store.path()).unwrap();
    watch.expect_remark("there is no file");

    // The versions of another store begin again: they are compared with nothing. (It may be looked at
    // before anything is in it.)
    let mut writer = WriterProcess::start(&store.path());
    writer.put("a", "another");
    let mut changes: Vec<String> = Vec::new();
    while changes.len() < 2
        || !changes
            .iter()
            .any(|change| change.ends_with("resource 1 a"))
    {
        changes.push(watch.change());
    }
    changes.sort();
    let at_once = ["changed resource 1 a", "deleted resource 2 b"];
    let one_by_one = [
        "added resource 1 a",
        "deleted resource 1 a",
        "deleted resource 2 b",
    ];
    assert!(changes == at_once || changes == one_by_one, "{changes:?}");
    watch.expect_remark("is alive");
}

#[test]
fn an_unreadable_file_takes_the_place() {
    let store = Store::new();
    let (watch, _) = Watch::start(&store, &[]);
    fs::write(store.beside("junk"), [7; 9000]).unwrap();
    fs::rename(store.beside("junk"), store.path()).unwrap();
    watch.expect_remark("not an erlmcp-shm store");
    fs::remove_file(store.path()).unwrap();
    watch.expect_remark("there is no file");
}

#[test]
fn many_changes_and_rollovers() {
    let store = Store::new();
    let writer = store.writer();
    let (mut watch, _) = Watch::start(&store, &[]);
    let value = vec![b'x'; 4000];
    let mut last = 0;
    for n in 0..3000_u32 {
        let key = format!("key {}", n % 10);
        last = writer
            .put(Kind::Resource, key.as_bytes(), &value, b"{}")
            .unwrap();
        if n % 100 == 0 {
            writer.flush().unwrap();
        }
    }
    writer.flush().unwrap();
    let rollovers = writer.stats().stats.rollovers;
    assert!(rollovers > 0);
    println!("{rollovers} rollovers");
    let expected = format!("resource {last} key 9");
    while !watch.change().ends_with(&expected) {}
    assert!(watch.child.try_wait().unwrap().is_none());
}

#[test]
fn ends_quietly_when_nobody_reads() {
    let store = Store::new();
    let writer = store.writer();
    let mut command = store.command(["watch"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let remarks = lines(child.stderr.take().unwrap());
    remarks.recv_timeout(PATIENCE).unwrap();
    writer.put(Kind::Resource, b"k", b"v", b"{}").unwrap();
    writer.flush().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(remarks.iter().count(), 0);
}
