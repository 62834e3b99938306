//! What is refused at open, and with which error.

#[path = "support/squat.rs"]
mod squat;
#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_layout::{HEADER_SIZE, Header, State, checksum};
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use squat::Squat::*;
use squat::{Place, Watchdog};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;
use support::Image;

fn image() -> Image {
    let mut image = Image::new(1 << 16, 64);
    image.put(Kind::Resource, b"x", b"value", b"{}");
    image
}

fn refusal(path: &Path) -> ReadError {
    let mapped = Reader::open(path).unwrap_err();
    let read = Reader::options().pread(true).open(path).unwrap_err();
    assert_eq!(mapped, read);
    mapped
}

#[test]
fn no_file() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    assert_eq!(refusal(&path), ReadError::NotFound);
    assert_eq!(refusal(&path.join("below a file")), ReadError::NotFound);
}

/// Whatever somebody put at the path: nothing waits for it, follows it elsewhere, or changes it.
#[test]
fn squats_of_every_kind() {
    for squat in squat::ALL {
        let _watchdog = Watchdog::new(format!("{squat:?}"));
        let place = Place::new();
        image().save(&place.elsewhere("store"));
        if !place.squat(squat, &place.store()) {
            continue;
        }
        let before = place.seen(&[]);
        let wanted = match squat {
            Socket | Fifo | Device | Folder | OthersFifo | OthersFolder => ReadError::NotRegular,
            LinkToNothing | LinkToText | LinkToStore | LinkToItself => ReadError::NotRegular,
            OthersText | NameOfOthersText => ReadError::BadOwner,
            WritableByGroup | WritableByAll => ReadError::InsecureMode,
            Text | NameOfText => ReadError::NotAStore,
        };
        assert_eq!(refusal(&place.store()), wanted, "{squat:?}");
        // Whoever may start without a file is told all the same.
        let options = Reader::options().allow_absent(true);
        assert_eq!(options.open(place.store()).unwrap_err(), wanted);
        assert_eq!(place.seen(&[]), before, "{squat:?}");
    }
    assert_eq!(refusal(Path::new("/dev/null")), ReadError::NotRegular);
    assert_eq!(refusal(Path::new(".")), ReadError::NotRegular);
}

/// The same at the path of a store that is read: it goes on, says nothing new, and comes back with it.
#[test]
fn squats_at_the_path_of_an_open_reader() {
    for squat in squat::ALL {
        let _watchdog = Watchdog::new(format!("{squat:?}"));
        let place = Place::new();
        let path = place.store();
        image().save(&path);
        let readers = [false, true].map(|pread| {
            let options = Reader::options().refresh_interval(Duration::from_millis(1));
            options.pread(pread).open(&path).unwrap()
        });
        fs::remove_file(&path).unwrap();
        if !place.squat(squat, &path) {
            continue;
        }
        for reader in &readers {
            let changes = reader.changes().unwrap();
            // That looks at the path between two slices of sleep.
            let waited = reader.wait_for_change(changes, Duration::from_millis(20));
            assert_eq!(waited, Ok(None), "{squat:?}");
            let found = reader.get_bytes(Kind::Resource, "x").unwrap();
            assert_eq!(found.unwrap(), "value", "{squat:?}");
        }
        squat::remove(&path);
        let mut other = image().next();
        other.put(Kind::Resource, b"x", b"another's", b"{}");
        other.save(&path);
        for reader in &readers {
            let changes = reader.changes().unwrap();
            let patience = Duration::from_secs(30);
            while reader.get_bytes(Kind::Resource, "x").unwrap().unwrap() != "another's" {
                assert!(reader.wait_for_change(changes, patience).unwrap().is_some());
            }
        }
    }
}

#[test]
fn writable_by_others() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image().save(&path);
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert_eq!(refusal(&path), ReadError::InsecureMode, "{mode:o}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    Reader::open(&path).unwrap();
}

#[test]
fn owned_by_someone_else() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image().save(&path);
    if chown(&path, Some(12345), None).is_err() {
        println!("SKIPPED owned_by_someone_else: only root may give files away");
        return;
    }
    assert_eq!(refusal(&path), ReadError::BadOwner);
    Reader::options().trust_owner(12345).open(&path).unwrap();
    let other = Reader::options().trust_owner(12346).open(&path);
    assert_eq!(other.unwrap_err(), ReadError::BadOwner);
}

