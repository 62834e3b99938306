//! Readers in other processes that are stopped, slow, or killed: what the writer's throughput is beside each, what
//! they hold, and that all of it is freed once they are gone.

mod common;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use common::{KIND, Tmpfs, child, child_args, counter_of, key, payload};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::Writer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const KEYS: u64 = 50;
/// Generations of which the slow reader keeps an entry.
const KEPT: usize = 8;

/// Looks one key up each millisecond, and keeps what it finds for as long as it takes to meet so many more
/// generations. Whatever it lets go is still what it was.
#[test]
fn child_slow_reader() {
    let Some(path) = child_args() else { return };
    let reader = Reader::open(path).unwrap();
    let mut kept = VecDeque::new();
    let mut newest = 0;
    for round in 0.. {
        let number = round % KEYS;
        let view = reader.view().unwrap();
        let entry = view.get(KIND, key(number)).unwrap().expect("never deleted");
        if view.generation() > newest {
            newest = view.generation();
            kept.push_back((number, counter_of(number, &entry), entry.to_bytes()));
        }
        if kept.len() > KEPT {
            let (number, counter, bytes) = kept.pop_front().unwrap();
            assert_eq!(*bytes, payload(number, counter, bytes.len()));
        }
        drop(view);
        if round == 0 {
            println!("\nread");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[derive(Clone, Copy)]
enum Beside {
    Nobody,
    Stopped,
    Slow,
    Killed,
}

fn start(path: &Path) -> Child {
    let mut process = child("child_slow_reader", &path.display().to_string());
    let output = process.stdout.as_mut().unwrap();
    let mut lines = BufReader::new(output).lines();
    assert!(lines.any(|line| line.unwrap() == "read"));
    process
}

fn end(process: &mut Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

/// Generations of the store that a process has mapped.
fn mapped(process: &str, store: &Path) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let of_store = |line: &&str| line.contains(&*store.to_string_lossy());
    maps.lines().filter(of_store).count()
}

fn used(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks - stat.f_bfree) * stat.f_frsize
}

/// Puts flat out for a moment; how many a second.
fn puts_per_second(writer: &Writer, counter: &mut u64) -> f64 {
    let (begun, before) = (Instant::now(), *counter);
    while begun.elapsed() < Duration::from_millis(200) {
        *counter += 1;
        for number in 0..KEYS {
            let data = payload(number, *counter, 400);
            writer.put(KIND, &key(number), &data, b"{}").unwrap();
        }
    }
    ((*counter - before) * KEYS) as f64 / begun.elapsed().as_secs_f64()
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < patience, "not {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_writer_does_not_notice_them_and_gets_everything_back() {
    let Some(disk) = Tmpfs::new("64m") else {
        return;
    };
    let path = disk.path().join("store");
    let options = Writer::options().size(256 << 10).max_size(1 << 20);
    let writer = options.open(&path).unwrap();
    let mut counter = 0;
    puts_per_second(&writer, &mut counter);
    let cases = [
        ("nobody", Beside::Nobody),
        ("a stopped reader", Beside::Stopped),
        ("a slow reader", Beside::Slow),
        ("a killed reader", Beside::Killed),
    ];
    println!(
        "{:>18} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "", "", "", "its", "KiB with", "KiB"
    );
    println!(
        "{:>18} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "beside", "puts/s", "rollovers", "mappings", "it", "after it"
    );
    for (name, beside) in cases.into_iter().cycle().take(3 * cases.len()) {
        let mut reader = match beside {
            Beside::Nobody => None,
            _ => Some(start(&path)),
        };
        let signal = match beside {
            Beside::Stopped => Some(Signal::SIGSTOP),
            Beside::Killed => Some(Signal::SIGKILL),
            _ => None,
        };
        if let (Some(reader), Some(signal)) = (&reader, signal) {
            kill(Pid::from_raw(reader.id() as i32), signal).unwrap();
        }
        let before = writer.stats().stats.rollovers;
        let rate = puts_per_second(&writer, &mut counter);
        let rollovers = writer.stats().stats.rollovers - before;
        let its = match &mut reader {
            Some(reader) => mapped(&reader.id().to_string(), &path),
            None => 0,
        };
        let with = used(disk.path());
        match beside {
            // What it had when it was stopped, in which nothing is written any more.
            Beside::Stopped => assert!((1..=KEPT + 2).contains(&its), "{its}"),
            // Those it keeps, the one it is in, and those that its watcher has not unmapped yet.
            Beside::Slow => {
                let reader = reader.as_mut().unwrap();
                let holds = || mapped(&reader.id().to_string(), &path);
                eventually("kept by it", || {
                    writer.compact().unwrap();
                    holds() > KEPT
                });
                eventually("let go by it", || holds() <= KEPT + 1);
                let ended = reader.try_wait().unwrap();
                assert_eq!(ended, None, "it found what it kept");
            }
            Beside::Nobody | Beside::Killed => assert_eq!(its, 0),
        }
        if let Some(reader) = &mut reader {
            end(reader);
        }
        writer.compact().unwrap();
        // The writer unmaps what it retired when it has time.
        eventually("unmapped", || mapped("self", &path) == 1);
        let least = writer.stats().size + (64 << 10);
        eventually("freed", || used(disk.path()) <= least);
        let after = used(disk.path());
        println!(
            "{name:>18} {rate:>9.0} {rollovers:>9} {its:>9} {:>9} {:>9}",
            with >> 10,
            after >> 10
        );
    }
    let files = std::fs::read_dir(disk.path()).unwrap().count();
    assert_eq!(files, 2, "store and lock");
}
