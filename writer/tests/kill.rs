//! A writer process killed at random moments: nothing torn, nothing lost whose put had returned,
//! nothing to mend by hand.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use common::{KIND, change, child, child_args, key, payload};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{WriteError, Writer};

/// Threads that write side by side, and the keys of each.
const THREADS: usize = 3;
const KEYS: u64 = 20;

/// What a thread does as its `counter`th deed: keys to be put, or to be deleted, at once if there are
/// several. Nothing: it compacts.
fn deed(thread: usize, counter: u64) -> Vec<(u64, Option<Vec<u8>>)> {
    let number = |i: u64| thread as u64 * KEYS + (counter.wrapping_mul(7) + i) % KEYS;
    let put = |i: u64| {
        let len = 16 + ((counter + i) * 37 % 900) as usize;
        (number(i), Some(payload(number(i), counter, len)))
    };
    match counter % 16 {
        3 | 11 => vec![(number(0), None)],
        5 | 13 => vec![put(0), (number(1), None), put(2), put(3), put(4)],
        7 if counter % 64 == 7 => vec![],
        _ => vec![put(0)],
    }
}

fn act(writer: &Writer, deed: &[(u64, Option<Vec<u8>>)]) {
    let keys: Vec<_> = deed.iter().map(|(number, _)| key(*number)).collect();
    match deed {
        [] => writer.compact().unwrap(),
        [(_, Some(data))] => {
            writer.put(KIND, &keys[0], data, b"{}").unwrap();
        }
        [(_, None)] => {
            writer.delete(KIND, &keys[0]).unwrap();
        }
        batch => {
            let changes = keys.iter().zip(batch);
            let ops: Vec<_> = changes.map(|(key, (_, data))| change(key, data)).collect();
            writer.put_batch(&ops).unwrap();
        }
    }
}

