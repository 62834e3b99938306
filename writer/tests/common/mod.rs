//! What the tests share: self-describing payloads, and this executable run again as another process.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use erlmcp_shm_reader::{Entry, Kind, Reader};
use erlmcp_shm_writer::{Op, Options, Writer};

pub const KIND: Kind = Kind::Resource;

/// A store small enough that rollovers are frequent.
pub fn small() -> Options {
    Writer::options().size(16 << 10).max_size(4 << 20)
}

pub fn key(i: u64) -> Vec<u8> {
    format!("key/{i}").into_bytes()
}

/// `len` bytes (16 at least) that follow from key number and counter, as the reader's example `follow`
/// checks them.
pub fn payload(key: u64, counter: u64, len: usize) -> Vec<u8> {
    let mut bytes = [key.to_le_bytes(), counter.to_le_bytes()].concat();
    bytes.resize(len, key.wrapping_mul(31).wrapping_add(counter) as u8);
    bytes
}

/// The counter in a payload, every byte of which was checked.
pub fn counter_of(key: u64, entry: &Entry<'_>) -> u64 {
    let data = entry.data();
    let counter = u64::from_le_bytes(data[8..16].try_into().unwrap());
    assert_eq!(data, payload(key, counter, data.len()), "torn or foreign");
    counter
}

/// The counter of a key as a reader sees it now.
pub fn read(reader: &Reader, number: u64) -> Option<u64> {
    let view = reader.view().unwrap();
    let entry = view.get(KIND, key(number)).unwrap()?;
    Some(counter_of(number, &entry))
}

/// Runs a test of this executable as a process of its own; `args` reach it in the environment.
pub fn child(test: &str, args: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("CHILD_ARGS", args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What [`child`] was given; `None` in an ordinary run of the tests.
pub fn child_args() -> Option<String> {
    std::env::var("CHILD_ARGS").ok()
}

/// Whether the test may do what only root can; says so where not.
pub fn root_or_skip(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: {what} needs root");
    }
    root
}

/// A tmpfs of its own, unmounted when dropped.
pub struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    pub fn new(size: &str) -> Option<Self> {
        if !root_or_skip("mounting a small tmpfs") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            println!("SKIPPED: this machine does not let root mount a tmpfs");
            return None;
        }
        Some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// This executable, run by a user without rights, from a folder that this user can reach.
pub fn as_another_user(folder: &Path, test: &str, args: &Path) -> Child {
    let open_to_all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder, open_to_all).unwrap();
    let program = tempfile::tempdir().unwrap();
    let open_to_all = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program.path(), open_to_all).unwrap();
    let copy = program.path().join("test");
    std::fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command
        .args(["--exact", test, "--nocapture"])
        .env("CHILD_ARGS", args)
        .current_dir("/")
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    loop {
        match command.spawn() {
            // Another test's child was begotten while the copy was written, and has not got to its exec yet.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(1));
            }
            child => return child.unwrap(),
        }
    }
}

/// A put of these bytes; without any, a delete.
pub fn change<'a>(key: &'a [u8], data: &'a Option<Vec<u8>>) -> Op<'a> {
    match data {
        None => Op::Delete { kind: KIND, key },
        Some(data) => Op::Put {
            kind: KIND,
            key,
            data,
            metadata: b"{}",
            attributes: Default::default(),
        },
    }
}
