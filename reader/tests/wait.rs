//! Waiting for changes, and signs of life.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::State;
use erlmcp_shm_reader::{Kind, ReadError, Reader, Verdict};
use erlmcp_shm_writer::Writer;
use std::path::{Path, PathBuf};
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

#[test]
fn waiting_ends_with_a_publish_a_switch_and_a_new_store() {
    for pread in [false, true] {
        let (_folder, path, mut image) = store();
        let options = Reader::options().refresh_interval(TICK).pread(pread);
        let shm = options.watcher(false).open(&path).unwrap();
        let long = Duration::from_secs(20);
        let seen = shm.changes().unwrap();
        assert_eq!(shm.wait_for_change(seen, TICK * 2), Ok(None));
        assert_eq!(shm.wait_for_change(seen, Duration::ZERO), Ok(None));
        assert_eq!(shm.wait_for_change(seen + 1, long), Ok(Some(seen)));
        let wait = |since| {
            let shm = shm.clone();
            std::thread::spawn(move || shm.wait_for_change(since, long).unwrap().unwrap())
        };
        let waiter = wait(seen);
        image.put(Kind::Resource, b"x", b"two", b"{}");
        image.update(&path);
        let seen = waiter.join().unwrap();
        let waiter = wait(seen);
        image.switch(&path);
        let now = waiter.join().unwrap();
        assert!(now > seen);
        let waiter = wait(now);
        image.header.store_id = [3; 16];
        image = Image::of(image.header);
        image.changes = now; // even if the counters happen to agree
        image.put(Kind::Resource, b"x", b"new", b"{}");
        image.save(&path);
        assert!(waiter.join().unwrap() > now);
        assert_eq!(get(&shm).unwrap(), "new");
    }
}

#[test]
fn waiting_fails_where_a_view_does() {
    let (_folder, path, image) = store();
    let shm = Reader::options()
        .refresh_interval(TICK)
        .open(&path)
        .unwrap();
    image.set_state(State::Superseded);
    image.update(&path);
    let result = shm.wait_for_change(0, Duration::from_secs(20));
    assert_eq!(result, Err(ReadError::Detached));
}

/// The reader looks at the path every 30 s only, so what ends the wait is the writer's wake-up.
#[test]
fn the_writer_wakes_waiters_of_a_publish_and_of_a_switch() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let writer = Writer::options().size(1 << 20).open(&path).unwrap();
    let interval = Duration::from_secs(30);
    let options = Reader::options().refresh_interval(interval);
    let shm = options.watcher(false).open(&path).unwrap();
    let wait = || {
        let (shm, since) = (shm.clone(), shm.changes().unwrap());
        let waiter = std::thread::spawn(move || shm.wait_for_change(since, interval));
        std::thread::sleep(TICK * 5); // it sleeps by now, in all likelihood
        waiter
    };
    let start = Instant::now();
    let waiter = wait();
    writer.put(Kind::Resource, b"x", b"one", b"{}").unwrap();
    writer.flush().unwrap();
    assert!(waiter.join().unwrap().unwrap().is_some());
    let waiter = wait();
    writer.compact().unwrap();
    assert!(waiter.join().unwrap().unwrap().is_some());
    assert_eq!(get(&shm).unwrap(), "one");
    assert!(start.elapsed() < Duration::from_secs(10));
}

fn lock(path: &Path) -> std::fs::File {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    std::fs::File::create(PathBuf::from(name)).unwrap()
}

#[test]
fn liveness_tells_a_held_lock_and_a_beating_heart() {
    for pread in [false, true] {
        let (_folder, path, image) = store();
        let shm = Reader::options().pread(pread).open(&path).unwrap();
        let liveness = shm.liveness();
        assert_eq!(liveness.state, Some(State::Live));
        assert_eq!(
            (liveness.heartbeat_age, liveness.lock_held),
            (None, Some(false))
        );
        assert_eq!(liveness.verdict(), Verdict::Dead);
        let lock = lock(&path);
        assert_eq!(shm.liveness().lock_held, Some(false));
        if !set_ofd_lock(&lock) {
            println!("SKIPPED liveness: no OFD locks here");
            return;
        }
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let now = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        image.words().set_writer(1000, 4711);
        image.words().set_heartbeat(now);
        image.update(&path);
        let liveness = shm.liveness();
        assert_eq!(liveness.lock_held, Some(true));
        assert_eq!(liveness.writer_pid, 4711);
        assert_eq!(liveness.heartbeat_interval, Duration::from_secs(1));
        assert_eq!(liveness.verdict(), Verdict::Alive);
        image.words().set_heartbeat(now - 11_000_000_000);
        image.update(&path);
        assert_eq!(shm.liveness().verdict(), Verdict::Stale);
        drop(lock);
        assert_eq!(shm.liveness().verdict(), Verdict::Dead);
        image.set_state(State::Closed);
        image.update(&path);
        assert_eq!(shm.liveness().verdict(), Verdict::Closed);
    }
}

#[test]
fn the_watcher_notes_the_heartbeat() {
    let (_folder, path, image) = store();
    let shm = Reader::options()
        .refresh_interval(TICK)
        .open(&path)
        .unwrap();
    assert_eq!(shm.heartbeat_seen(), None);
    image.words().set_heartbeat(1);
    image.update(&path);
    let start = Instant::now();
    while shm.heartbeat_seen().is_none() {
        assert!(start.elapsed() < Duration::from_secs(10));
        std::thread::sleep(TICK);
    }
}

#[cfg(target_os = "linux")]
fn set_ofd_lock(file: &std::fs::File) -> bool {
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc::{F_WRLCK, SEEK_SET, flock};
    let lock = flock {
        l_type: F_WRLCK as _,
        l_whence: SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&lock)).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn set_ofd_lock(_: &std::fs::File) -> bool {
    false
}
