//! Whatever one can get hold of who may read a store, held by another user all the while: the writer goes on
//! publishing, rolling over, and coming back after it was closed or killed.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use erlmcp_shm_reader::{Reader, View};
use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::FlockOperation;

use super::*;

/// What is held of one file, until it is dropped.
struct Grip {
    _file: File,
    _map: Option<MmapRaw>,
    _view: Option<View>,
}

/// How often each kind of hold was got.
#[derive(Default)]
struct Got {
    flock_exclusive: u64,
    flock_shared: u64,
    lock_of_a_process: u64,
    lock_of_a_descriptor: u64,
    mapping: u64,
    view: u64,
}

impl Got {
    fn grip(&mut self, name: &Path, round: u64) -> Option<Grip> {
        let file = File::open(name).ok()?;
        let flock = |how| rustix::fs::flock(&file, how).is_ok();
        if round.is_multiple_of(2) {
            self.flock_exclusive += u64::from(flock(FlockOperation::NonBlockingLockExclusive));
        } else {
            self.flock_shared += u64::from(flock(FlockOperation::NonBlockingLockShared));
        }
        let lock = whole_file(libc::F_RDLCK);
        let taken = fcntl(&file, FcntlArg::F_SETLK(&lock)).is_ok();
        self.lock_of_a_process += u64::from(taken);
        self.lock_of_a_descriptor += u64::from(lock_to_read(&file).is_ok());
        let _map = MmapOptions::new().map_raw_read_only(&file).ok();
        self.mapping += u64::from(_map.is_some());
        let reader = Reader::options().watcher(false).trust_owner(0).open(name);
        let _view = reader.and_then(|reader| reader.view()).ok();
        self.view += u64::from(_view.is_some());
        Some(Grip {
            _file: file,
            _map,
            _view,
        })
    }
}

#[test]
fn child_who_holds_everything() {
    let Some(folder) = child_args() else { return };
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let (mut got, mut held) = (Got::default(), Vec::new());
            for round in 0.. {
                let names = std::fs::read_dir(&folder).unwrap().flatten();
                held.extend(names.filter_map(|name| got.grip(&name.path(), round)));
                // Room is what a reader can cost (see misbehave.rs), so not without end.
                held.drain(..held.len().saturating_sub(100));
                if round == 0 {
                    println!("\nholding");
                }
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(100));
            }
            got
        });
        wait_for_the_end_of_input();
        done.store(true, Ordering::Relaxed);
        let got = holder.join().unwrap();
        println!("got by a user without rights:");
        for (what, times) in [
            ("flock, exclusive", got.flock_exclusive),
            ("flock, shared", got.flock_shared),
            ("lock for reading, a process's", got.lock_of_a_process),
            ("lock for reading, a descriptor's", got.lock_of_a_descriptor),
            ("mapping", got.mapping),
            ("view", got.view),
        ] {
            println!("{what:>34} {times:>8}");
            assert!(times > 0, "never got a {what}: that is no test of it");
        }
    });
}

/// A writer to be killed: it puts, rolls over and beats without end.
#[test]
fn child_writer_among_grips() {
    let Some(path) = child_args() else { return };
    let writer = small().mode(0o644).open(path).unwrap();
    for counter in 1.. {
        let data = payload(2, counter, 900);
        writer.put(KIND, &key(2), &data, b"{}").unwrap();
        writer.heartbeat().unwrap();
        if counter == 100 {
            println!("\nwriting");
        }
    }
}

#[test]
fn whatever_another_user_holds_the_writer_goes_on() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = || {
        // A process that was killed lets go of its locks a moment after it is gone.
        let options = small().mode(0o644);
        options.lock_wait(Duration::from_secs(5))
    };
    options().open(&path).unwrap().close();
    let mut other = as_another_user(dir.path(), "grips::child_who_holds_everything", dir.path());
    wait_for(&mut other, "holding");
    let mut counter = 0;
    let rounds = 20;
    for _ in 0..rounds {
        let writer = options().open(&path).unwrap();
        for _ in 0..10 {
            for _ in 0..50 {
                counter += 1;
                let data = payload(1, counter, 900);
                writer.put(KIND, &key(1), &data, b"{}").unwrap();
            }
            writer.compact().unwrap();
            writer.heartbeat().unwrap();
        }
        assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(counter));
        writer.close();
        let args = path.display().to_string();
        let mut killed = common::child("grips::child_writer_among_grips", &args);
        wait_for(&mut killed, "writing");
        killed.kill().unwrap();
        killed.wait().unwrap();
    }
    let reader = Reader::open(&path).unwrap();
    assert_eq!(read(&reader, 1), Some(counter));
    assert!(reader.verify().unwrap().damaged.is_empty());
    let rollovers = reader.stats().unwrap().rollovers;
    println!(
        "{counter} puts, {rollovers} rollovers, {rounds} closes and {rounds} kills of a writer"
    );
    end(other);
}
