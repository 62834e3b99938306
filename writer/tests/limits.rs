//! What a store cannot hold, and a file system that has no room: typed errors, and everything
//! published before stays readable.

mod common;

use std::process::Command;

use common::{KIND, Tmpfs, key, payload, read, small};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{Attempt, BatchError, Op, WriteError, Writer};
use rustix::io::Errno;

fn put_op<'a>(key: &'a [u8], data: &'a [u8]) -> Op<'a> {
    Op::Put {
        kind: KIND,
        key,
        data,
        metadata: b"{}",
        attributes: Default::default(),
    }
}

#[test]
fn keys_and_values_of_every_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = Writer::options().size(1 << 20).max_size(64 << 20);
    let writer = options.open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let get = |key: &[u8]| reader.get_bytes(Kind::Resource, key).unwrap();
    for len in [0, 1, 64 << 10, 8 << 20] {
        let data = vec![len as u8; len];
        writer.put(KIND, b"value", &data, b"{}").unwrap();
        assert_eq!(get(b"value").unwrap(), data);
    }
    for len in [1, 2, 7, 8, 9, 255, 65_535] {
        let key: Vec<u8> = (0..len).map(|i| i as u8).collect();
        writer.put(KIND, &key, b"x", b"{}").unwrap();
        assert_eq!(get(&key).unwrap(), "x");
    }
    assert_eq!(writer.put(KIND, b"", b"", b""), Err(WriteError::EmptyKey));
    let long = vec![b'k'; 65_536];
    assert_eq!(
        writer.put(KIND, &long, b"", b""),
        Err(WriteError::KeyTooLarge)
    );
    assert_eq!(writer.delete(KIND, &long), Err(WriteError::KeyTooLarge));
    // More than the store could ever hold is said to be so, however empty it is.
    let huge = vec![0; 33 << 20];
    assert_eq!(
        writer.put(KIND, b"k", &huge, b"{}"),
        Err(WriteError::TooLarge)
    );
    assert_eq!(
        writer.put(KIND, b"k", b"", &huge),
        Err(WriteError::TooLarge)
    );
    assert_eq!(get(b"value").unwrap().len(), 8 << 20);
}

#[test]
fn a_batch_is_checked_before_any_of_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let writer = small().open(dir.path().join("store")).unwrap();
    let ops = [put_op(b"a", b"1"), put_op(b"b", b"2"), put_op(b"", b"3")];
    let error = WriteError::EmptyKey;
    assert_eq!(writer.put_batch(&ops), Err(BatchError { index: 2, error }));
    assert_eq!(writer.stats().stats.entries, 0);
    writer.put_batch(&ops[..2]).unwrap();
    assert_eq!(writer.stats().stats.entries, 2);
}

#[test]
fn a_full_store_refuses_puts_keeps_what_it_has_and_always_deletes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = Writer::options().size(64 << 10).max_size(256 << 10);
    let writer = options.open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let mut stored = 0;
    let refused = loop {
        match writer.put(KIND, &key(stored), &payload(stored, 1, 500), b"{}") {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, WriteError::NoSpace);
    let bytes = stored * 600;
    println!("{stored} entries, {bytes} bytes in {} kB", 256);
    assert!(bytes > 80 << 10, "less than a third of max_size was usable");
    for i in 0..stored {
        assert_eq!(read(&reader, i), Some(1));
    }
    // Replacing goes on: it makes no more live.
    for counter in 2..20 {
        for i in 0..stored {
            let put = writer.put(KIND, &key(i), &payload(i, counter, 500), b"{}");
            assert!(put.is_ok(), "{put:?}");
        }
    }
    for i in 0..stored {
        assert_eq!(read(&reader, i), Some(19));
        assert!(writer.delete(KIND, &key(i)).unwrap().is_some());
        assert_eq!(read(&reader, i), None);
    }
    writer
        .put(KIND, &key(0), &payload(0, 1, 500), b"{}")
        .unwrap();
    assert_eq!(read(&reader, 0), Some(1));
}

#[test]
fn a_hundred_thousand_entries_in_a_store_of_default_size() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = Writer::options().open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    for i in 0..100_000 {
        writer
            .put(
                KIND,
                &key(i),
                &payload(i, 1, 16 + (i % 100) as usize),
                b"{}",
            )
            .unwrap();
    }
    for i in 0..100_000 {
        assert_eq!(read(&reader, i), Some(1), "key {i}");
    }
    let stats = writer.stats();
    println!(
        "{} rollovers, {} MB",
        stats.stats.rollovers,
        stats.size >> 20
    );
    assert!(stats.stats.rollovers > 0);
}

