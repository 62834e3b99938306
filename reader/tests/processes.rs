//! Real processes: a reader that starts before the first export, and writers that are killed.
//!
//! The test starts itself twice over, as a publisher and as a checker. The publisher says on stdout
//! which put has returned; the checker is told of some of these, and must find each at once. It also
//! looks every key up all the time, and never may it meet a torn value or an older one than before.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support {
    pub mod payload;
}

use erlmcp_shm_reader::{Kind, ReadError, Reader, Verdict};
use erlmcp_shm_writer::Writer;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use support::payload::{number, payload};

const KEYS: u64 = 40;

fn key(n: u64) -> Vec<u8> {
    format!("file:///{}", n % KEYS).into_bytes()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("publish") => publish(Path::new(&args[2]), args[3].parse().unwrap()),
        Some("check") => check(Path::new(&args[2])),
        // What cargo asks of every test.
        Some("--list") => println!("kills: test"),
        _ => {
            kills();
            println!("test kills ... ok");
        }
    }
}

/// Publishes number after number, and says so after each.
fn publish(path: &Path, first: u64) {
    let writer = Writer::options()
        .size(128 << 10)
        .max_size(32 << 20)
        .open(path)
        .unwrap();
    let mut out = std::io::stdout().lock();
    for n in first.. {
        let key = key(n);
        writer
            .put(Kind::Resource, &key, &payload(&key, n), b"{}")
            .unwrap();
        if writeln!(out, "{n}").is_err() {
            return;
        }
        if n % 100 == 0 {
            writer.heartbeat().unwrap();
        }
    }
}

/// Answers each number on stdin with the one that a lookup finds in its place, which is no lower.
fn check(path: &Path) {
    let shm = Reader::options().allow_absent(true).open(path).unwrap();
    let seen = Mutex::new(vec![0; KEYS as usize]);
    let lookup = |n: u64| {
        let key = key(n);
        // Before the lookup: what came up to now is the least that it may find.
        let mut before = seen.lock().unwrap()[(n % KEYS) as usize];
        let bytes = match shm.get_bytes(Kind::Resource, &key) {
            Err(ReadError::NotFound) if before == 0 => None,
            result => result.unwrap(),
        };
        let found = bytes.map_or(0, |bytes| number(&key, &bytes));
        assert!(found >= before, "{found} after {before}");
        before = found;
        let cell = &mut seen.lock().unwrap()[(n % KEYS) as usize];
        *cell = before.max(*cell);
        found
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut lookups = 0u64;
            loop {
                lookup(lookups);
                lookups += 1;
            }
        });
        for line in std::io::stdin().lines() {
            let n: u64 = line.unwrap().parse().unwrap();
            let found = lookup(n);
            assert!(found >= n, "{found} although the put of {n} had returned");
            println!("{found}");
        }
        std::process::exit(0); // a panic of the other thread has ended the process before
    });
}

/// A child process, and the lines that it writes.
struct Process(Child, BufReader<std::process::ChildStdout>);

impl Process {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self(child, out)
    }

    fn line(&mut self) -> Option<u64> {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        line.trim().parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kills() {
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = folder.path().join("store.bin");
    let path_arg = path.to_str().unwrap();
    let mut checker = Process::start(&["check", path_arg]);
    let mut tell = checker.0.stdin.take().unwrap();
    let (mut last, mut told, rounds) = (0, 0, 10);
    for round in 0..rounds {
        let mut publisher = Process::start(&["publish", path_arg, &(last + 1000).to_string()]);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(150 + round * 17) {
            let n = publisher.line().expect("the publisher goes on");
            last = n;
            if n.is_multiple_of(37) {
                writeln!(tell, "{n}").unwrap();
                assert!(checker.line().expect("the checker is content") >= n);
                told += 1;
            }
        }
        let shm = Reader::open(&path).unwrap();
        assert_eq!(shm.liveness().lock_held, Some(true));
        publisher.0.kill().unwrap();
        publisher.0.wait().unwrap();
        // What it had written before it was killed; the last line may be cut.
        while let Some(n) = publisher.line() {
            last = last.max(n);
        }
        assert_eq!(shm.liveness().verdict(), Verdict::Dead);
        writeln!(tell, "{last}").unwrap();
        assert!(checker.line().expect("the checker is content") >= last);
        let found = shm.verify().unwrap();
        assert!(found.is_sound(), "{found:?}");
    }
    drop(tell);
    assert!(checker.0.wait().unwrap().success());
    let rollovers = Reader::open(&path).unwrap().stats().unwrap().rollovers;
    println!("{last} puts at most, {rounds} kills, {rollovers} rollovers, {told} checked at once");
    assert!(rollovers > 0, "no rollover happened");
}
