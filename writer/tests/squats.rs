//! Whatever somebody put where the store, its lock or a next generation is to be: refused by name, or
//! harmless. Nothing hangs on it, follows it elsewhere, or removes what is not the writer's.

mod common;
#[path = "../../reader/tests/support/squat.rs"]
mod squat;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{KIND, key, payload, read, small};
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{WriteError, Writer};
use squat::Squat::{self, *};
use squat::{Place, Watchdog, remove};

/// What becomes of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Refused(WriteError),
    /// It is not looked at, or nothing of it is changed.
    Left,
    /// It bears a name that only this store's writer uses, and is of the same user: that name is taken away.
    NameRemoved,
}
use Outcome::*;

/// A squat with what becomes of a start that finds it at the path, at the lock, and under a temporary name.
type Row = (Squat, Outcome, Outcome, Outcome);

const NOT_REGULAR: Outcome = Refused(WriteError::NotRegular);
const BAD_OWNER: Outcome = Refused(WriteError::BadOwner);
const INSECURE: Outcome = Refused(WriteError::InsecureMode);
const NOT_A_STORE: Outcome = Refused(WriteError::NotAStore);

#[rustfmt::skip]
const TABLE: [Row; squat::ALL.len()] = [
    //                  at the path  at the lock  at a temporary name
    (Socket,            NOT_REGULAR, NOT_REGULAR, Left),
    (Fifo,              NOT_REGULAR, NOT_REGULAR, Left),
    (Device,            NOT_REGULAR, NOT_REGULAR, Left),
    (Folder,            NOT_REGULAR, NOT_REGULAR, Left),
    (LinkToNothing,     NOT_REGULAR, NOT_REGULAR, Left),
    (LinkToText,        NOT_REGULAR, NOT_REGULAR, Left),
    (LinkToStore,       NOT_REGULAR, NOT_REGULAR, Left),
    (LinkToItself,      NOT_REGULAR, NOT_REGULAR, Left),
    (OthersText,        BAD_OWNER,   BAD_OWNER,   Left),
    (OthersFifo,        NOT_REGULAR, NOT_REGULAR, Left),
    (OthersFolder,      NOT_REGULAR, NOT_REGULAR, Left),
    (NameOfOthersText,  BAD_OWNER,   BAD_OWNER,   Left),
    (WritableByGroup,   INSECURE,    INSECURE,    Left),
    (WritableByAll,     INSECURE,    INSECURE,    Left),
    (Text,              NOT_A_STORE, Left,        NameRemoved),
    (NameOfText,        NOT_A_STORE, Left,        NameRemoved),
];

/// Runs a check for each row, in a folder of its own in which the squat is put at this name.
fn each(at: fn(&Path) -> PathBuf, check: impl Fn(&Place, &Path, &Row)) {
    assert!(
        squat::ALL
            .iter()
            .all(|squat| TABLE.iter().any(|row| row.0 == *squat))
    );
    for row in TABLE {
        let _watchdog = Watchdog::new(format!("{:?}", row.0));
        let place = Place::new();
        let theirs = place.elsewhere("store");
        small().open(theirs).unwrap().close();
        check(&place, &at(&place.store()), &row);
    }
}

fn the_path(store: &Path) -> PathBuf {
    store.into()
}

fn the_lock(store: &Path) -> PathBuf {
    store.with_extension("lock")
}

fn a_temporary_name(store: &Path) -> PathBuf {
    store.with_file_name(format!("store.7.{}.tmp", "ab".repeat(16)))
}

fn put(writer: &Writer, counter: u64) {
    let data = payload(1, counter, 64);
    writer.put(KIND, &key(1), &data, b"{}").unwrap();
}

#[test]
fn at_the_path() {
    each(the_path, |place, at, row| {
        if !place.squat(row.0, at) {
            return;
        }
        let before = place.seen(&[]);
        let refused = small().open(place.store()).err();
        assert_eq!(refused.map(Refused), Some(row.1), "{row:?}");
        assert_eq!(place.seen(&[]), before, "no lock file beside it either");
    });
}

#[test]
fn at_the_lock() {
    each(the_lock, |place, at, row| {
        let store = place.store();
        for first_start in [true, false] {
            if !first_start {
                let writer = small().open(&store).unwrap();
                put(&writer, 1);
                writer.close();
                remove(&the_lock(&store));
            }
            if !place.squat(row.0, at) {
                return;
            }
            let before = place.seen(&[&store]);
            let opened = small().open(&store);
            assert_eq!(
                opened.as_ref().map_or_else(|e| Refused(*e), |_| Left),
                row.2,
                "{row:?}"
            );
            if let Ok(writer) = opened {
                assert_eq!(small().open(&store).err(), Some(WriteError::Locked));
                writer.compact().unwrap();
            }
            assert_eq!(place.seen(&[&store]), before);
            // A reader asks whether the lock is held, and waits for nobody to say so.
            if let Ok(reader) = Reader::open(&store) {
                assert_ne!(reader.liveness().lock_held, Some(true));
                assert!(first_start || read(&reader, 1) == Some(1));
            }
            remove(at);
        }
    });
}

#[test]
fn at_a_temporary_name() {
    each(a_temporary_name, |place, at, row| {
        if !place.squat(row.0, at) {
            return;
        }
        let (store, text) = (place.store(), place.elsewhere("text"));
        let lock = the_lock(&store);
        let except = [&*store, &lock, &text];
        let before = place.seen(&except);
        let writer = small().open(&store).unwrap();
        put(&writer, 1);
        writer.compact().unwrap();
        let gone = place.seen(&[&except[..], &[at]].concat());
        let wanted = if row.3 == NameRemoved { gone } else { before };
        assert_eq!(place.seen(&except), wanted, "{row:?}");
        assert_eq!(fs::read(text).unwrap(), b"not a store");
        assert_eq!(read(&Reader::open(&store).unwrap(), 1), Some(1));
    });
}

