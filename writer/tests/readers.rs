//! Readers in other processes while the writer rolls over, grows, and is killed and started again.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin};
use std::time::Duration;

use common::{KIND, child, child_args, counter_of, key, payload};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::Writer;

const KEYS: u64 = 64;

/// A process that reads on command: `number counter` asks for that key, which must be there with at
/// least that counter at this very lookup; it answers with what it found. Between commands a second
/// thread of it reads everything without end.
#[test]
fn child_reader() {
    let Some(path) = child_args() else { return };
    // Started before there is a file.
    let reader = Reader::options().allow_absent(true).open(path).unwrap();
    let everything = reader.clone();
    std::thread::spawn(move || {
        let _fatal = AbortOnPanic;
        let mut newest = vec![0; KEYS as usize];
        loop {
            // Not there yet, or between two writers.
            let Ok(view) = everything.view() else {
                continue;
            };
            for number in 0..KEYS {
                if let Some(entry) = view.get(KIND, key(number)).unwrap() {
                    let counter = counter_of(number, &entry);
                    let before = std::mem::replace(&mut newest[number as usize], counter);
                    assert!(counter >= before, "key {number} went back");
                } else {
                    assert_eq!(newest[number as usize], 0, "key {number} vanished");
                }
            }
        }
    });
    println!("\nready");
    for line in std::io::stdin().lines() {
        let line = line.unwrap();
        let (number, counter) = line.split_once(' ').unwrap();
        let (number, least): (u64, u64) = (number.parse().unwrap(), counter.parse().unwrap());
        let view = reader.view().unwrap();
        let entry = view.get(KIND, key(number)).unwrap().expect("vanished");
        let found = counter_of(number, &entry);
        assert!(
            found >= least,
            "key {number}: {found} is older than {least}"
        );
        println!("{found} {}", view.generation());
    }
}

/// A failed check in a thread ends the process, so that the test notices.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        std::process::abort();
    }
}

struct Remote {
    process: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Remote {
    fn start(path: &std::path::Path) -> Self {
        let mut process = child("child_reader", &path.display().to_string());
        let input = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "ready" {}
        Self {
            process,
            input,
            lines,
        }
    }

    /// Asks for a key that was just put.
    fn sees(&mut self, number: u64, counter: u64) {
        writeln!(self.input, "{number} {counter}").unwrap();
        let answer = self.lines.next().expect("the reader failed").unwrap();
        assert!(answer.starts_with(&format!("{counter} ")), "{answer}");
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn every_put_is_seen_at_the_next_lookup_through_rollovers_growth_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut remote = Remote::start(&path);
    let open = || {
        let options = Writer::options().size(1 << 20).max_size(256 << 20);
        options.lock_wait(Duration::from_secs(5)).open(&path)
    };
    let mut writer = open().unwrap();
    let mut counter = 0;
    let mut puts = |writer: &Writer, remote: &mut Remote, count: u64, len: usize| {
        for i in 0..count {
            counter += 1;
            let number = counter % KEYS;
            let data = payload(number, counter, len);
            writer.put(KIND, &key(number), &data, b"{}").unwrap();
            // Every put, every few, or only the last: races differ.
            if i % 5 == 0 || i + 1 == count {
                remote.sees(number, counter);
            }
        }
    };
    for round in 0..50 {
        puts(&writer, &mut remote, 200, 512);
        writer.compact().unwrap();
        puts(&writer, &mut remote, 20, 512);
        if round % 20 == 19 {
            drop(writer);
            writer = open().unwrap();
        }
    }
    for len in [16 << 10, 64 << 10, 256 << 10, 1 << 20] {
        puts(&writer, &mut remote, 2 * KEYS, len);
    }
    let stats = writer.stats();
    println!(
        "{} rollovers, {} MB",
        stats.stats.rollovers,
        stats.size >> 20
    );
    assert!(stats.stats.rollovers >= 50);
    assert!(stats.size >= 64 << 20);
    assert!(remote.process.try_wait().unwrap().is_none(), "it read on");
}

/// Threads that put and delete side by side, readers that follow from several threads.
#[test]
fn many_threads_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = common::small().open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let start = std::sync::Barrier::new(5);
    let rounds = 3000;
    std::thread::scope(|scope| {
        let putters: Vec<_> = (0..2u64)
            .map(|half| {
                let (writer, start) = (&writer, &start);
                scope.spawn(move || {
                    start.wait();
                    for counter in 1..=rounds {
                        for number in (half..16).step_by(2) {
                            let len = 16 + (counter * 37 % 700) as usize;
                            let data = payload(number, counter, len);
                            writer.put(KIND, &key(number), &data, b"{}").unwrap();
                            if number >= 14 {
                                writer.delete(KIND, &key(number)).unwrap().unwrap();
                            }
                        }
                    }
                })
            })
            .collect();
        for _ in 0..3 {
            let reader = reader.clone();
            let (start, done) = (&start, &done);
            scope.spawn(move || {
                start.wait();
                let mut newest = [0; 16];
                while !done.load(relaxed) {
                    let view = reader.view().unwrap();
                    for number in 0..16 {
                        if let Some(entry) = view.get(KIND, key(number)).unwrap() {
                            let counter = counter_of(number, &entry);
                            assert!(counter >= newest[number as usize]);
                            newest[number as usize] = counter;
                        }
                    }
                }
            });
        }
        for putter in putters {
            putter.join().unwrap();
        }
        done.store(true, relaxed);
    });
    for number in 0..14 {
        assert_eq!(common::read(&reader, number), Some(rounds));
    }
    let rollovers = writer.stats().stats.rollovers;
    println!("{rollovers} rollovers");
    assert!(rollovers > 100);
    assert!(reader.verify().unwrap().damaged.is_empty());
}
