//! Another user without rights, as a process of its own: what he can read he cannot change, by whatever way,
//! and whatever he may get hold of holds up no writer.
//!
//! Each test starts this executable again under another user id, in a test of its own that does nothing in
//! an ordinary run. All of it needs root.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;

mod attempts;
mod calls;
mod grips;
mod trust;

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Child;

use common::{KIND, as_another_user, child_args, key, payload, read, root_or_skip, small};
use erlmcp_shm_reader::Reader;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// The user and the group that the other process runs as.
const OTHER: u32 = 65_534;

/// A lock as far as one can take it who may only read the file.
fn lock_to_read(file: &File) -> std::io::Result<()> {
    let lock = whole_file(libc::F_RDLCK);
    Ok(fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&lock)).map(drop)?)
}

fn whole_file(kind: i32) -> libc::flock {
    libc::flock {
        l_type: kind as _,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

/// Waits for a line of a process's.
fn wait_for(process: &mut Child, wanted: &str) {
    let mut lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
    let found = lines.any(|line| line.unwrap() == wanted);
    assert!(found, "{wanted}: the process ended");
}

/// Prints what is left of a process's output, and has it end well.
fn end(mut process: Child) {
    drop(process.stdin.take());
    let mut rest = String::new();
    let output = process.stdout.as_mut().unwrap();
    output.read_to_string(&mut rest).unwrap();
    print!("{rest}");
    assert!(process.wait().unwrap().success(), "{rest}");
}

fn wait_for_the_end_of_input() {
    let _ = std::io::stdin().read(&mut [0]);
}

/// Everything that can be seen of a file from outside.
fn all_of(path: &Path) -> (Vec<u8>, [u64; 6]) {
    let meta = fs::symlink_metadata(path).unwrap();
    let figures = [
        meta.ino(),
        meta.mode().into(),
        meta.uid().into(),
        meta.gid().into(),
        meta.nlink(),
        meta.len(),
    ];
    (fs::read(path).unwrap(), figures)
}

#[test]
fn child_who_tries_everything() {
    let Some(args) = child_args() else { return };
    let mut args = args.split('\n');
    let mut next = || args.next().unwrap();
    let (store, writer, mine) = (next(), next().parse().unwrap(), next());
    attempts::all(Path::new(store), writer, Path::new(mine));
}

/// In a folder of the writer's own, and in one like /dev/shm, where all may make files.
#[test]
fn another_user_changes_nothing() {
    if !root_or_skip("becoming another user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, mode) in [("own", 0o755), ("shared", 0o1777)] {
        let folder = dir.path().join(name);
        let mine = dir.path().join(format!("{name}-other"));
        for folder in [&folder, &mine] {
            fs::create_dir(folder).unwrap();
        }
        fs::set_permissions(&folder, Permissions::from_mode(mode)).unwrap();
        chown(&mine, Some(OTHER), Some(OTHER)).unwrap();
        let path = folder.join("store");
        let writer = small().mode(0o644).open(&path).unwrap();
        let put = |counter| {
            let data = payload(1, counter, 900);
            writer.put(KIND, &key(1), &data, b"{}").unwrap();
        };
        put(1);
        let files = [path.clone(), path.with_extension("lock")];
        let before = files.each_ref().map(|path| all_of(path));
        let args = format!(
            "{}\n{}\n{}",
            path.display(),
            std::process::id(),
            mine.display()
        );
        println!("in a folder of mode {mode:o}:");
        end(as_another_user(
            dir.path(),
            "child_who_tries_everything",
            Path::new(&args),
        ));
        assert!(files.each_ref().map(|path| all_of(path)) == before);
        put(2);
        writer.heartbeat().unwrap();
        writer.compact().unwrap();
        put(3);
        assert_eq!(read(&Reader::open(&path).unwrap(), 1), Some(3));
    }
}

/// Whoever could read the lock file could keep a lock for reading on it, and with that every writer away. Only
/// somebody with rights can have opened it to others; the writer closes it again.
#[test]
fn a_lock_file_that_others_could_read_is_closed_to_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let lock = path.with_extension("lock");
    let mode = || fs::metadata(&lock).unwrap().mode() & 0o7777;
    let open_to_all = || fs::set_permissions(&lock, Permissions::from_mode(0o644)).unwrap();
    small().open(&path).unwrap().close();
    open_to_all();
    let writer = small().open(&path).unwrap();
    assert_eq!(mode(), 0o600);
    writer.close();
    // One who is there already is in the way until he goes, and nobody follows him.
    open_to_all();
    let theirs = File::open(&lock).unwrap();
    lock_to_read(&theirs).unwrap();
    let refused = small().open(&path).err();
    assert_eq!(refused, Some(erlmcp_shm_writer::WriteError::Locked));
    assert_eq!(mode(), 0o600);
    drop(theirs);
    small().open(&path).unwrap();
}
