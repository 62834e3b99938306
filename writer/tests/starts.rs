//! Who is the writer: one of many that start at once, and the next one soon after it was killed.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Child;
use std::time::{Duration, Instant};

use common::{KIND, child, child_args, key, payload};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{WriteError, Writer};

/// Another process that tries to open the store when told to, and keeps it until its input ends.
#[test]
fn child_opener() {
    let Some(path) = child_args() else { return };
    println!("\nready");
    let mut input = std::io::stdin();
    input.read_exact(&mut [0]).unwrap();
    let opened = common::small().open(path);
    match &opened {
        Ok(_) => println!("open"),
        Err(WriteError::Locked) => println!("locked"),
        Err(error) => println!("{error}"),
    }
    let _ = input.read(&mut [0]);
}

fn lines(process: &mut Child) -> impl Iterator<Item = String> + use<> {
    let output = process.stdout.take().unwrap();
    BufReader::new(output).lines().map(Result::unwrap)
}

#[test]
fn of_many_that_start_at_once_one_is_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..20 {
        // A store that is not there yet, then one that is: both are ways to start.
        let path = dir.path().join(format!("store-{}", round / 2));
        let path = path.display().to_string();
        let mut processes: Vec<_> = (0..8).map(|_| child("child_opener", &path)).collect();
        let mut outputs: Vec<_> = processes.iter_mut().map(lines).collect();
        for output in &mut outputs {
            assert!(output.any(|line| line == "ready"));
        }
        for process in &mut processes {
            process.stdin.as_mut().unwrap().write_all(b"!").unwrap();
        }
        let mut answers: Vec<_> = outputs.iter_mut().map(|o| o.next().unwrap()).collect();
        answers.sort();
        let expected: Vec<_> = std::iter::repeat_n("locked", 7).chain(["open"]).collect();
        assert_eq!(answers, expected);
        for mut process in processes {
            drop(process.stdin.take());
            assert!(process.wait().unwrap().success());
        }
    }
}

/// Another process that fills a store of 64 MiB, so that its end takes as long as that.
#[test]
fn child_of_64_mib() {
    let Some(path) = child_args() else { return };
    let options = Writer::options().size(64 << 20).max_size(64 << 20);
    let writer = options
        .lock_wait(Duration::from_secs(5))
        .open(path)
        .unwrap();
    for number in 0..300 {
        let data = payload(number, 1, 32 << 10);
        writer.put(KIND, &key(number), &data, b"{}").unwrap();
    }
    println!("\nopen");
    let _ = std::io::stdin().read(&mut [0]);
}

/// The kernel lets go of the lock once the process's memory is gone.
#[test]
fn the_lock_is_free_soon_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let kills = std::env::var("KILLS").map_or(10, |n| n.parse::<usize>().unwrap().min(200));
    let mut waits = Vec::new();
    for _ in 0..kills {
        let mut process = child("child_of_64_mib", &path.display().to_string());
        let mut output = lines(&mut process);
        assert!(output.any(|line| line == "open"));
        let reader = Reader::open(&path).unwrap();
        assert_eq!(reader.liveness().lock_held, Some(true));
        process.kill().unwrap();
        let begun = Instant::now();
        while reader.liveness().lock_held == Some(true) {
            assert!(begun.elapsed() < Duration::from_secs(10), "still locked");
        }
        waits.push(begun.elapsed());
        process.wait().unwrap();
    }
    waits.sort();
    let (p50, max) = (waits[kills / 2], waits[kills - 1]);
    println!("{kills} kills with 64 MiB mapped; lock free after p50 {p50:.1?}, most {max:.1?}");
    // A machine that stalls may delay one of them; it does not delay half.
    assert!(p50 < Duration::from_millis(250));
}
