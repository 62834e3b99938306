//! The file system side: names, checks, locks, limits, and the exchange at the path.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use rustix::process::{Resource, geteuid, getrlimit};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::WriteError;

/// CLOCK_BOOTTIME in ns: the time of heartbeats and expiries.
///
/// ```
/// let now = erlmcp_shm_writer::boottime_now();
/// assert!(erlmcp_shm_writer::boottime_now() >= now);
/// ```
pub fn boottime_now() -> u64 {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let clock = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(clock);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The 16 bytes of the running boot's id; zeros where the system has none.
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], Errno> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += getrandom(&mut bytes[filled..], GetRandomFlags::empty())?;
    }
    Ok(bytes)
}

/// What a file is known by: device and inode.
pub type FileId = (u64, u64);

/// The identity in a stat result.
pub fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev as _, stat.st_ino as _)
}

/// The identity of what the path names now, without following a link; `None` if nothing is there.
pub fn id_at(path: &Path) -> Result<Option<FileId>, Errno> {
    match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(file_id(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Bytes of an open file.
pub fn length(file: &File) -> Result<u64, Errno> {
    Ok(fs::fstat(file)?.st_size as u64)
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The name under which generation `generation` is built: nobody can guess it.
pub fn temporary_name(path: &Path, generation: u64) -> Result<PathBuf, Errno> {
    let random = u128::from_ne_bytes(random()?);
    Ok(suffixed(path, &format!(".{generation}.{random:032x}.tmp")))
}

/// Files beside the path that bear a temporary name of this store.
pub fn strays(path: &Path) -> Result<Vec<PathBuf>, Errno> {
    let io = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut stem = path.file_name().ok_or(Errno::ISDIR)?.to_os_string();
    stem.push(".");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let rest = name
            .as_encoded_bytes()
            .strip_prefix(stem.as_encoded_bytes());
        if rest.is_some_and(is_temporary_suffix) {
            found.push(folder.join(name));
        }
    }
    Ok(found)
}

/// `<decimal>.<32 hex digits>.tmp`
fn is_temporary_suffix(rest: &[u8]) -> bool {
    let Some(rest) = rest.strip_suffix(b".tmp") else {
        return false;
    };
    let Some(dot) = rest.iter().position(|b| *b == b'.') else {
        return false;
    };
    let (number, random) = (&rest[..dot], &rest[dot + 1..]);
    !number.is_empty()
        && number.iter().all(u8::is_ascii_digit)
        && random.len() == 32
        && random.iter().all(u8::is_ascii_hexdigit)
}

/// Opens what stands at a path, if it is a regular file of ours that nobody else may write.
/// `Ok(None)`: nothing is there.
pub fn open_own(path: &Path, extra: OFlags) -> Result<Option<(File, Stat)>, WriteError> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | extra;
    let file = match fs::open(path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => File::from(fd),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO | Errno::NODEV) => {
            return Err(WriteError::NotRegular);
        }
        Err(errno) => return Err(explain_refusal(path, errno)),
    };
    let stat = fs::fstat(&file)?;
    check_own(&stat)?;
    Ok(Some((file, stat)))
}

/// Why the system would not open what is at the path: most usefully, that it is somebody else's.
fn explain_refusal(path: &Path, errno: Errno) -> WriteError {
    match fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => check_own(&stat).err().unwrap_or(WriteError::Io(errno)),
        Err(_) => WriteError::Io(errno),
    }
}

fn check_own(stat: &Stat) -> Result<(), WriteError> {
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(WriteError::NotRegular);
    }
    if stat.st_uid != geteuid().as_raw() {
        return Err(WriteError::BadOwner);
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(WriteError::InsecureMode);
    }
    Ok(())
}

