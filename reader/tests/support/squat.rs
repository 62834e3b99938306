// What somebody may have put where a store, or a file of its writer's, is to be. Shared by the tests of
// reader, writer and command.

use rustix::fs::{CWD, FileType, makedev, mknodat};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// A user that nobody here runs as.
pub const OTHER: u32 = 12_345;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Squat {
    Socket,
    Fifo,
    Device,
    Folder,
    LinkToNothing,
    LinkToText,
    LinkToStore,
    LinkToItself,
    OthersText,
    OthersFifo,
    OthersFolder,
    NameOfOthersText,
    WritableByGroup,
    WritableByAll,
    Text,
    NameOfText,
}
use Squat::*;

pub const ALL: [Squat; 16] = [
    Socket,
    Fifo,
    Device,
    Folder,
    LinkToNothing,
    LinkToText,
    LinkToStore,
    LinkToItself,
    OthersText,
    OthersFifo,
    OthersFolder,
    NameOfOthersText,
    WritableByGroup,
    WritableByAll,
    Text,
    NameOfText,
];

/// A folder that everybody may put something into, as /dev/shm is, and one with the files that links lead to.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir };
        fs::create_dir(place.folder()).unwrap();
        fs::set_permissions(place.folder(), Permissions::from_mode(0o1777)).unwrap();
        fs::create_dir(place.elsewhere("")).unwrap();
        for name in ["text", "others"] {
            fs::write(place.elsewhere(name), b"not a store").unwrap();
        }
        place
    }

    pub fn folder(&self) -> PathBuf {
        self.dir.path().join("shared")
    }

    pub fn store(&self) -> PathBuf {
        self.folder().join("store")
    }

    /// A file that something in the folder may lead to.
    pub fn elsewhere(&self, name: &str) -> PathBuf {
        self.dir.path().join("elsewhere").join(name)
    }

    /// Puts it at a path; `false` where only root could.
    #[must_use]
    pub fn squat(&self, squat: Squat, at: &Path) -> bool {
        let node = |kind, device| mknodat(CWD, at, kind, 0o600.into(), device);
        let write = |mode| {
            fs::write(at, b"not a store").unwrap();
            fs::set_permissions(at, Permissions::from_mode(mode)).unwrap();
        };
        let given_away = |at: &Path| chown(at, Some(OTHER), Some(OTHER)).is_ok();
        let made = match squat {
            Socket => {
                drop(UnixListener::bind(at).unwrap());
                true
            }
            Fifo => node(FileType::Fifo, 0).is_ok(),
            // As /dev/null.
            Device => node(FileType::CharacterDevice, makedev(1, 3)).is_ok(),
            Folder => fs::create_dir(at).is_ok(),
            LinkToNothing => symlink(self.elsewhere("nothing"), at).is_ok(),
            LinkToText => symlink(self.elsewhere("text"), at).is_ok(),
            LinkToStore => symlink(self.elsewhere("store"), at).is_ok(),
            LinkToItself => symlink(at, at).is_ok(),
            OthersText => {
                write(0o600);
                given_away(at)
            }
            OthersFifo => node(FileType::Fifo, 0).is_ok() && given_away(at),
            OthersFolder => fs::create_dir(at).is_ok() && given_away(at),
            NameOfOthersText => {
                fs::hard_link(self.elsewhere("others"), at).unwrap();
                given_away(at)
            }
            WritableByGroup => {
                write(0o660);
                true
            }
            WritableByAll => {
                write(0o666);
                true
            }
            Text => {
                write(0o600);
                true
            }
            NameOfText => fs::hard_link(self.elsewhere("text"), at).is_ok(),
        };
        if !made {
            remove(at);
            println!("SKIPPED: only root can make this: {squat:?}");
        }
        made
    }

    /// Everything in the folder but what is named, and everything that links lead to.
    pub fn seen(&self, except: &[&Path]) -> Vec<Seen> {
        let mut seen: Vec<_> = [self.folder(), self.elsewhere("")]
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap())
            .map(|name| name.unwrap().path())
            .filter(|path| !except.contains(&path.as_path()))
            .map(|path| Seen::of(&path))
            .collect();
        seen.sort();
        seen
    }
}

/// Takes away what was put there.
pub fn remove(at: &Path) {
    if fs::remove_file(at).is_err() {
        let _ = fs::remove_dir(at);
    }
}

/// What shows from outside whether a file is still what it was.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    path: PathBuf,
    inode: u64,
    owner: u32,
    mode: u32,
    names: u64,
    content: Vec<u8>,
}

impl Seen {
    pub fn of(path: &Path) -> Self {
        let meta = fs::symlink_metadata(path).unwrap();
        let content = meta.is_file().then(|| fs::read(path).unwrap());
        Self {
            path: path.into(),
            inode: meta.ino(),
            owner: meta.uid(),
            mode: meta.mode(),
            names: meta.nlink(),
            content: content.unwrap_or_default(),
        }
    }
}

/// Ends the process of the tests, with a word why, unless it is dropped within a minute: what opens a FIFO
/// could wait for ever.
pub struct Watchdog(#[allow(dead_code, reason = "it is dropped")] Sender<()>);

impl Watchdog {
    pub fn new(what: String) -> Self {
        let (held, dropped) = channel();
        std::thread::spawn(move || {
            if dropped.recv_timeout(Duration::from_secs(60)) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what}: it hangs");
                std::process::abort();
            }
        });
        Self(held)
    }
}