/// No generation is longer than `max_size`, and a put that would have to wait is worth waiting for.
#[test]
fn max_size_is_kept_and_busy_ends() {
    let dir = tempfile::tempdir().unwrap();
    for max_size in [8192, 1 << 20, 3 << 20, 5_000_000] {
        let path = dir.path().join(max_size.to_string());
        let options = Writer::options().size(8192).max_size(max_size);
        let writer = options
            .lock_wait(std::time::Duration::MAX)
            .open(&path)
            .unwrap();
        for round in 0..3 {
            let len = (max_size / 20 + round * 7) as usize;
            for number in 0.. {
                let data = payload(number, round, len);
                let patience = std::time::Duration::from_micros(20);
                let attempt = || {
                    let attributes = Default::default();
                    writer.try_put_with(KIND, &key(number), &data, b"{}", attributes, patience)
                };
                let begun = std::time::Instant::now();
                let done = loop {
                    match attempt() {
                        Ok(Attempt::Busy) => std::thread::sleep(patience),
                        done => break done,
                    }
                    assert!(begun.elapsed().as_secs() < 10, "busy for ever");
                };
                assert!(writer.stats().size <= max_size);
                if done == Err(WriteError::NoSpace) {
                    break;
                }
                done.unwrap();
            }
        }
        assert!(std::fs::metadata(&path).unwrap().len() <= max_size);
    }
}

#[test]
fn a_full_disk_is_enospc_and_the_writer_goes_on_once_there_is_room() {
    let Some(disk) = Tmpfs::new("4m") else { return };
    let path = disk.path().join("store");
    let too_large = Writer::options().size(8 << 20).open(&path);
    assert_eq!(too_large.err(), Some(WriteError::Io(Errno::NOSPC)));
    assert!(!path.exists(), "nothing is left behind");
    let options = Writer::options().size(1 << 20).max_size(64 << 20);
    let writer = options.open(&path).unwrap();
    let reader = Reader::open(&path).unwrap();
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let mut stored = 0;
    let refused = loop {
        match writer.put(KIND, &key(stored), &payload(stored, 1, 4096), b"{}") {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, WriteError::Io(Errno::NOSPC));
    assert_eq!(writer.stats().last_build_error, Some(refused));
    for i in 0..stored {
        assert_eq!(read(&reader, i), Some(1));
    }
    assert!(
        writer.delete(KIND, &key(0)).unwrap().is_some(),
        "deletes need no room"
    );
    std::fs::remove_file(&ballast).unwrap();
    writer
        .put(KIND, &key(stored), &payload(stored, 1, 4096), b"{}")
        .unwrap();
    assert_eq!(read(&reader, stored), Some(1));
    assert_eq!(read(&reader, 0), None);
}

#[test]
fn an_empty_or_cleared_store_starts_again_where_two_do_not_fit() {
    let Some(disk) = Tmpfs::new("3m") else { return };
    let path = disk.path().join("store");
    let options = || Writer::options().size(2 << 20).max_size(2 << 20);
    options().open(&path).unwrap().close();
    // Unmapped when it is dropped: a reader that holds the old file keeps its memory.
    let reader = Reader::options().watcher(false).open(&path).unwrap();
    let id = reader.view().unwrap().store_id();
    drop(reader);
    let writer = options().open(&path).unwrap();
    assert_eq!(writer.stats().store_id, id);
    writer
        .put(KIND, &key(1), &payload(1, 1, 600_000), b"{}")
        .unwrap();
    drop(writer);
    let cleared = options()
        .recover(erlmcp_shm_writer::Recover::Clear)
        .open(&path)
        .unwrap();
    assert_eq!(
        (cleared.stats().size, cleared.stats().stats.entries),
        (2 << 20, 0)
    );
}

#[test]
fn child_limited() {
    let Some(path) = common::child_args() else {
        return;
    };
    let opened = small().open(path);
    println!("\n{:?}", opened.err());
}

#[test]
fn a_file_size_limit_is_efbig_and_no_signal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let exe = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -f 8; exec \"$0\" --exact child_limited --nocapture",
        ])
        .arg(exe)
        .env("CHILD_ARGS", &path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("{:?}", Some(WriteError::Io(Errno::FBIG)));
    assert!(text.lines().any(|line| line == expected), "{text}");
    assert!(!path.exists());
}