/// Makes a new file of exactly `size` allocated bytes, locked for us; nothing is left behind on failure.
pub fn create(path: &Path, size: u64, mode: u32) -> Result<File, WriteError> {
    // Growing past RLIMIT_FSIZE is a SIGXFSZ, which would end the process: ask first.
    if getrlimit(Resource::Fsize)
        .current
        .is_some_and(|limit| size > limit)
    {
        return Err(Errno::FBIG.into());
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(fs::open(path, flags, Mode::RUSR | Mode::WUSR)?);
    let filled = crate::limits::check_memory(&file, size).and_then(|()| {
        // Before anybody else may open it: who can read it could lock it first, and keep us from it.
        if !lock(&file, true)? {
            return Err(Errno::AGAIN);
        }
        // Not through open(2): the umask has no say.
        fs::fchmod(&file, Mode::from_raw_mode(mode as _))?;
        check_room(&file, size)?;
        allocate(&file, size)
    });
    if let Err(errno) = filled {
        let _ = fs::unlink(path);
        return Err(errno.into());
    }
    Ok(file)
}

/// ENOSPC if the file system has fewer bytes left: an attempt that fails half way would for a moment
/// leave nothing to its neighbours there.
fn check_room(file: &File, size: u64) -> Result<(), Errno> {
    let stat = fs::fstatvfs(file)?;
    let left = stat.f_bavail.saturating_mul(stat.f_frsize);
    // A tmpfs without a limit says that it has no blocks at all.
    if stat.f_blocks > 0 && size > left {
        return Err(Errno::NOSPC);
    }
    Ok(())
}

/// Allocates every page now: a full disk is an error here and never a SIGBUS at the first touch.
fn allocate(file: &File, size: u64) -> Result<(), Errno> {
    loop {
        match fs::fallocate(file, FallocateFlags::empty(), 0, size) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => return write_zeros(file, size),
            done => return done,
        }
    }
}