/// Put there while a writer writes: it says so and touches nothing, its readers go on, and it comes back once
/// the path is free.
#[test]
fn at_the_path_of_a_running_writer() {
    each(the_path, |place, at, row| {
        let store = place.store();
        let writer = small().open(&store).unwrap();
        put(&writer, 1);
        let readers =
            [false, true].map(|pread| Reader::options().pread(pread).open(&store).unwrap());
        fs::remove_file(at).unwrap();
        if !place.squat(row.0, at) {
            return;
        }
        let before = place.seen(&[]);
        assert_eq!(writer.heartbeat(), Err(WriteError::PathLost), "{row:?}");
        assert_eq!(writer.compact(), Err(WriteError::PathLost), "{row:?}");
        put(&writer, 2);
        assert!(readers.iter().all(|reader| read(reader, 1) == Some(2)));
        assert!(Reader::open(&store).is_err());
        assert_eq!(place.seen(&[]), before);
        remove(at);
        writer.compact().unwrap();
        writer.heartbeat().unwrap();
        put(&writer, 3);
        assert!(readers.iter().all(|reader| read(reader, 1) == Some(3)));
        assert_eq!(read(&Reader::open(&store).unwrap(), 1), Some(3));
    });
}

/// The same at its lock: what could be a lock is taken, everything else is reported and left alone.
#[test]
fn at_the_lock_of_a_running_writer() {
    each(the_lock, |place, at, row| {
        let store = place.store();
        let writer = small().open(&store).unwrap();
        put(&writer, 1);
        fs::remove_file(at).unwrap();
        if !place.squat(row.0, at) {
            return;
        }
        let before = place.seen(&[&store]);
        let wanted = match row.2 {
            Left => Ok(()),
            _ => Err(WriteError::PathLost),
        };
        assert_eq!(writer.heartbeat(), wanted, "{row:?}");
        assert_eq!(writer.compact(), wanted, "{row:?}");
        put(&writer, 2);
        assert_eq!(read(&Reader::open(&store).unwrap(), 1), Some(2));
        // Nor does anybody else get in by it.
        assert!(small().open(&store).is_err());
        assert_eq!(place.seen(&[&store]), before);
        remove(at);
        writer.heartbeat().unwrap();
        writer.compact().unwrap();
        assert_eq!(small().open(&store).err(), Some(WriteError::Locked));
    });
}

/// A past find: a file that came to the path while a first store was made was taken for one to replace.
#[test]
fn a_file_that_comes_during_a_start_is_left_alone() {
    let mut came = 0;
    for _ in 0..20 {
        let dir = tempfile::tempdir_in(in_memory()).unwrap();
        let path = dir.path().join("store");
        let opened = std::thread::scope(|scope| {
            // Pages take their time, and that is when it comes.
            let options = Writer::options().size(16 << 20);
            let starting = scope.spawn(|| options.open(&path));
            while !starting.is_finished() && fs::read_dir(dir.path()).unwrap().count() < 2 {}
            if fs::File::create_new(&path).is_ok() {
                came += 1;
                let refused = starting.join().unwrap().err();
                assert_eq!(refused, Some(WriteError::PathLost));
                assert_eq!(fs::read(&path).unwrap(), b"");
                return None;
            }
            Some(starting.join().unwrap().unwrap())
        });
        if let Some(writer) = opened {
            put(&writer, 1);
        }
    }
    assert!(came > 0, "it never came in time");
}

/// The same for a rollover, whose look at the path and whose exchange are two calls.
#[test]
fn a_file_that_comes_during_a_rollover_is_left_alone() {
    let dir = tempfile::tempdir_in(in_memory()).unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    let done = AtomicBool::new(false);
    let rounds = std::env::var("ROLLOVERS").map_or(500, |n| n.parse().unwrap());
    std::thread::scope(|scope| {
        let rolling = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                match writer.compact() {
                    Ok(()) | Err(WriteError::PathLost) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let wait_for = |what: &dyn Fn() -> bool| {
            while !what() {
                assert!(!rolling.is_finished(), "the rollovers ended");
                std::thread::yield_now();
            }
        };
        let mut removed = 0;
        for _ in 0..rounds {
            let theirs = dir.path().join("theirs");
            let file = fs::File::create(&theirs).unwrap();
            fs::rename(&theirs, &path).unwrap();
            wait_for(&|| writer.heartbeat() == Err(WriteError::PathLost));
            removed += u64::from(file.metadata().unwrap().nlink() == 0);
            remove(&path);
            wait_for(&|| path.exists());
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(removed, 0, "of {rounds}");
    });
}

fn in_memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() {
        shared
    } else {
        std::env::temp_dir()
    }
}

/// A second name of a store is that store. (By `fs.protected_hardlinks`, which systemd turns on, nobody can
/// give one to a file that he may not write.)
#[test]
fn a_second_name_of_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store"), dir.path().join("other"));
    let writer = small().open(&other).unwrap();
    put(&writer, 1);
    let reader = Reader::open(&other).unwrap();
    fs::hard_link(&other, &path).unwrap();
    // One that is written is not to be had.
    assert_eq!(small().open(&path).err(), Some(WriteError::Locked));
    put(&writer, 2);
    assert_eq!(read(&reader, 1), Some(2));
    writer.compact().unwrap();
    writer.close();
    // What that left at the path is a generation that another one has followed, and whose entries it still has.
    put(&small().open(&path).unwrap(), 3);
    assert_eq!(read(&reader, 1), Some(2));
    assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(3));
}
