//! How a reader follows from one generation to the next, and what it answers when it cannot.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::State;
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::Image;

const TICK: Duration = Duration::from_millis(10);

fn store() -> (tempfile::TempDir, PathBuf, Image) {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let mut image = Image::new(1 << 16, 64);
    image.put(Kind::Resource, b"x", b"one", b"{}");
    image.save(&path);
    (folder, path, image)
}

fn get(shm: &Reader) -> Result<String, ReadError> {
    let bytes = shm.get_bytes(Kind::Resource, "x")?.expect("x is there");
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Marks the file at the path without putting another there.
fn mark(path: &Path, state: State) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&(state as u64).to_le_bytes(), 128)
        .unwrap();
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_next_lookup_sees_the_next_generation() {
    for (pread, watcher) in [(false, true), (false, false), (true, true)] {
        let (_folder, path, mut image) = store();
        let options = Reader::options().pread(pread).watcher(watcher);
        let shm = options.open(&path).unwrap();
        let mut changes = shm.changes().unwrap();
        for i in 0..50 {
            image.switch(&path);
            let value = i.to_string();
            image.put(Kind::Resource, b"x", value.as_bytes(), b"{}");
            image.update(&path);
            assert_eq!(get(&shm).unwrap(), value);
            let now = shm.changes().unwrap();
            assert!(now > changes);
            changes = now;
        }
        assert_eq!(shm.view().unwrap().generation(), 51);
        if !watcher {
            assert_eq!(shm.stats().unwrap().mapped_generations, 1);
        }
    }
}

#[test]
fn a_held_view_is_frozen_and_stays_readable() {
    let (_folder, path, mut image) = store();
    let shm = Reader::open(&path).unwrap();
    let view = shm.view().unwrap();
    let old = view.get(Kind::Resource, "x").unwrap().unwrap();
    let bytes = shm.get_bytes(Kind::Resource, "x").unwrap().unwrap();
    image.switch(&path);
    image.put(Kind::Resource, b"x", b"two", b"{}");
    image.update(&path);
    assert!(!view.is_current());
    assert_eq!(get(&shm).unwrap(), "two");
    assert_eq!(old.data(), b"one");
    assert_eq!(
        view.get(Kind::Resource, "x").unwrap().unwrap().data(),
        b"one"
    );
    assert_eq!(
        (view.generation(), shm.view().unwrap().generation()),
        (1, 2)
    );
    assert_eq!(bytes, "one");
}

#[test]
fn a_path_that_does_not_show_the_newer_file_is_detached() {
    let (_folder, path, mut image) = store();
    let interval = Duration::from_millis(300);
    for pread in [false, true] {
        let options = Reader::options().refresh_interval(interval).watcher(false);
        let shm = options.pread(pread).open(&path).unwrap();
        mark(&path, State::Superseded);
        assert_eq!(get(&shm), Err(ReadError::Detached));
        let looked = Instant::now();
        // A newer file comes: it is found at most one interval later, and not looked for before.
        image = image.next();
        image.save(&path);
        let mut found = get(&shm);
        while found == Err(ReadError::Detached) {
            assert!(looked.elapsed() < Duration::from_secs(10));
            std::thread::sleep(TICK);
            found = get(&shm);
        }
        assert_eq!(found.unwrap(), "one");
        assert!(looked.elapsed() + TICK >= interval);
    }
}

#[test]
fn an_older_generation_of_the_store_is_not_followed() {
    let (_folder, path, mut image) = store();
    let backup = fs::read(&path).unwrap();
    image.switch(&path);
    let shm = Reader::options().watcher(false).open(&path).unwrap();
    mark(&path, State::Superseded);
    support::save(&path, &backup);
    assert_eq!(get(&shm), Err(ReadError::Detached));
}

#[test]
fn whatever_else_fails_after_a_switch_is_the_answer() {
    let (_folder, path, image) = store();
    let shm = Reader::options().watcher(false).open(&path).unwrap();
    mark(&path, State::Superseded);
    fs::remove_file(&path).unwrap();
    assert_eq!(get(&shm), Err(ReadError::NotFound));
    support::save(&path, b"something else");
    assert_eq!(get(&shm), Err(ReadError::NotAStore));
    support::save(&path, &image.bytes()[..2000]);
    assert!(matches!(get(&shm), Err(ReadError::Corrupt(_))));
    let next = image.next();
    next.set_state(State::Building);
    next.save(&path);
    assert!(matches!(get(&shm), Err(ReadError::Corrupt(_))));
    next.set_state(State::Live);
    next.save(&path);
    assert_eq!(get(&shm).unwrap(), "one");
}

