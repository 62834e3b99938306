//! What somebody may do who can read the store, or choose its keys: harmless, or refused by name.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;

use common::{KIND, as_another_user, key, payload, read, root_or_skip, small};
use erlmcp_shm_layout::{Header, MAX_PROBE, key_hash};
use erlmcp_shm_reader::{Reader, Verdict};
use erlmcp_shm_writer::{Kind, WriteError, Writer};
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// Locks a file as far as one can who may only read it.
fn lock_to_read(path: &Path) -> File {
    let file = File::open(path).unwrap();
    try_lock_to_read(&file).unwrap();
    file
}

fn try_lock_to_read(file: &File) -> nix::Result<()> {
    let lock = libc::flock {
        l_type: libc::F_RDLCK as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).map(drop)
}

/// Whoever may read the file may hold a read lock on it: one more process of a reader does here.
#[test]
fn a_reader_who_locks_the_file_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().open(&path).unwrap();
    writer
        .put(KIND, &key(1), &payload(1, 1, 64), b"{}")
        .unwrap();
    writer.close();
    let first = lock_to_read(&path);
    let reader = Reader::open(&path).unwrap();
    assert_ne!(reader.liveness().lock_held, Some(true), "nobody writes");
    assert_eq!(reader.liveness().verdict(), Verdict::Closed);
    let writer = small().open(&path).unwrap();
    assert_eq!(read(&reader, 1), Some(1));
    // It gets hold of no file that is being written, and so of none after a rollover either.
    writer.compact().unwrap();
    let second = File::open(&path).unwrap();
    assert!(try_lock_to_read(&second).is_err());
    let second_writer = small().open(&path).err();
    assert_eq!(second_writer, Some(WriteError::Locked));
    writer
        .put(KIND, &key(1), &payload(1, 2, 64), b"{}")
        .unwrap();
    assert_eq!(read(&reader, 1), Some(2));
    drop(first);
}

/// Run by another user: what it may not do.
#[test]
fn child_of_another_user() {
    let Some(path) = common::child_args() else {
        return;
    };
    let path = Path::new(&path);
    for name in [path.to_path_buf(), path.with_extension("lock")] {
        let opened = File::options().write(true).open(&name);
        assert_eq!(
            opened.unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
    }
    println!("\nrefused");
    if let Ok(file) = File::open(path) {
        let writable = memmap2::MmapOptions::new().map_raw(&file);
        assert_eq!(
            writable.unwrap_err().kind(),
            std::io::ErrorKind::PermissionDenied
        );
        let _lock = lock_to_read(path);
        println!("locked");
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
    }
}

#[test]
fn another_user_can_neither_write_nor_hold_up_the_writer() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (mode, readable) in [(0o600, false), (0o644, true)] {
        let path = dir.path().join(format!("store-{mode:o}"));
        let options = || small().mode(mode);
        options().open(&path).unwrap().close();
        let mut process = as_another_user(dir.path(), "child_of_another_user", &path);
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map(Result::unwrap);
        assert!(lines.any(|line| line == "refused"));
        assert!(!readable || lines.any(|line| line == "locked"));
        let writer = options().open(&path).unwrap();
        for counter in 1..200 {
            writer
                .put(KIND, &key(1), &payload(1, counter, 900), b"{}")
                .unwrap();
        }
        writer.compact().unwrap();
        writer.heartbeat().unwrap();
        writer.close();
        assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(199));
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success());
    }
}

/// Run by another user: locks every file of the store's folder that it can open, as soon as it is there.
#[test]
fn child_who_locks() {
    let Some(folder) = common::child_args() else {
        return;
    };
    println!("\nready");
    std::thread::spawn(move || {
        let mut held = Vec::new();
        loop {
            for name in std::fs::read_dir(&folder).unwrap().flatten() {
                if let Ok(file) = File::open(name.path()) {
                    let _ = try_lock_to_read(&file);
                    held.push(file);
                }
            }
            held.drain(..held.len().saturating_sub(100));
        }
    });
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
}

/// The store's own lock is what stops a second writer where the lock file was removed: nobody gets in before it.
#[test]
fn nobody_locks_a_new_generation_before_the_writer() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = small().mode(0o644).open(&path).unwrap();
    let mut process = as_another_user(dir.path(), "child_who_locks", dir.path());
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line == "ready"));
    let rollovers = std::env::var("ROLLOVERS").map_or(200, |n| n.parse().unwrap());
    for counter in 0..rollovers {
        writer
            .put(KIND, &key(1), &payload(1, counter, 64), b"{}")
            .unwrap();
        writer.compact().unwrap();
        let file = File::open(&path).unwrap();
        assert!(try_lock_to_read(&file).is_err(), "it is not the writer's");
    }
    std::fs::remove_file(path.with_extension("lock")).unwrap();
    assert_eq!(small().open(&path).err(), Some(WriteError::Locked));
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

fn header_at(path: &Path) -> Header {
    let bytes = std::fs::read(path).unwrap();
    Header::decode(&bytes, bytes.len() as u64).unwrap()
}

/// Keys that share one home slot under the seed of the generation at the path.
fn flood(path: &Path, count: usize) -> Vec<[u8; 16]> {
    let header = header_at(path);
    let mask = header.slot_count - 1;
    (0u128..)
        .map(|i| (i << 64 | u128::from(header.generation)).to_le_bytes())
        .filter(|key| key_hash(header.seed, Kind::Resource, key) & mask == 7)
        .take(count)
        .collect()
}

/// Floods a store, each time under the seed that it has by then. Who knows the seed can make every key start
/// its probe at one slot; the writer takes another seed, as often as it must, and no lookup goes further than
/// the bound.
fn flooded(counts: &[usize]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    // Log and index have room for more than is put: what runs out is the probe.
    let options = Writer::options().size(1 << 20).max_size(64 << 20);
    let writer = options.open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut all = Vec::new();
    for count in counts {
        let before = header_at(&path);
        let keys = flood(&path, *count);
        for key in &keys {
            writer.put(Kind::Resource, key, key, b"{}").unwrap();
        }
        let after = header_at(&path);
        assert!(after.generation > before.generation && after.seed != before.seed);
        all.extend(keys);
        let view = reader.view().unwrap();
        for key in &all {
            let entry = view.get(Kind::Resource, key).unwrap();
            assert_eq!(entry.expect("it was put").data(), key);
        }
        assert!(view.verify().unwrap().damaged.is_empty());
        assert!(longest_probe(&path, &all) <= MAX_PROBE);
    }
}

#[test]
fn ten_thousand_keys_that_share_a_home_slot_get_another_seed() {
    flooded(&[10_000]);
}

#[test]
fn whoever_floods_each_new_seed_gets_another_one_each_time() {
    flooded(&[300, 300, 300, 300]);
}

/// The longest way from a home slot to a key's slot, by the bytes of the file.
fn longest_probe(path: &Path, keys: &[[u8; 16]]) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let header = header_at(path);
    let slots = header.slot_count as usize;
    let hash_at = |slot: usize| {
        let at = erlmcp_shm_layout::HEADER_SIZE + slot % slots * 64 + 8;
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let steps = keys.iter().map(|key| {
        let hash = key_hash(header.seed, Kind::Resource, key);
        let home = hash as usize & (slots - 1);
        1 + (0..slots)
            .position(|step| hash_at(home + step) == hash)
            .expect("it has a slot")
    });
    steps.max().unwrap_or(0)
}
