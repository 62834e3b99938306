//! A folder's files: which there are, and their bytes.
//!
//! No link leads out of the folder, whoever changes it meanwhile: every file is opened from the folder's own
//! descriptor, by a call with which the kernel itself refuses to leave it (`openat2` with `RESOLVE_BENEATH`). Links to
//! files within the folder are followed. Where there is no such call, no link is.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often a file that changes while it is read is read again.
const TRIES: u32 = 3;
/// Times of files are this coarse on some file systems: what was written so lately may be written again without any
/// of them changing.
const COARSE: Duration = Duration::from_secs(2);

/// What changes with a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    id: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

#[allow(
    clippy::unnecessary_cast,
    reason = "the types differ from system to system"
)]
impl Stamp {
    fn of(stat: &Stat) -> Self {
        Self {
            id: (stat.st_dev as u64, stat.st_ino as u64),
            size: stat.st_size as u64,
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether a change from now on must show in the stamp.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs() as i64;
        [self.modified, self.changed]
            .iter()
            .all(|time| time.0 + (COARSE.as_secs() as i64) < now)
    }
}

/// Which names are passed by.
#[derive(Debug, Default)]
pub struct Rules {
    /// Files and folders whose names begin with a dot are published too.
    pub hidden: bool,
    /// The store itself, where it lies in the folder: its place there. What is named after it is its writer's.
    pub store: Option<PathBuf>,
}

/// What there is in a folder.
#[derive(Debug, Default)]
pub struct Listing {
    pub files: Vec<(PathBuf, Stamp)>,
    /// What is no file to publish, and what it is instead.
    pub skipped: Vec<(PathBuf, &'static str)>,
    /// What could not be looked at.
    pub failed: Vec<(PathBuf, Errno)>,
}

impl Listing {
    /// Whether what is not among the files is not there.
    pub fn is_whole(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Why there are no bytes of a file.
#[derive(Debug)]
pub enum Trouble {
    /// Removed since it was listed.
    Gone,
    /// So many bytes.
    TooLarge(u64),
    /// Written to all the while.
    Changing,
    System(io::Error),
}

impl From<Errno> for Trouble {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR => Trouble::Gone,
            errno => Trouble::System(errno.into()),
        }
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, path, flags, Mode::empty())?;
        Ok(Self { root })
    }

    /// Which folder it is, whatever its path names by now.
    pub fn id(&self) -> Result<(u64, u64), Errno> {
        Ok(Stamp::of(&fstat(&self.root)?).id)
    }

    /// Everything in it, in no particular order. An error is one of the folder itself.
    pub fn list(&self, rules: &Rules) -> Result<Listing, Errno> {
        let (mut listing, mut folders) = (Listing::default(), Vec::new());
        self.look_into(Path::new("."), rules, &mut listing, &mut folders)?;
        while let Some(folder) = folders.pop() {
            match self.look_into(&folder, rules, &mut listing, &mut folders) {
                // Removed since.
                Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => listing.failed.push((folder, errno)),
            }
        }
        Ok(listing)
    }

