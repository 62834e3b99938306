//! The path of a store unlinked, replaced or truncated while it is written and read: the writer notices and says so,
//! and readers, mapped or by `pread`, keep a sane answer or get a typed error.

mod common;

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{KIND, child, child_args, key, payload, read, small};
use erlmcp_shm_reader::{ReadError, Reader};
use erlmcp_shm_writer::{Recover, WriteError, Writer};
use nix::libc;

fn put(writer: &Writer, counter: u64) {
    let data = payload(1, counter, 64);
    writer.put(KIND, &key(1), &data, b"{}").unwrap();
}

/// A store with one entry, and a reader of each kind.
fn store(folder: &Path) -> (PathBuf, Writer, [Reader; 2]) {
    store_with(folder, true)
}

fn store_with(folder: &Path, watchers: bool) -> (PathBuf, Writer, [Reader; 2]) {
    let path = folder.join("store");
    let writer = small().open(&path).unwrap();
    put(&writer, 1);
    let reader = |pread| {
        let options = Reader::options().refresh_interval(Duration::from_millis(10));
        options.watcher(watchers).pread(pread).open(&path).unwrap()
    };
    let readers = [reader(false), reader(true)];
    (path, writer, readers)
}

/// Looks for a while: a watcher may need a moment, and no answer on the way may be another one than `before`.
fn come_to_read(readers: &[Reader], before: u64, wanted: u64) {
    let patience = Instant::now() + Duration::from_secs(10);
    for reader in readers {
        loop {
            let found = read(reader, 1).expect("the key is in both");
            if found == wanted {
                break;
            }
            assert_eq!(found, before);
            assert!(Instant::now() < patience, "{reader:?} reads {found}");
        }
    }
}

/// Longer than a watcher takes to look at the path.
fn let_watchers_look() {
    std::thread::sleep(Duration::from_millis(50));
}

#[test]
fn a_removed_path_is_noticed_and_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer, readers) = store(dir.path());
    writer.heartbeat().unwrap();
    assert!(!writer.stats().path_lost);
    fs::remove_file(&path).unwrap();
    fs::remove_file(path.with_extension("lock")).unwrap();
    let_watchers_look();
    put(&writer, 2);
    readers.iter().for_each(|r| assert_eq!(read(r, 1), Some(2)));
    assert_eq!(Reader::open(&path).unwrap_err(), ReadError::NotFound);
    assert_eq!(writer.heartbeat(), Err(WriteError::PathLost));
    assert!(writer.stats().path_lost);
    writer.compact().unwrap();
    writer.heartbeat().unwrap();
    assert!(!writer.stats().path_lost);
    put(&writer, 3);
    readers.iter().for_each(|r| assert_eq!(read(r, 1), Some(3)));
    assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(3));
    let second = small().open(&path).err();
    assert_eq!(second, Some(WriteError::Locked), "the lock was taken again");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_file_that_somebody_put_at_the_path_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer, readers) = store(dir.path());
    fs::write(dir.path().join("theirs"), b"not ours").unwrap();
    fs::rename(dir.path().join("theirs"), &path).unwrap();
    assert_eq!(writer.heartbeat(), Err(WriteError::PathLost));
    assert_eq!(writer.compact(), Err(WriteError::PathLost));
    assert!(writer.stats().path_lost);
    assert_eq!(fs::read(&path).unwrap(), b"not ours");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    // Who has it open goes on with what is written; who comes later is told what is there.
    let_watchers_look();
    put(&writer, 2);
    readers.iter().for_each(|r| assert_eq!(read(r, 1), Some(2)));
    assert_eq!(Reader::open(&path).unwrap_err(), ReadError::NotAStore);
    fs::remove_file(&path).unwrap();
    writer.compact().unwrap();
    assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(2));
}

/// What stands at the path is what readers follow; the writer of the other file says that it has lost them.
#[test]
fn another_store_put_at_the_path_is_read_until_it_is_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let (path, writer, readers) = store(dir.path());
    let other = small().open(dir.path().join("other")).unwrap();
    put(&other, 100);
    other.close();
    fs::rename(dir.path().join("other"), &path).unwrap();
    let theirs = fs::read(&path).unwrap();
    come_to_read(&readers, 1, 100);
    assert_eq!(writer.heartbeat(), Err(WriteError::PathLost));
    assert_eq!(writer.compact(), Err(WriteError::PathLost));
    put(&writer, 2);
    readers
        .iter()
        .for_each(|r| assert_eq!(read(r, 1), Some(100)));
    assert!(fs::read(&path).unwrap() == theirs, "not touched");
    fs::remove_file(&path).unwrap();
    // One that finds its lock taken leaves it to the next heartbeat.
    while writer.heartbeat() == Err(WriteError::PathLost) {
        std::thread::yield_now();
    }
    come_to_read(&readers, 100, 2);
    writer.compact().unwrap();
    writer.heartbeat().unwrap();
    assert!(!writer.stats().path_lost);
}

