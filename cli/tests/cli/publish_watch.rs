//! `publish --watch`: whatever is done to the folder, the store follows; and a signal closes it.

use crate::publish::Folder;
use crate::store::Ran;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);

/// A running `publish --watch`, with what it says on stderr going to that of the test.
struct Publisher<'a> {
    folder: &'a Folder,
    child: Child,
    rounds: BufReader<ChildStdout>,
}

impl<'a> Publisher<'a> {
    /// Returns once the first round is done.
    fn start(folder: &'a Folder, dir: &Path) -> Self {
        let mut command = folder.store.command(["publish"]);
        command.arg(dir).args(["--prefix", "x:", "--watch"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let rounds = BufReader::new(child.stdout.take().unwrap());
        let mut publisher = Self {
            folder,
            child,
            rounds,
        };
        publisher.round();
        publisher
    }

    fn round(&mut self) -> String {
        let mut line = String::new();
        self.rounds.read_line(&mut line).unwrap();
        assert!(line.starts_with("published "), "{line}");
        line
    }

    /// Waits until the store holds exactly this.
    #[track_caller]
    fn expect(&self, entries: &[(&str, &str)]) {
        let entry = |(key, data): &(&str, &str)| (key.to_string(), data.as_bytes().to_vec());
        let expected: BTreeMap<_, _> = entries.iter().map(entry).collect();
        self.eventually(|| self.folder.published() == expected);
    }

    #[track_caller]
    fn eventually(&self, what: impl Fn() -> bool) {
        let start = Instant::now();
        while !what() {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.folder.published());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A signal; what it leaves.
    fn end(mut self, signal: Signal) -> Ran {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let mut rest = String::new();
        self.rounds.read_to_string(&mut rest).unwrap();
        let mut said = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        Ran {
            code: self
                .child
                .wait()
                .unwrap()
                .code()
                .expect("it ends by itself"),
            stdout: rest.into_bytes(),
            stderr: said,
        }
    }
}

impl Drop for Publisher<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn follows_every_sort_of_change_and_ends_with_a_closed_store() {
    let folder = Folder::new();
    folder.file("kept", "0");
    let publisher = Publisher::start(&folder, &folder.dir());
    let dir = folder.dir();
    let path = |name: &str| dir.join(name);
    publisher.expect(&[("x:kept", "0")]);

    folder.file("sub/deep/new", "1");
    publisher.expect(&[("x:kept", "0"), ("x:sub/deep/new", "1")]);
    // In a folder that is as new as itself; of the same length; twice within a tick of the clock.
    fs::write(path("sub/deep/new"), "2").unwrap();
    fs::write(path("sub/deep/new"), "3").unwrap();
    publisher.expect(&[("x:kept", "0"), ("x:sub/deep/new", "3")]);
    fs::rename(path("sub/deep/new"), path("sub/deep/renamed")).unwrap();
    publisher.expect(&[("x:kept", "0"), ("x:sub/deep/renamed", "3")]);
    fs::rename(path("sub"), path("moved")).unwrap();
    publisher.expect(&[("x:kept", "0"), ("x:moved/deep/renamed", "3")]);
    fs::write(path("moved/deep/renamed"), "4").unwrap();
    publisher.expect(&[("x:kept", "0"), ("x:moved/deep/renamed", "4")]);
    // What editors do, and what configuration maps do.
    fs::write(path("kept~"), "5").unwrap();
    fs::rename(path("kept~"), path("kept")).unwrap();
    folder.file("..1/link", "6");
    folder.file("..2/link", "7");
    symlink("..1", path("..data")).unwrap();
    symlink("..data/link", path("link")).unwrap();
    publisher.expect(&[
        ("x:kept", "5"),
        ("x:link", "6"),
        ("x:moved/deep/renamed", "4"),
    ]);
    symlink("..2", path("..tmp")).unwrap();
    fs::rename(path("..tmp"), path("..data")).unwrap();
    publisher.expect(&[
        ("x:kept", "5"),
        ("x:link", "7"),
        ("x:moved/deep/renamed", "4"),
    ]);
    fs::remove_dir_all(path("moved")).unwrap();
    fs::remove_file(path("link")).unwrap();
    publisher.expect(&[("x:kept", "5")]);

    let writer = |wanted: &str| {
        let stat = folder.store.run(["stat", "--json"]).json().remove(0);
        assert_eq!(stat["writer"], wanted, "{stat}");
    };
    writer("alive");
    folder.publish(&[]).refused(2, "another writer");
    let ran = publisher.end(Signal::INT);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    writer("closed");
    folder.store.run(["verify"]).text();
}

/// Thousands of changes are some rounds, and none of them is lost.
#[test]
fn a_burst() {
    let folder = Folder::new();
    let publisher = Publisher::start(&folder, &folder.dir());
    for n in 0..1000 {
        folder.file(format!("{}/{n}", n % 7), n.to_string());
        if n % 3 == 0 {
            folder.file(format!("{}/{n}", n % 7), format!("again {n}"));
        }
        if n % 5 == 0 {
            fs::remove_file(folder.dir().join(format!("{}/{n}", n % 7))).unwrap();
        }
    }
    publisher.eventually(|| folder.published().len() == 800);
    let ran = publisher.end(Signal::TERM);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let rounds = ran.stdout.split(|byte| *byte == b'\n').count();
    println!("{rounds} rounds");
    let published = folder.published();
    for n in (0..1000).filter(|n| n % 5 != 0) {
        let data = if n % 3 == 0 {
            format!("again {n}")
        } else {
            n.to_string()
        };
        assert_eq!(published[&format!("x:{}/{n}", n % 7)], data.as_bytes());
    }
    assert!(rounds < 200, "{rounds}");
}

/// A deployment that swaps a link, and a folder that goes and comes back.
#[test]
fn the_path_comes_to_name_another_folder() {
    let folder = Folder::new();
    folder.file("1/a", "1");
    folder.file("2/a", "2");
    folder.file("2/b", "2");
    let current = folder.store.beside("current");
    symlink("dir/1", &current).unwrap();
    let publisher = Publisher::start(&folder, &current);
    publisher.expect(&[("x:a", "1")]);
    symlink("dir/2", folder.store.beside("next")).unwrap();
    fs::rename(folder.store.beside("next"), &current).unwrap();
    publisher.expect(&[("x:a", "2"), ("x:b", "2")]);
    // The new one is watched.
    folder.file("2/b", "3");
    publisher.expect(&[("x:a", "2"), ("x:b", "3")]);
    fs::remove_file(&current).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    publisher.expect(&[("x:a", "2"), ("x:b", "3")]);
    symlink("dir/1", &current).unwrap();
    publisher.expect(&[("x:a", "1")]);
    let ran = publisher.end(Signal::INT);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("what is published stays; waiting for it"),
        "{}",
        ran.stderr
    );
}

/// Kill it, and the next one goes on with what it left.
#[test]
fn killed_and_started_again() {
    let folder = Folder::new();
    folder.file("a", "1");
    folder.file("b", "1");
    let mut publisher = Publisher::start(&folder, &folder.dir());
    publisher.child.kill().unwrap();
    publisher.child.wait().unwrap();
    fs::remove_file(folder.dir().join("b")).unwrap();
    let ran = folder.publish(&["--delete", "--json"]);
    assert_eq!(crate::publish::counts(&ran.json()[0]), [0, 1, 1, 0, 0]);
}

/// Somebody truncates the store: an end with a reason, and not by SIGBUS.
#[test]
fn the_store_is_truncated() {
    let folder = Folder::new();
    folder.file("a", "1");
    let mut publisher = Publisher::start(&folder, &folder.dir());
    let file = fs::OpenOptions::new()
        .write(true)
        .open(folder.store.path())
        .unwrap();
    file.set_len(0).unwrap();
    let mut said = String::new();
    publisher
        .child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(publisher.child.wait().unwrap().code(), Some(2), "{said}");
    assert!(said.contains("truncated"), "{said}");
}