/// The other process: does its deeds without end, each thread from its counter on, and says so after each one
/// that returned.
#[test]
fn child_writer() {
    let Some(args) = child_args() else { return };
    let (path, counters) = args.split_once('\n').unwrap();
    let wait = Duration::from_secs(5);
    let writer = common::small().lock_wait(wait).open(path).unwrap();
    println!("\nopen");
    std::thread::scope(|scope| {
        for (thread, counter) in counters.split(' ').enumerate() {
            let writer = &writer;
            scope.spawn(move || {
                for counter in counter.parse::<u64>().unwrap().. {
                    act(writer, &deed(thread, counter));
                    // One write of a short line: it comes whole or not at all.
                    let line = format!("{thread} {counter}\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            });
        }
    });
}

/// What a key held, by the counter of its put, `None` being no entry; and what it holds if the deed counts
/// that was in flight when the writer was killed.
#[derive(Clone, Copy, Default)]
struct Expected {
    held: Option<u64>,
    in_flight: Option<Option<u64>>,
}

#[derive(Default)]
struct Tally {
    changes: u64,
    torn: u64,
    lost: u64,
}

impl Tally {
    /// Looks at every key. What is seen of the deeds in flight was done, and must stay.
    fn look(&mut self, reader: &Reader, expected: &mut [Expected]) {
        let view = reader.view().unwrap();
        for (number, expected) in (0..).zip(expected) {
            let entry = view.get(KIND, key(number)).unwrap();
            let found = entry.map(|entry| {
                let data = entry.data();
                let counter = u64::from_le_bytes(data[8..16].try_into().unwrap());
                self.torn += u64::from(data != payload(number, counter, data.len()));
                counter
            });
            if expected.in_flight == Some(found) {
                *expected = Expected {
                    held: found,
                    in_flight: None,
                };
            } else if expected.held != found {
                eprintln!("key {number}: {found:?} instead of {:?}", expected.held);
                self.lost += 1;
            }
        }
        self.torn += view.verify().unwrap().damaged.len() as u64;
    }

    /// Takes note of what a writer that was killed had said.
    fn note(&mut self, process: &mut Child, counters: &mut [u64], expected: &mut [Expected]) {
        let mut mark = |thread, counter, in_flight: bool| {
            for (number, data) in deed(thread, counter) {
                let now = data.is_some().then_some(counter);
                let expected = &mut expected[number as usize];
                match in_flight {
                    true => expected.in_flight = Some(now),
                    false => expected.held = now,
                }
            }
        };
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let (thread, counter) = line.split_once(' ').expect(&line);
            let thread: usize = thread.parse().unwrap();
            let counter: u64 = counter.parse().unwrap();
            assert_eq!(counter, counters[thread], "one after the other");
            counters[thread] += 1;
            self.changes += deed(thread, counter).len() as u64;
            mark(thread, counter, false);
        }
        for (thread, counter) in counters.iter_mut().enumerate() {
            mark(thread, *counter, true);
            *counter += 1;
        }
    }
}

/// Starts the other process, and waits until it has opened the store.
fn start(path: &Path, counters: &[u64]) -> Child {
    let counters: Vec<_> = counters.iter().map(u64::to_string).collect();
    let args = format!("{}\n{}", path.display(), counters.join(" "));
    let mut process = child("child_writer", &args);
    let output = process.stdout.as_mut().unwrap();
    // Byte by byte: what comes behind is read later.
    let mut seen = Vec::new();
    while !seen.ends_with(b"\nopen\n") {
        let mut byte = [0];
        output.read_exact(&mut byte).expect("the child failed");
        seen.push(byte[0]);
    }
    process
}

#[test]
fn a_killed_writer_loses_nothing_that_had_returned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut reader = None;
    let mut counters = [1; THREADS];
    let mut expected = vec![Expected::default(); THREADS * KEYS as usize];
    let mut tally = Tally::default();
    let mut starts = Vec::new();
    let kills = std::env::var("KILLS").map_or(300, |n| n.parse().unwrap());
    for round in 0..kills {
        let begun = Instant::now();
        let mut process = start(&path, &counters);
        let reader = reader.get_or_insert_with(|| Reader::open(&path).unwrap());
        drop(reader.view().unwrap());
        starts.push(begun.elapsed());
        // From "at once" to a few hundred puts, always in the middle of something.
        std::thread::sleep(Duration::from_micros((round * 577) % 9000));
        process.kill().unwrap();
        process.wait().unwrap();
        tally.note(&mut process, &mut counters, &mut expected);
        tally.look(reader, &mut expected);
        assert_ne!(reader.liveness().verdict(), Verdict::Alive);
        // The next start, and once more so that it is quiet: what it took up of the deeds in flight stays.
        common::small().open(&path).unwrap().close();
        tally.look(reader, &mut expected);
        for expected in &mut expected {
            expected.in_flight = None;
        }
    }
    let rollovers = reader.unwrap().stats().unwrap().rollovers;
    let Tally {
        changes,
        torn,
        lost,
    } = tally;
    starts.sort();
    let start = |share: f64| starts[(starts.len() as f64 * share) as usize];
    println!("   kills    changes  rollovers  torn  lost  start to first read: p50       p99");
    println!(
        "{kills:>8} {changes:>10} {rollovers:>10} {torn:>5} {lost:>5} {:>25.1?} {:>9.1?}",
        start(0.5),
        start(0.99)
    );
    assert_eq!((torn, lost), (0, 0));
    assert!(rollovers >= kills && changes >= kills);
    let strays = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(strays <= 2, "store and lock");
}

/// Another process that opens the store and keeps it until its standard input ends.
#[test]
fn child_holder() {
    let Some(path) = child_args() else { return };
    let writer = common::small().open(path).unwrap();
    writer.heartbeat().unwrap();
    println!("\nopen");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn one_writer_a_path_and_the_lock_goes_with_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut process = child("child_holder", &path.display().to_string());
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    while lines.next().unwrap().unwrap() != "open" {}
    for _ in 0..1000 {
        let second = Writer::options().open(&path);
        assert_eq!(second.err(), Some(WriteError::Locked));
    }
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.liveness().lock_held, Some(true));
    process.kill().unwrap();
    process.wait().unwrap();
    let begun = Instant::now();
    let wait = Duration::from_secs(5);
    let writer = Writer::options().lock_wait(wait).open(&path).unwrap();
    println!("lock had again after {:?}", begun.elapsed());
    let second = Writer::options().open(&path);
    assert_eq!(second.err(), Some(WriteError::Locked), "in one process too");
    writer.close();
    Writer::options().open(&path).unwrap();
}
