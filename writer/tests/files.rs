//! What a writer finds when it starts, and what it leaves when it ends.

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{KIND, key, payload, read, root_or_skip, small};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{Recover, WriteError, Writer};
use rustix::io::Errno;

fn refusal(path: &Path) -> Option<WriteError> {
    small().open(path).err()
}

#[test]
fn foreign_and_hostile_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    assert_eq!(refusal(&at("folder")), Some(WriteError::NotRegular));
    symlink(at("elsewhere"), at("link")).unwrap();
    assert_eq!(refusal(&at("link")), Some(WriteError::NotRegular));
    assert!(!at("elsewhere").exists());
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, 0o600.into(), 0).unwrap();
    assert_eq!(refusal(&at("fifo")), Some(WriteError::NotRegular));
    for (name, content) in [("empty", &b""[..]), ("text", b"something else entirely")] {
        fs::write(at(name), content).unwrap();
        assert_eq!(refusal(&at(name)), Some(WriteError::NotAStore));
        assert_eq!(fs::read(at(name)).unwrap(), content, "untouched");
    }
    fs::write(at("new"), b"ERLMCP01\x09\0\0\0rest").unwrap();
    assert_eq!(refusal(&at("new")), Some(WriteError::Version(9)));
    drop(small().open(at("open")).unwrap());
    fs::set_permissions(at("open"), PermissionsExt::from_mode(0o620)).unwrap();
    assert_eq!(refusal(&at("open")), Some(WriteError::InsecureMode));
    assert_eq!(
        refusal(&at("no/such/folder")),
        Some(WriteError::Io(Errno::NOENT))
    );
}

#[test]
fn a_damaged_header_is_refused_and_can_be_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(small().open(&path).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(refusal(&path), Some(WriteError::Corrupt(_))));
    let short = File::options().write(true).open(&path).unwrap();
    short.set_len(5000).unwrap();
    assert!(matches!(refusal(&path), Some(WriteError::Corrupt(_))));
    let writer = small().recover(Recover::Clear).open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 16), b"{}")
        .unwrap();
    assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(1));
}

#[test]
fn a_file_or_lock_of_somebody_else_is_bad_owner() {
    if !root_or_skip("giving a file to another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let nobody = Some(65_534);
    let path = dir.path().join("store");
    drop(small().open(&path).unwrap());
    std::os::unix::fs::chown(&path, nobody, nobody).unwrap();
    assert_eq!(refusal(&path), Some(WriteError::BadOwner));
    let squatted = dir.path().join("squatted");
    fs::write(dir.path().join("squatted.lock"), b"").unwrap();
    std::os::unix::fs::chown(dir.path().join("squatted.lock"), nobody, nobody).unwrap();
    assert_eq!(refusal(&squatted), Some(WriteError::BadOwner));
}

#[test]
fn the_mode_is_what_was_asked_whatever_the_umask() {
    let dir = tempfile::tempdir().unwrap();
    for (mode, name) in [(0o600, "a"), (0o644, "b"), (0o640, "c")] {
        let path = dir.path().join(name);
        let writer = small().mode(mode).open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        writer.compact().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        let lock = dir.path().join(format!("{name}.lock"));
        assert_eq!(fs::metadata(lock).unwrap().mode() & 0o777, 0o600);
    }
    for mode in [0o666, 0o622, 0o400, 0o4600] {
        let refused = small().mode(mode).open(dir.path().join("d")).err();
        assert_eq!(refused, Some(WriteError::BadOption("mode")));
    }
    let small_file = Writer::options().size(8191).open(dir.path().join("d"));
    assert_eq!(small_file.err(), Some(WriteError::BadOption("size")));
    let least = Writer::options()
        .size(8192)
        .open(dir.path().join("d"))
        .unwrap();
    least.put(KIND, b"k", &[1; 1000], b"{}").unwrap();
}

/// Names in the folder that are neither the store nor its lock.
fn strays(path: &Path) -> Vec<PathBuf> {
    let lock = path.with_extension("lock");
    let folder = fs::read_dir(path.parent().unwrap()).unwrap();
    let names = folder.map(|entry| entry.unwrap().path());
    names.filter(|name| name != path && *name != lock).collect()
}

#[test]
fn a_stray_generation_is_marked_and_removed_and_its_reader_follows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
        .unwrap();
    let reader = Reader::options().watcher(false).open(&path).unwrap();
    assert_eq!(read(&reader, 1), Some(1));
    // As a writer leaves it that was killed between exchange and mark: the old generation under a
    // temporary name, not superseded; and one that was killed while it made a file.
    let stray = format!("store.7.{}.tmp", "ab".repeat(16));
    fs::hard_link(&path, dir.path().join(&stray)).unwrap();
    fs::write(
        dir.path().join(format!("store.8.{}.tmp", "cd".repeat(16))),
        b"",
    )
    .unwrap();
    fs::write(dir.path().join("store.mine.tmp"), b"no name of ours").unwrap();
    drop(writer);
    fs::remove_file(&path).unwrap();
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 2, 64), b"{}")
        .unwrap();
    assert_eq!(read(&reader, 1), Some(2), "the mark on the stray was seen");
    assert_eq!(strays(&path), [dir.path().join("store.mine.tmp")]);
}