    fn look_into(
        &self,
        folder: &Path,
        rules: &Rules,
        listing: &mut Listing,
        folders: &mut Vec<PathBuf>,
    ) -> Result<(), Errno> {
        let opened = self.open_beneath(folder, OFlags::DIRECTORY)?;
        for entry in Dir::read_from(&opened)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." || (!rules.hidden && name.as_bytes()[0] == b'.') {
                continue;
            }
            let path = folder.strip_prefix(".").unwrap_or(folder).join(name);
            if rules
                .store
                .as_deref()
                .is_some_and(|store| is_named_after(&path, store))
            {
                continue;
            }
            let stat = match statat(&opened, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    listing.failed.push((path, errno));
                    continue;
                }
            };
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => folders.push(path),
                FileType::RegularFile => listing.files.push((path, Stamp::of(&stat))),
                FileType::Symlink => self.list_link(path, listing),
                _ => listing.skipped.push((path, "neither a file nor a folder")),
            }
        }
        Ok(())
    }

    fn list_link(&self, path: PathBuf, listing: &mut Listing) {
        let found = self.open_beneath(&path, OFlags::NONBLOCK).and_then(fstat);
        let what = match found {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile => return listing.files.push((path, Stamp::of(&stat))),
                FileType::Directory => "a link to a folder",
                _ => "a link to what is no file",
            },
            Err(Errno::XDEV) => "a link that leads out of the folder",
            Err(Errno::NOENT | Errno::NOTDIR) => "a link to nothing",
            Err(Errno::LOOP) => "a link that cannot be followed",
            Err(errno) => return listing.failed.push((path, errno)),
        };
        listing.skipped.push((path, what));
    }

    /// The bytes of a file, all of one moment as far as its times can tell; and what it must look like to have the
    /// same ones still, if that can be told by looking.
    pub fn read(&self, path: &Path, at_most: u64) -> Result<(Vec<u8>, Option<Stamp>), Trouble> {
        for _ in 0..TRIES {
            let mut file = File::from(self.open_beneath(path, OFlags::NONBLOCK)?);
            let before = fstat(&file)?;
            if FileType::from_raw_mode(before.st_mode) != FileType::RegularFile {
                return Err(Trouble::Gone);
            }
            let before = Stamp::of(&before);
            let too_large = Trouble::TooLarge(before.size);
            if before.size > at_most {
                return Err(too_large);
            }
            let mut data = Vec::with_capacity(before.size as usize);
            let read = file.by_ref().take(at_most + 1).read_to_end(&mut data);
            read.map_err(Trouble::System)?;
            let after = Stamp::of(&fstat(&file)?);
            if before == after {
                return match data.len() as u64 {
                    // Files that the kernel makes up say 0, whatever is in them.
                    length if length > at_most => Err(Trouble::TooLarge(length)),
                    _ => Ok((data, Some(after).filter(Stamp::is_settled))),
                };
            }
        }
        Err(Trouble::Changing)
    }

    fn open_beneath(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        #[cfg(target_os = "linux")]
        {
            use rustix::fs::{ResolveFlags, openat2};
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..64 {
                match openat2(&self.root, path, flags, Mode::empty(), resolve) {
                    // Something was renamed on the way.
                    Err(Errno::AGAIN) => {}
                    // An old kernel, or a sandbox that does not know the call.
                    Err(Errno::NOSYS | Errno::PERM) => return self.open_stepwise(path, flags),
                    answer => return answer,
                }
            }
            Err(Errno::AGAIN)
        }
        #[cfg(not(target_os = "linux"))]
        self.open_stepwise(path, flags)
    }

    /// Folder by folder, none of which may be a link.
    fn open_stepwise(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at: Option<OwnedFd> = None;
        let mut parts = path.iter().peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_some() {
                folder
            } else {
                flags
            };
            let from = at.as_ref().unwrap_or(&self.root).as_fd();
            at = Some(openat(from, part, flags | OFlags::NOFOLLOW, Mode::empty())?);
        }
        at.ok_or(Errno::NOENT)
    }
}

/// Whether a path is the store's, or of one of the files beside it: `STORE.lock`, `STORE.1.….tmp`.
fn is_named_after(path: &Path, store: &Path) -> bool {
    let suffix = |name: &OsStr, of: &OsStr| {
        let rest = name.as_bytes().strip_prefix(of.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
    };
    let (name, of): (Option<&OsStr>, Option<&OsStr>) = (path.file_name(), store.file_name());
    path.parent() == store.parent() && name.zip(of).is_some_and(|(name, of)| suffix(name, of))
}

/// Where the store lies in the folder, if it does.
pub fn place_within(folder: &Path, store: &Path) -> Option<PathBuf> {
    let name: OsString = store.file_name()?.into();
    let beside = std::path::absolute(store)
        .ok()?
        .parent()?
        .canonicalize()
        .ok()?;
    let within = beside.strip_prefix(folder.canonicalize().ok()?).ok()?;
    Some(within.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn tree(dir: &Path) -> Tree {
        Tree::open(dir).unwrap()
    }

    #[test]
    fn without_openat2_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), "x").unwrap();
        symlink("a/b/file", dir.path().join("link")).unwrap();
        symlink("a", dir.path().join("folder")).unwrap();
        let tree = tree(dir.path());
        let open =
            |path: &str| tree.open_stepwise(Path::new(path), OFlags::RDONLY | OFlags::CLOEXEC);
        assert!(open("a/b/file").is_ok());
        assert_eq!(open("link").err(), Some(Errno::LOOP));
        assert!(matches!(
            open("folder/b/file"),
            Err(Errno::LOOP | Errno::NOTDIR)
        ));
        assert!(open(".").is_ok());
    }

    #[test]
    fn what_is_written_this_moment_has_no_stamp_yet() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("new"), "x").unwrap();
        let old = File::create(dir.path().join("old")).unwrap();
        old.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
        let tree = tree(dir.path());
        assert!(tree.read(Path::new("new"), 9).unwrap().1.is_none());
        // Its modification is long ago, and the change of its times is not.
        assert!(tree.read(Path::new("old"), 9).unwrap().1.is_none());
    }

    #[test]
    fn the_stores_own_files() {
        let store = Path::new("a/x.bin");
        for own in ["a/x.bin", "a/x.bin.lock", "a/x.bin.12.ab.tmp"] {
            assert!(is_named_after(Path::new(own), store), "{own}");
        }
        for other in ["x.bin", "a/x.binary", "b/x.bin", "a/y"] {
            assert!(!is_named_after(Path::new(other), store), "{other}");
        }
    }
}
