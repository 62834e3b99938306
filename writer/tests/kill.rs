//! A writer process killed at random moments: nothing torn, nothing lost whose put had returned,
//! nothing to mend by hand.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use common::{KIND, child, child_args, key, payload, read};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{WriteError, Writer};

const KEYS: u64 = 40;

/// The other process: puts and deletes without end, and says so after each one that returned.
#[test]
fn child_writer() {
    let Some(args) = child_args() else { return };
    let (path, start) = args.split_once('\n').unwrap();
    let wait = Duration::from_secs(5);
    let writer = common::small().lock_wait(wait).open(path).unwrap();
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nopen").unwrap();
    for counter in start.parse::<u64>().unwrap().. {
        let number = counter.wrapping_mul(7) % KEYS;
        if counter % 11 == 0 {
            writer.delete(KIND, &key(number)).unwrap();
            writeln!(out, "deleted {number} {counter}").unwrap();
        } else {
            let data = payload(number, counter, 16 + (counter % 900) as usize);
            writer.put(KIND, &key(number), &data, b"{}").unwrap();
            writeln!(out, "put {number} {counter}").unwrap();
        }
        out.flush().unwrap();
    }
}

#[test]
fn a_killed_writer_loses_nothing_that_had_returned() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut reader = None;
    let mut counter = 1;
    let mut rollovers = 0;
    // What each key must at least be: the counter of its last acknowledged change, and whether that
    // was a put.
    let mut acknowledged = vec![(0, false); KEYS as usize];
    let kills = std::env::var("KILLS").map_or(300, |n| n.parse().unwrap());
    let mut starts = Vec::new();
    for round in 0..kills {
        let begun = Instant::now();
        let mut process = child("child_writer", &format!("{}\n{counter}", path.display()));
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        while lines.next().unwrap().unwrap() != "open" {}
        let reader = reader.get_or_insert_with(|| Reader::open(&path).unwrap());
        drop(reader.view().unwrap());
        starts.push(begun.elapsed());
        // From "at once" to a few hundred puts, always in the middle of something.
        std::thread::sleep(Duration::from_micros((round * 577) % 9000));
        process.kill().unwrap();
        process.wait().unwrap();
        let mut note = |line: &str| -> Option<()> {
            let mut words = line.split(' ');
            let is_put = match words.next()? {
                "put" => true,
                "deleted" => false,
                _ => return None,
            };
            let number: usize = words.next()?.parse().ok()?;
            let at = words.next()?.parse().ok()?;
            acknowledged[number] = (at, is_put);
            counter = at + 1;
            Some(())
        };
        for line in lines {
            let line = line.unwrap();
            let cut_short = note(&line).is_none();
            assert!(!cut_short || process.try_wait().is_ok(), "{line}");
        }
        // One more change may have been published without its acknowledgement having left.
        counter += 1;
        for (number, &(at, is_put)) in acknowledged.iter().enumerate() {
            match read(reader, number as u64) {
                Some(found) => assert!(found >= at, "key {number}: {found} is older than {at}"),
                None => assert!(!is_put || unacknowledged_delete(number as u64, at, counter)),
            }
        }
        assert_ne!(reader.liveness().verdict(), Verdict::Alive);
        rollovers = reader.stats().unwrap().rollovers;
    }
    starts.sort();
    let start = |share: f64| starts[(starts.len() as f64 * share) as usize];
    println!("{kills} kills, {counter} changes, {rollovers} rollovers");
    println!(
        "start of the process to first read: p50 {:?}, p99 {:?}",
        start(0.5),
        start(0.99)
    );
    assert!(rollovers >= kills);
    let strays = std::fs::read_dir(dir.path()).unwrap().count();
    assert!(strays <= 3, "store, lock and at most one temporary file");
}

/// Whether the change after the last acknowledged one deleted this key.
fn unacknowledged_delete(number: u64, at: u64, next: u64) -> bool {
    (at + 1..=next).any(|c| c % 11 == 0 && c.wrapping_mul(7) % KEYS == number)
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