/// A past find: the start of one store marked the other as superseded.
#[test]
fn another_store_that_is_linked_under_a_temporary_name_is_left_as_it_is() {
    for first_start in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        if !first_start {
            drop(small().open(&ours).unwrap());
        }
        let writer = small().open(&theirs).unwrap();
        let put = writer.put(KIND, &key(1), &payload(1, 1, 64), b"{}");
        put.unwrap();
        let reader = Reader::options().watcher(false).open(&theirs).unwrap();
        let stray = dir.path().join(format!("ours.7.{}.tmp", "ab".repeat(16)));
        fs::hard_link(&theirs, &stray).unwrap();
        // Its writer may live, and it may not.
        for alive in [true, false] {
            if !alive {
                writer.close();
            }
            if !stray.exists() {
                fs::hard_link(&theirs, &stray).unwrap();
            }
            drop(small().open(&ours).unwrap());
            assert_eq!(read(&reader, 1), Some(1));
            assert_eq!(read(&Reader::open(&theirs).unwrap(), 1), Some(1));
        }
        assert!(!stray.exists());
    }
}

#[test]
fn a_closed_store_says_so_and_stays_readable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
        .unwrap();
    writer.heartbeat().unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.liveness().verdict(), Verdict::Alive);
    let other = writer.clone();
    writer.close();
    writer.close();
    assert_eq!(reader.liveness().verdict(), Verdict::Closed);
    assert_eq!(read(&reader, 1), Some(1));
    assert_eq!(other.put(KIND, b"k", b"", b""), Err(WriteError::Closed));
    assert_eq!(other.delete(KIND, b"k"), Err(WriteError::Closed));
    assert_eq!(other.heartbeat(), Err(WriteError::Closed));
    assert_eq!(other.flush(), Err(WriteError::Closed));
    assert_eq!(other.compact(), Err(WriteError::Closed));
    assert_eq!(other.stats().stats.entries, 1);
    let again = small().open(&path).unwrap();
    assert_eq!(read(&reader, 1), Some(1));
    assert_eq!(reader.liveness().lock_held, Some(true));
    drop(again);
}

#[test]
fn a_store_cleared_has_a_new_id_and_later_versions() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    let before = writer.put(KIND, &key(1), b"x", b"{}").unwrap();
    let reader = Reader::open(&path).unwrap();
    let id = reader.view().unwrap().store_id();
    writer.close();
    let writer = small().recover(Recover::Clear).open(&path).unwrap();
    let view = reader.view().unwrap();
    assert_ne!(view.store_id(), id);
    assert!(view.get(KIND, key(1)).unwrap().is_none());
    assert!(writer.put(KIND, &key(2), b"y", b"{}").unwrap() > before);
}

#[test]
fn one_damaged_record_costs_one_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    for i in 0..20 {
        writer
            .put(KIND, &key(i), &payload(i, 1, 64), b"{}")
            .unwrap();
    }
    writer.delete(KIND, &key(19)).unwrap();
    drop(writer);
    let mut bytes = fs::read(&path).unwrap();
    let needle = payload(5, 1, 64);
    let at = bytes.windows(64).position(|w| w == needle).unwrap();
    bytes[at + 30] ^= 4;
    fs::write(&path, &bytes).unwrap();
    let found = Reader::open(&path).unwrap().verify().unwrap();
    assert_eq!(found.damaged.len(), 1);
    let writer = small().open(&path).unwrap();
    assert_eq!(writer.stats().damaged, 1);
    let reader = Reader::open(&path).unwrap();
    for i in 0..20 {
        let expected = (i != 5 && i != 19).then_some(1);
        assert_eq!(read(&reader, i), expected, "key {i}");
    }
}