/// A writer cannot go on in a file that somebody cut off, and its next store into what is gone would end the
/// process: the heartbeat says so and touches nothing, and nothing else does from then on.
#[test]
fn a_truncated_file_is_noticed_by_the_heartbeat() {
    for length in [0, 4096, 12_000] {
        let dir = tempfile::tempdir().unwrap();
        // A watcher might look at that very moment.
        let (path, writer, readers) = store_with(dir.path(), false);
        let views = readers.each_ref().map(|reader| reader.view().unwrap());
        let content = fs::read(&path).unwrap();
        let counted = writer.stats();
        let cut = |length| {
            let file = File::options().write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
        };
        cut(length);
        let noticed = writer.heartbeat().unwrap_err();
        assert!(matches!(noticed, WriteError::Corrupt(_)), "{noticed}");
        // Who opens it now is told; who reads by system calls is too, or finds what is still there.
        let opened = Reader::open(&path).unwrap_err();
        let refused = |error| matches!(error, ReadError::Corrupt(_) | ReadError::NotAStore);
        assert!(refused(opened), "{opened}");
        match views[1].get(KIND, key(1)) {
            Ok(entry) => assert_eq!(entry.unwrap().data(), payload(1, 1, 64)),
            Err(error) => assert!(refused(error), "{error}"),
        }
        // Whatever is asked of the writer then, it touches nothing.
        assert_eq!(writer.put(KIND, &key(1), b"x", b"{}"), Err(noticed));
        assert_eq!(writer.delete(KIND, &key(1)), Err(noticed));
        assert_eq!(writer.compact(), Err(noticed));
        assert_eq!(writer.flush(), Err(noticed));
        assert_eq!(writer.stats().stats, counted.stats);
        writer.close();
        assert_eq!(writer.stats().stats, counted.stats);
        // The mapped views of it are worth something again once its bytes are there.
        fs::write(&path, content).unwrap();
        assert!(views.each_ref().map(|v| v.get(KIND, key(1)).is_ok()) == [true; 2]);
        // What is damaged so is refused by the next start, unless it may clear it.
        cut(length);
        let error = small().open(&path).err().unwrap();
        assert!(matches!(
            error,
            WriteError::Corrupt(_) | WriteError::NotAStore
        ));
    }
}

/// Another process that has the store open, as writer or as reader with a mapping, when it is truncated.
#[test]
fn child_of_a_truncated_file() {
    let Some(args) = child_args() else { return };
    let (role, path) = args.split_once(' ').unwrap();
    let cut = || {
        let file = File::options().write(true).open(path).unwrap();
        file.set_len(0).unwrap();
    };
    match role {
        "writer" => {
            let writer = small().open(path).unwrap();
            cut();
            let _ = writer.put(KIND, &key(1), b"into nothing", b"{}");
        }
        "idle" => {
            // Its watcher looks several times.
            let reader = Reader::open(path).unwrap();
            cut();
            std::thread::sleep(Duration::from_millis(350));
            assert_eq!(reader.heartbeat_seen(), None);
        }
        _ => {
            let options = Reader::options().watcher(false).pread(role == "pread");
            let reader = options.open(path).unwrap();
            cut();
            let found = reader.get_bytes(KIND, key(1));
            // Not even its state is there: it looks at the path anew.
            assert_eq!(found, Err(ReadError::NotAStore));
        }
    }
}

/// Where the promise ends, as the documentation says: what is mapped and gone is a SIGBUS for whoever touches
/// it before a heartbeat has noticed, and not for a reader with `pread`. No wrong answer comes in either case.
#[test]
fn touching_what_was_truncated_is_a_sigbus_but_by_pread_an_error() {
    for (role, signal) in [
        ("writer", Some(libc::SIGBUS)),
        ("mapped", Some(libc::SIGBUS)),
        ("idle", None),
        ("pread", None),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let writer = small().open(&path).unwrap();
        put(&writer, 1);
        writer.close();
        let args = format!("{role} {}", path.display());
        let mut process = child("child_of_a_truncated_file", &args);
        let status = process.wait().unwrap();
        assert_eq!(status.signal(), signal, "{role}: {status}");
        assert!(signal.is_some() || status.success(), "{role}: {status}");
        // The next writer starts from what is left: nothing.
        let cleared = small().recover(Recover::Clear).open(&path);
        assert_eq!(cleared.err(), Some(WriteError::NotAStore), "{role}");
    }
}
