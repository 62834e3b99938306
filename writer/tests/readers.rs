//! Readers in other processes while the writer rolls over, grows, and is killed and started again.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use common::{KIND, counter_of, key, payload};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::Writer;

const KEYS: u64 = 64;

/// The reader's example `follow`: it reads everything without end and fails on anything wrong, and looks
/// on command whether one entry is there.
struct Remote {
    process: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Remote {
    fn start(path: &std::path::Path) -> Self {
        let mut process = Command::new(env!("CARGO"))
            .args(["run", "--quiet", "--package", "erlmcp-shm-reader"])
            .args(["--example", "follow", "--"])
            .arg(path)
            .arg(KEYS.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
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
