//! All the ways to a file, and to the process that writes it, that somebody may try who can only read it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{self, Resource, Rlimit};

use crate::calls;

/// What was tried, how it is refused, and what came of it.
type Attempt = (&'static str, &'static [Errno], io::Result<()>);

const NO_RIGHT: &[Errno] = &[Errno::ACCESS, Errno::PERM];
/// The descriptor is one for reading.
const NOT_WRITABLE: &[Errno] = &[Errno::BADF, Errno::INVAL];

/// Tries everything and prints what came of it. `mine` is a folder on the same file system.
pub fn all(store: &Path, writer: i32, mine: &Path) {
    let mut attempts = by_name(store, mine);
    attempts.extend(by_descriptor(store));
    attempts.extend(by_mapping(store));
    attempts.extend(on_the_lock(store));
    attempts.extend(on_the_process(writer));
    let mut last = "";
    for (what, refusals, outcome) in attempts {
        let Err(error) = outcome else {
            panic!("{what}: done");
        };
        if what != last {
            println!("{what:>42}  {error}");
        }
        last = what;
        let refused = Errno::from_io_error(&error).is_some_and(|errno| refusals.contains(&errno));
        assert!(refused, "{what}: {error:?}");
    }
}

fn open(path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(
        path.as_ref(),
        flags | OFlags::CLOEXEC,
        Mode::RUSR,
    )?)
}

fn by_name(store: &Path, mine: &Path) -> Vec<Attempt> {
    let beside = store.with_extension("beside");
    let own = mine.join("own");
    fs::write(&own, b"mine").unwrap();
    let exchange = || rustix::fs::renameat_with(CWD, &own, CWD, store, RenameFlags::EXCHANGE);
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut refused = |what, outcome| attempts.push((what, NO_RIGHT, outcome));
    for (what, flags) in [
        ("open for writing", OFlags::WRONLY),
        ("open for reading and writing", OFlags::RDWR),
        ("open for appending", OFlags::WRONLY | OFlags::APPEND),
        ("open and truncate", OFlags::RDONLY | OFlags::TRUNC),
        ("open or create", OFlags::RDWR | OFlags::CREATE),
    ] {
        refused(what, open(store, flags).map(drop));
    }
    refused("truncate", File::create(store).map(drop));
    refused("unlink", fs::remove_file(store));
    refused("rename away", fs::rename(store, &beside));
    refused("rename something to it", fs::rename(&own, store));
    refused("exchange it", exchange().map_err(Into::into));
    refused(
        "chmod",
        fs::set_permissions(store, Permissions::from_mode(0o666)),
    );
    refused("chown", chown(store, Some(65534), None));
    let value = rustix::fs::setxattr(store, "user.mine", b"1", XattrFlags::empty());
    refused("an attribute", value.map_err(Into::into));
    // A file that one may not write takes no second name, where the system protects names.
    let protected = fs::read_to_string("/proc/sys/fs/protected_hardlinks");
    if protected.is_ok_and(|on| on.trim() == "1") {
        refused("a second name", fs::hard_link(store, mine.join("link")));
    }
    attempts.push((
        "link something over it",
        &[Errno::EXIST, Errno::ACCESS],
        fs::hard_link(&own, store),
    ));
    attempts.push((
        "a symbolic link over it",
        &[Errno::EXIST, Errno::ACCESS],
        symlink(&own, store),
    ));
    attempts
}

