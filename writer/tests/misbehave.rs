//! Readers and writers that stop, hoard, or are killed: what the others notice of it.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use common::{KIND, Tmpfs, child, child_args, key, payload, read, small};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{WriteError, Writer};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::io::Errno;

fn signal(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id() as i32), signal).unwrap();
}

/// Waits for a line of a child's.
fn wait_for(process: &mut Child, wanted: &str) {
    let output = process.stdout.as_mut().unwrap();
    let mut lines = BufReader::new(output).lines();
    assert!(lines.any(|line| line.unwrap() == wanted), "the child ended");
}

/// Another process that looks a key up, and then keeps its view until it is killed.
#[test]
fn child_reader() {
    let Some(path) = child_args() else { return };
    let reader = Reader::open(path).unwrap();
    let view = reader.view().unwrap();
    assert!(view.get(KIND, key(1)).unwrap().is_some());
    println!("\nread");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Another process that puts without end.
#[test]
fn child_writer() {
    let Some(path) = child_args() else { return };
    let writer = small().open(path).unwrap();
    for counter in 1.. {
        for number in 0..20 {
            let data = payload(number, counter, 400);
            writer.put(KIND, &key(number), &data, b"{}").unwrap();
        }
        writer.heartbeat().unwrap();
        if counter == 1 {
            println!("\nopen");
        }
    }
}

/// Bytes that a file system has left.
fn left(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

/// Puts flat out for a moment; how many a second.
fn puts_per_second(writer: &Writer) -> f64 {
    let begun = Instant::now();
    let mut puts = 0;
    while begun.elapsed() < Duration::from_millis(300) {
        for number in 1..50 {
            writer
                .put(KIND, &key(number), &payload(number, puts, 400), b"{}")
                .unwrap();
            puts += 1;
        }
    }
    puts as f64 / begun.elapsed().as_secs_f64()
}

#[test]
fn stopped_and_killed_readers_are_not_noticed_and_leave_nothing() {
    let Some(disk) = Tmpfs::new("64m") else {
        return;
    };
    let path = disk.path().join("store");
    let options = Writer::options().size(256 << 10).max_size(1 << 20);
    let writer = options.open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 400), b"{}")
        .unwrap();
    let alone = puts_per_second(&writer);
    let mut stopped = child("child_reader", &path.display().to_string());
    wait_for(&mut stopped, "read");
    signal(&stopped, Signal::SIGSTOP);
    let beside = puts_per_second(&writer);
    println!("puts a second: {alone:.0} alone, {beside:.0} beside a stopped reader");
    stopped.kill().unwrap();
    stopped.wait().unwrap();

    writer.compact().unwrap();
    let settled = |what: &str, least: u64| {
        // The writer unmaps what it retired when it has time.
        let patience = Instant::now() + Duration::from_secs(10);
        while left(disk.path()) < least {
            assert!(Instant::now() < patience, "{what}: memory is still held");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let held = 2 * writer.stats().size + (64 << 10);
    settled("after a stopped reader", (64 << 20) - held);
    let kills = std::env::var("READERS").map_or(100, |n| n.parse().unwrap());
    for _ in 0..kills / 10 {
        let start = || child("child_reader", &path.display().to_string());
        let mut readers: Vec<_> = (0..10).map(|_| start()).collect();
        readers.iter_mut().for_each(|r| wait_for(r, "read"));
        writer.compact().unwrap();
        readers.iter_mut().for_each(|r| r.kill().unwrap());
        for reader in &mut readers {
            reader.wait().unwrap();
        }
    }
    let held = 2 * writer.stats().size + (64 << 10);
    settled("after killed readers", (64 << 20) - held);
    let files = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(files, 2, "store and lock");
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mapped = maps
        .lines()
        .filter(|l| l.contains(&*path.to_string_lossy()));
    assert!(mapped.count() <= 2, "{maps}");
    println!("{kills} readers killed: nothing left behind");
}

/// A reader that keeps a value of every generation keeps the generations: the writer runs out of room, says
/// so, goes on in the generation it has, and recovers when they are let go.
#[test]
fn a_hoarding_reader_costs_room_and_nothing_else() {
    let Some(disk) = Tmpfs::new("8m") else { return };
    let path = disk.path().join("store");
    let options = Writer::options().size(1 << 20).max_size(1 << 20);
    let writer = options.open(&path).unwrap();
    let reader = Reader::options().watcher(false).open(&path).unwrap();
    let mut hoard = Vec::new();
    let mut counter = 0;
    let refused = loop {
        counter += 1;
        assert!(counter < 100_000, "room never ran out");
        let data = payload(1, counter, 4096);
        match writer.put(KIND, &key(1), &data, b"{}") {
            Ok(_) if counter % 16 == 0 => {
                hoard.push((counter, reader.get_bytes(KIND, key(1)).unwrap().unwrap()));
            }
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(refused, WriteError::Io(Errno::NOSPC));
    assert_eq!(read(&reader, 1), Some(counter - 1));
    assert!(writer.delete(KIND, &key(1)).unwrap().is_some());
    assert_eq!(read(&reader, 1), None);
    for (counter, bytes) in &hoard {
        assert_eq!(**bytes, payload(1, *counter, 4096));
    }
    let generations = writer.stats().generation;
    println!("{generations} generations hoarded, then {refused:?}");
    hoard.clear();
    drop(reader.view());
    for counter in 1..2000 {
        writer
            .put(KIND, &key(1), &payload(1, counter, 4096), b"{}")
            .unwrap();
    }
    assert_eq!(read(&reader, 1), Some(1999));
    assert!(writer.stats().generation > generations);
}

/// Nanoseconds of lookups of all keys, sorted; every one must succeed.
fn lookups(reader: &Reader, rounds: usize) -> Vec<u128> {
    let mut times = Vec::new();
    for round in 0..rounds as u64 {
        let begun = Instant::now();
        let found = read(reader, round % 20);
        times.push(begun.elapsed().as_nanos());
        assert!(found.is_some(), "key {} is gone", round % 20);
    }
    times.sort_unstable();
    times
}

/// Stops a child and waits until all of its threads stand.
fn stop(process: &Child) {
    signal(process, Signal::SIGSTOP);
    let pid = Pid::from_raw(process.id() as i32);
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
}

/// The file under a temporary name that a rollover in progress has, and the generation it is for.
fn rollover_in_progress(path: &Path) -> Option<(PathBuf, u64)> {
    let names = std::fs::read_dir(path.parent().unwrap()).unwrap();
    names.map(|name| name.unwrap().path()).find_map(|name| {
        let text = name.file_name()?.to_str()?;
        let rest = text.strip_prefix("store.")?.strip_suffix(".tmp")?;
        let number = rest.split_once('.')?.0.parse().unwrap();
        Some((name, number))
    })
}

/// Wherever it is stopped: in a put, or with the next generation half built.
#[test]
fn a_stopped_writer_stops_no_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let mut writer = child("child_writer", &path.display().to_string());
    wait_for(&mut writer, "open");
    let reader = Reader::open(&path).unwrap();
    let (mut running, mut stopped) = (Vec::new(), Vec::new());
    let (mut stops, mut in_rollovers) = (0, 0);
    let least = std::env::var("STOPS").map_or(50, |n| n.parse().unwrap());
    let patience = Instant::now() + Duration::from_secs(60);
    while stops < least || (in_rollovers < 3 && Instant::now() < patience) {
        running.extend(lookups(&reader, 500));
        std::thread::sleep(Duration::from_micros(stops * 377 % 5000));
        stop(&writer);
        let rollover = rollover_in_progress(&path);
        stopped.extend(lookups(&reader, 500));
        if stops == 0 {
            let patience = Instant::now() + Duration::from_secs(30);
            while reader.liveness().verdict() != Verdict::Stale {
                assert!(Instant::now() < patience, "{:?}", reader.liveness());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        assert_eq!(rollover, rollover_in_progress(&path), "it does stand still");
        let changes = reader.changes().unwrap();
        signal(&writer, Signal::SIGCONT);
        let more = reader.wait_for_change(changes, Duration::from_secs(30));
        assert!(more.unwrap().is_some(), "it goes on");
        if let Some((name, generation)) = rollover {
            let patience = Instant::now() + Duration::from_secs(30);
            while name.exists() || reader.view().unwrap().generation() < generation {
                assert!(Instant::now() < patience, "the rollover goes on");
            }
            in_rollovers += 1;
        }
        stops += 1;
    }
    assert!(in_rollovers >= 3, "of {stops} stops");
    println!("{stops} stops, {in_rollovers} of them within a rollover that went on afterwards");
    println!("a lookup, in ns:                p50      p99    p99.9");
    for (name, times) in [
        ("writer runs", &mut running),
        ("writer stopped", &mut stopped),
    ] {
        times.sort_unstable();
        let at = |share: f64| times[(times.len() as f64 * share) as usize];
        println!("{name:>27} {:>7} {:>8} {:>8}", at(0.5), at(0.99), at(0.999));
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
}