fn write_zeros(file: &File, size: u64) -> Result<(), Errno> {
    let zeros = vec![0; (1 << 20).min(size as usize)];
    let mut at = 0;
    while at < size {
        let rest = (size - at).min(zeros.len() as u64) as usize;
        match rustix::io::pwrite(file, &zeros[..rest], at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(n) => at += n as u64,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Puts `temporary` at `path`. If `old` is there it keeps a name (the one returned) until the caller unlinks
/// it, so that a crash leaves both. `PathLost` where anything else is, however late it came: it stays.
pub fn place(
    temporary: &Path,
    path: &Path,
    old: Option<FileId>,
) -> Result<Option<PathBuf>, WriteError> {
    let placed = match (id_at(path)?, old) {
        (None, _) => place_new(temporary, path).map(|()| None),
        (Some(found), Some(old)) if found == old => exchange(temporary, path, old).map(Some),
        _ => return Err(WriteError::PathLost),
    };
    placed.map_err(|errno| match errno {
        // Somebody was between the look and the call.
        Errno::EXIST | Errno::NOENT => WriteError::PathLost,
        errno => errno.into(),
    })
}

fn place_new(temporary: &Path, path: &Path) -> Result<(), Errno> {
    match fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {
            fs::link(temporary, path)?;
            fs::unlink(temporary)
        }
        done => done,
    }
}

/// EEXIST: not the old file was there, and what was is there again.
fn exchange(temporary: &Path, path: &Path, old: FileId) -> Result<PathBuf, Errno> {
    let exchange = || fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::EXCHANGE);
    match exchange() {
        Ok(()) if id_at(temporary)? == Some(old) => Ok(temporary.to_path_buf()),
        Ok(()) => exchange().and(Err(Errno::EXIST)),
        Err(Errno::INVAL | Errno::NOSYS) => {
            // No exchange here: give the old file a second name first. The name is a temporary one,
            // so a writer that finds it after a crash marks and unlinks it like any stray.
            let aside = temporary_name(path, 0)?;
            fs::link(path, &aside)?;
            if id_at(&aside)? != Some(old) {
                return fs::unlink(&aside).and(Err(Errno::EXIST));
            }
            fs::rename(temporary, path)?;
            Ok(aside)
        }
        Err(errno) => Err(errno),
    }
}

/// The writer's lock: an open-file-description lock on `PATH.lock`, which the kernel releases when
/// the last descriptor goes, however the process ends.
#[derive(Debug)]
pub struct LockFile {
    /// Held, not used: closing it releases the lock.
    _file: File,
    id: FileId,
}

impl LockFile {
    /// The name of the lock file.
    pub fn path_for(path: &Path) -> PathBuf {
        suffixed(path, ".lock")
    }

    /// Takes the lock, trying for `wait`.
    pub fn acquire(path: &Path, wait: Duration) -> Result<Self, WriteError> {
        // None: further off than any clock reaches.
        let deadline = Instant::now().checked_add(wait);
        loop {
            if let Some(lock) = Self::try_acquire(&Self::path_for(path))? {
                return Ok(lock);
            }
            let left = deadline.map_or(wait, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(WriteError::Locked);
            }
            std::thread::sleep(left.min(Duration::from_millis(10)));
        }
    }

    fn try_acquire(name: &Path) -> Result<Option<Self>, WriteError> {
        let Some((file, stat)) = open_own(name, OFlags::CREATE)? else {
            return Err(Errno::NOENT.into());
        };
        // Who can read it can lock it for reading, and would keep every writer away. (A file with more names
        // is something else besides, and not ours to close to others.)
        if stat.st_mode & 0o077 != 0 && stat.st_nlink == 1 {
            fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        }
        if !lock(&file, true)? {
            return Ok(None);
        }
        let id = file_id(&stat);
        // Somebody may have put another file there since we opened this one: then it is not the
        // lock that the next writer will ask.
        let lock = Self { _file: file, id };
        Ok(lock.is_at(name)?.then_some(lock))
    }

    fn is_at(&self, name: &Path) -> Result<bool, Errno> {
        Ok(id_at(name)? == Some(self.id))
    }

    /// Makes sure that the lock file at the path is the one held. Where somebody removed it, the one
    /// that is there now is taken; `PathLost` if another writer has that.
    pub fn hold_on(&mut self, path: &Path) -> Result<(), WriteError> {
        if !self.is_at(&Self::path_for(path))? {
            let again = Self::acquire(path, Duration::ZERO);
            *self = again.map_err(|_| WriteError::PathLost)?;
        }
        Ok(())
    }
}

/// Locks a whole file for this open description of it, or unlocks it; `false` if another one has it.
pub fn lock(file: &File, on: bool) -> Result<bool, Errno> {
    let kind = if on { libc::F_WRLCK } else { libc::F_UNLCK };
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&whole_file(kind as _))) {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

/// Whether another open description has the file locked for writing, which takes the right to write to
/// it. (Whoever may read it can lock it for reading, and would keep [`lock`] from succeeding for ever.)
pub fn is_locked_by_a_writer(file: &File) -> Result<bool, Errno> {
    let mut wanted = whole_file(libc::F_RDLCK as _);
    match fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut wanted)) {
        Ok(_) => Ok(wanted.l_type != libc::F_UNLCK as libc::c_short),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

fn whole_file(kind: libc::c_short) -> libc::flock {
    libc::flock {
        l_type: kind,
        l_whence: libc::SEEK_SET as _,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_temporary_names_are_strays() {
        assert!(is_temporary_suffix(
            b"12.0123456789abcdef0123456789abcdef.tmp"
        ));
        for other in [
            &b"lock"[..],
            b"tmp",
            b".tmp",
            b"12.0123.tmp",
            b"x.0123456789abcdef0123456789abcdef.tmp",
            b"12.0123456789abcdef0123456789abcdeg.tmp",
            b"12.0123456789abcdef0123456789abcdef.tm",
        ] {
            assert!(!is_temporary_suffix(other), "{other:?}");
        }
    }

    #[test]
    fn the_system_has_a_boot_id_and_randomness() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(random::<16>(), random::<16>());
    }
}