/// Where the newest record of a key is damaged, an older one must not come back in its place.
#[test]
fn damage_brings_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    for damaged_delete in [false, true] {
        let path = dir.path().join(format!("store{damaged_delete}"));
        let writer = small().open(&path).unwrap();
        writer
            .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
            .unwrap();
        writer
            .put(KIND, &key(2), &payload(2, 1, 64), b"{}")
            .unwrap();
        let before = fs::read(&path).unwrap();
        let version = if damaged_delete {
            writer.delete(KIND, &key(1)).unwrap().unwrap()
        } else {
            writer
                .put(KIND, &key(1), &payload(1, 2, 64), b"{}")
                .unwrap()
        };
        writer
            .put(KIND, &key(3), &payload(3, 1, 64), b"{}")
            .unwrap();
        drop(writer);
        let mut bytes = fs::read(&path).unwrap();
        // The first byte of the log that the second change of the key wrote, and then the key in it.
        let log = before.iter().rposition(|byte| *byte != 0).unwrap();
        let at = log
            + bytes[log..]
                .windows(5)
                .position(|w| w == *b"key/1")
                .unwrap();
        bytes[at - 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let writer = small().open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        assert_eq!(writer.stats().damaged, 1);
        assert_eq!(read(&reader, 1), None);
        assert_eq!((read(&reader, 2), read(&reader, 3)), (Some(1), Some(1)));
        assert!(writer.put(KIND, &key(1), b"again", b"{}").unwrap() > version);
    }
}

/// Whoever gets past a lock file that was removed still meets the lock on the store itself.
#[test]
fn a_removed_lock_file_lets_no_second_writer_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    let lock = path.with_extension("lock");
    fs::remove_file(&lock).unwrap();
    assert_eq!(refusal(&path), Some(WriteError::Locked));
    writer.heartbeat().unwrap();
    assert!(lock.exists(), "the heartbeat put it back");
    assert_eq!(refusal(&path), Some(WriteError::Locked));
}

/// A reader of a store whose header was damaged and cleared is told to leave it.
#[test]
fn clearing_a_damaged_store_is_seen_by_its_readers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
        .unwrap();
    drop(writer);
    let reader = Reader::options().watcher(false).open(&path).unwrap();
    assert_eq!(read(&reader, 1), Some(1));
    let file = File::options().write(true).open(&path).unwrap();
    rustix::io::pwrite(&file, &[0xff], 50).unwrap();
    let writer = small().recover(Recover::Clear).open(&path).unwrap();
    assert_eq!(read(&reader, 1), None);
    writer
        .put(KIND, &key(1), &payload(1, 2, 64), b"{}")
        .unwrap();
    assert_eq!(read(&reader, 1), Some(2));
}

/// Numbers that nobody counted: refused, not carried on from.
#[test]
fn counters_beyond_reason_are_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
        .unwrap();
    drop(writer);
    let file = File::options().write(true).open(&path).unwrap();
    let changes = erlmcp_shm_layout::words::CHANGES as u64;
    rustix::io::pwrite(&file, &u64::MAX.to_le_bytes(), changes).unwrap();
    assert!(matches!(refusal(&path), Some(WriteError::Corrupt(_))));
}

/// A panic of somebody else's is none of the writer's.
#[test]
fn a_writer_used_while_another_panic_unwinds_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let writer = small().open(dir.path().join("store")).unwrap();
    struct OnDrop<'a>(&'a Writer);
    impl Drop for OnDrop<'_> {
        fn drop(&mut self) {
            self.0.delete(KIND, b"x").unwrap();
        }
    }
    let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _on_drop = OnDrop(&writer);
        panic!("not the writer's");
    }));
    assert!(unwound.is_err());
    writer.put(KIND, b"x", b"", b"{}").unwrap();
}