#[test]
fn the_watcher_finds_a_new_store_at_the_path() {
    for pread in [false, true] {
        let (_folder, path, mut image) = store();
        let options = Reader::options().refresh_interval(TICK).pread(pread);
        let shm = options.open(&path).unwrap();
        let changes = shm.changes().unwrap();
        fs::remove_file(&path).unwrap();
        std::thread::sleep(TICK * 3);
        assert_eq!(get(&shm).unwrap(), "one"); // nothing newer is known
        image.header.store_id = [9; 16];
        image = Image::of(image.header);
        image.put(Kind::Resource, b"x", b"new", b"{}");
        image.save(&path);
        eventually("the new store", || get(&shm).unwrap() == "new");
        assert_eq!(shm.view().unwrap().store_id(), [9; 16]);
        // The file's own counter began anew; the reader's did not.
        assert_eq!(shm.changes().unwrap(), changes + 1);
    }
}

#[test]
fn the_watcher_answers_detached_when_a_backup_is_put_back() {
    let (_folder, path, mut image) = store();
    let backup = fs::read(&path).unwrap();
    image.switch(&path);
    let aside = path.with_extension("aside");
    let shm = Reader::options()
        .refresh_interval(TICK)
        .open(&path)
        .unwrap();
    fs::rename(&path, &aside).unwrap();
    support::save(&path, &backup);
    eventually("detached", || get(&shm) == Err(ReadError::Detached));
    fs::rename(&aside, &path).unwrap();
    eventually("back", || get(&shm).is_ok());
}

#[test]
fn the_watcher_unmaps_what_nobody_holds() {
    let (_folder, path, mut image) = store();
    let shm = Reader::options()
        .refresh_interval(TICK)
        .open(&path)
        .unwrap();
    let held = shm.get_bytes(Kind::Resource, "x").unwrap().unwrap();
    let mut held = vec![held];
    for _ in 0..5 {
        image.switch(&path);
        held.push(shm.get_bytes(Kind::Resource, "x").unwrap().unwrap());
    }
    std::thread::sleep(TICK * 5);
    let stats = shm.stats().unwrap();
    assert_eq!((stats.mapped_generations, stats.pinned_bytes), (6, 6 << 16));
    drop(held);
    eventually("unmapped", || shm.stats().unwrap().mapped_generations == 1);
    assert_eq!(mappings(&path), 1);
    // The last reader: gone within a tick, and not by its destructor.
    let view = shm.view().unwrap();
    drop(shm);
    assert_eq!(mappings(&path), 1);
    drop(view);
    eventually("unmapped", || mappings(&path) == 0);
}

#[test]
fn an_idle_reader_lets_go_of_an_old_generation() {
    let (_folder, path, mut image) = store();
    let shm = Reader::options()
        .refresh_interval(TICK)
        .open(&path)
        .unwrap();
    image.switch(&path);
    eventually("let go", || {
        !maps()
            .lines()
            .any(|l| l.contains("(deleted)") && l.contains(name(&path)))
    });
    drop(shm);
}

fn name(path: &Path) -> &str {
    path.parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
}

fn maps() -> String {
    fs::read_to_string("/proc/self/maps").unwrap()
}

fn mappings(path: &Path) -> usize {
    maps().lines().filter(|l| l.contains(name(path))).count()
}

#[test]
fn one_watcher_thread_serves_all_readers() {
    let (_folder, path, _image) = store();
    let readers: Vec<_> = (0..20).map(|_| Reader::open(&path).unwrap()).collect();
    let watchers = || {
        let tasks = fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.map(|t| fs::read_to_string(t.unwrap().path().join("comm")));
        // A thread's name is cut to 15 bytes; one that ends meanwhile has none.
        names
            .filter(|n| n.as_ref().is_ok_and(|n| n.trim() == "erlmcp-shm-watc"))
            .count()
    };
    eventually("the watcher", || watchers() == 1);
    drop(readers);
}

#[test]
fn many_threads_follow_many_switches() {
    let (_folder, path, mut image) = store();
    image.put(Kind::Resource, b"x", b"0", b"{}");
    image.update(&path);
    let shm = Reader::open(&path).unwrap();
    let (published, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let switches = 200;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut lookups = 0u64;
                    while !stop.load(Ordering::Relaxed) {
                        let at_least = published.load(Ordering::Acquire);
                        let value: u64 = get(&shm).unwrap().parse().unwrap();
                        assert!(value >= at_least, "{value} after {at_least}");
                        lookups += 1;
                    }
                    lookups
                })
            })
            .collect();
        for i in 1..=switches {
            image.switch(&path);
            image.put(Kind::Resource, b"x", i.to_string().as_bytes(), b"{}");
            image.update(&path);
            published.store(i, Ordering::Release);
        }
        stop.store(true, Ordering::Relaxed);
        let lookups: Vec<u64> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        println!("{switches} switches, lookups by thread: {lookups:?}");
        assert!(lookups.iter().all(|n| *n > 0));
    });
    assert_eq!(shm.view().unwrap().generation(), switches + 1);
}