#[test]
fn not_a_store() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    for bytes in [&b""[..], b"E", b"some other file", &[0; 5000]] {
        support::save(&path, bytes);
        assert_eq!(refusal(&path), ReadError::NotAStore);
    }
}

#[test]
fn another_version() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let mut bytes = image().bytes();
    bytes[8] = 9;
    support::save(&path, &bytes);
    assert_eq!(refusal(&path), ReadError::Version(9));
}

#[test]
fn damaged_headers() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let bytes = image().bytes();
    let corrupt = |bytes: &[u8]| {
        support::save(&path, bytes);
        matches!(refusal(&path), ReadError::Corrupt(_))
    };
    assert!(corrupt(&bytes[..100]));
    assert!(corrupt(&bytes[..HEADER_SIZE]));
    assert!(corrupt(&bytes[..bytes.len() - 1]));
    assert!(corrupt(&[&bytes[..], &[0]].concat()));
    for at in 16..128 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        assert!(corrupt(&bytes), "{at}");
    }
    // A right checksum over wrong numbers: slot count, then log offset.
    for at in [72, 80] {
        let mut bytes = bytes.clone();
        bytes[at] ^= 8;
        let sum = checksum(&bytes[16..120]);
        bytes[120..128].copy_from_slice(&sum.to_le_bytes());
        assert!(corrupt(&bytes), "{at}");
    }
}

#[test]
fn a_state_that_is_not_to_be_read() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let image = image();
    image.set_state(State::Building);
    image.save(&path);
    assert_eq!(refusal(&path), ReadError::Corrupt("never finished"));
    image.set_state(State::Superseded);
    image.save(&path);
    assert_eq!(refusal(&path), ReadError::Detached);
    let mut bytes = image.bytes();
    bytes[128..136].copy_from_slice(&77u64.to_le_bytes());
    support::save(&path, &bytes);
    assert_eq!(refusal(&path), ReadError::Corrupt("state"));
    image.set_state(State::Closed);
    image.save(&path);
    let shm = Reader::open(&path).unwrap();
    assert!(shm.get_bytes(Kind::Resource, "x").unwrap().is_some());
}

#[test]
fn unreadable() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    image().save(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o000)).unwrap();
    if rustix::process::geteuid().is_root() {
        println!("SKIPPED unreadable: root may read everything");
        return;
    }
    assert_eq!(refusal(&path), ReadError::Io(rustix::io::Errno::ACCESS));
}

#[test]
fn a_huge_hole_is_no_trouble() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let header = Header::new(1 << 40, 64).unwrap();
    let mut bytes = header.encode();
    bytes[128] = State::Live as u8;
    support::save(&path, &bytes);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    if file.set_len(1 << 40).is_err() {
        println!("SKIPPED a_huge_hole_is_no_trouble: the file system has no such files");
        return;
    }
    for pread in [false, true] {
        let shm = Reader::options().pread(pread).open(&path).unwrap();
        assert_eq!(shm.get_bytes(Kind::Resource, "x"), Ok(None));
        assert_eq!(shm.view().unwrap().iter().count(), 0);
        // Its tail is 0, which lies before the log.
        assert!(matches!(shm.verify(), Err(ReadError::Corrupt(_))));
    }
}

#[test]
fn absent_is_allowed_and_found_at_once_when_it_comes() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    for (pread, watcher) in [(false, true), (false, false), (true, true)] {
        let options = Reader::options().allow_absent(true).watcher(watcher);
        let shm = options.pread(pread).open(&path).unwrap();
        assert_eq!(shm.view().unwrap_err(), ReadError::NotFound);
        assert_eq!(shm.changes(), Err(ReadError::NotFound));
        assert_eq!(shm.liveness().state, None);
        image().save(&path);
        let found = shm.get_bytes(Kind::Resource, "x").unwrap().unwrap();
        assert_eq!(found, "value");
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn other_refusals_are_not_absence() {
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    support::save(&path, b"some other file");
    let result = Reader::options().allow_absent(true).open(&path);
    assert_eq!(result.unwrap_err(), ReadError::NotAStore);
}