/// With a descriptor that may read.
fn by_descriptor(store: &Path) -> Vec<Attempt> {
    let file = File::open(store).unwrap();
    let handle = open(store, OFlags::PATH).unwrap();
    let again = |fd: i32| format!("/proc/self/fd/{fd}");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let punch = rustix::fs::fallocate(&file, punch, 0, 4096);
    let seal = rustix::fs::fcntl_add_seals(&file, rustix::fs::SealFlags::WRITE);
    vec![
        ("write", NOT_WRITABLE, (&file).write_all(b"mine")),
        ("ftruncate", NOT_WRITABLE, file.set_len(0)),
        ("punch a hole", NOT_WRITABLE, punch.map_err(Into::into)),
        (
            "open it again for writing",
            NO_RIGHT,
            open(again(file.as_raw_fd()), OFlags::RDWR).map(drop),
        ),
        (
            "open a path descriptor again for writing",
            NO_RIGHT,
            open(again(handle.as_raw_fd()), OFlags::WRONLY).map(drop),
        ),
        (
            "seal it",
            &[Errno::PERM, Errno::INVAL, Errno::BADF],
            seal.map_err(Into::into),
        ),
        (
            "a lease for reading",
            NO_RIGHT,
            calls::lease(&file, libc::F_RDLCK),
        ),
        (
            "a lease for writing",
            NO_RIGHT,
            calls::lease(&file, libc::F_WRLCK),
        ),
    ]
}

/// With a mapping that may read.
fn by_mapping(store: &Path) -> Vec<Attempt> {
    let file = File::open(store).unwrap();
    let map = MmapOptions::new().map_raw_read_only(&file).unwrap();
    vec![
        ("map writable", NO_RIGHT, MmapRaw::map_raw(&file).map(drop)),
        (
            "make a mapping writable",
            NO_RIGHT,
            calls::make_writable(&map),
        ),
        (
            "take the pages under a mapping away",
            NO_RIGHT,
            calls::punch_through(&map),
        ),
        (
            "write through /proc/self/mem",
            &[Errno::IO, Errno::FAULT],
            through_memory(&map),
        ),
    ]
}

/// The way of a debugger, which writes where the mapping may not.
fn through_memory(map: &MmapRaw) -> io::Result<()> {
    let memory = File::options().write(true).open("/proc/self/mem")?;
    memory.write_all_at(b"mine", map.as_ptr() as u64)
}

fn on_the_lock(store: &Path) -> Vec<Attempt> {
    let lock = store.with_extension("lock");
    let handle = File::from(open(&lock, OFlags::PATH).unwrap());
    vec![
        (
            "open the lock file for reading",
            NO_RIGHT,
            File::open(&lock).map(drop),
        ),
        (
            "open the lock file for writing",
            NO_RIGHT,
            open(&lock, OFlags::RDWR).map(drop),
        ),
        (
            "lock a path descriptor of the lock file",
            &[Errno::BADF],
            crate::lock_to_read(&handle),
        ),
        ("unlink the lock file", NO_RIGHT, fs::remove_file(&lock)),
    ]
}

fn on_the_process(writer: i32) -> Vec<Attempt> {
    let of = |name: &str| format!("/proc/{writer}/{name}");
    let pid = nix::unistd::Pid::from_raw(writer);
    let raw = process::Pid::from_raw(writer).unwrap();
    let handle = process::pidfd_open(raw, process::PidfdFlags::empty()).unwrap();
    let limit = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut refused = |what, outcome| attempts.push((what, NO_RIGHT, outcome));
    refused("list its descriptors", fs::read_dir(of("fd")).map(drop));
    for fd in 0..40 {
        let opened = open(of(&format!("fd/{fd}")), OFlags::RDONLY);
        refused("open one of its descriptors", opened.map(drop));
    }
    let taken = process::pidfd_getfd(&handle, 3, process::PidfdGetfdFlags::empty());
    refused(
        "take one of its descriptors",
        taken.map(drop).map_err(Into::into),
    );
    refused(
        "list its mappings' files",
        fs::read_dir(of("map_files")).map(drop),
    );
    refused("open its memory", open(of("mem"), OFlags::RDWR).map(drop));
    refused(
        "trace it",
        ptrace::seize(pid, ptrace::Options::empty()).map_err(Into::into),
    );
    refused("stop it", kill(pid, Signal::SIGSTOP).map_err(Into::into));
    refused("kill it", kill(pid, Signal::SIGKILL).map_err(Into::into));
    let limited = process::prlimit(Some(raw), Resource::Fsize, limit);
    refused("limit its files", limited.map(drop).map_err(Into::into));
    refused(
        "confine it",
        sched_setaffinity(pid, &CpuSet::new()).map_err(Into::into),
    );
    attempts
}
