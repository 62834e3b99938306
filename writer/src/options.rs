//! How a store is opened.

use std::path::Path;
use std::time::Duration;

use erlmcp_shm_layout::{MAX_FILE_SIZE, MIN_FILE_SIZE};

use crate::sizing::Limits;
use crate::{WriteError, Writer};

/// What to do with the entries that an earlier writer left.
///
/// ```
/// assert_eq!(erlmcp_shm_writer::Recover::default(), erlmcp_shm_writer::Recover::Keep);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recover {
    /// Every entry whose put had returned is there again.
    #[default]
    Keep,
    /// Start empty, under a new store id; versions go on rising.
    Clear,
}

/// Options of [`Writer`], made by [`Writer::options`].
///
/// ```
/// use erlmcp_shm_writer::{Recover, Writer};
/// use std::time::Duration;
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("export.bin");
/// let writer = Writer::options()
///     .size(1 << 20)                       // bytes of the first generation
///     .max_size(64 << 20)                  // bytes of any generation
///     .mode(0o644)                         // other users may read
///     .recover(Recover::Keep)
///     .lock_wait(Duration::from_secs(5))   // an old writer may still be going away
///     .open(&path)?;
/// assert_eq!(std::fs::metadata(&path)?.len(), 1 << 20);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) size: u64,
    max_size: Option<u64>,
    pub(crate) mode: u32,
    pub(crate) recover: Recover,
    pub(crate) lock_wait: Duration,
    pub(crate) heartbeat_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: 10 << 20,
            max_size: None,
            mode: 0o600,
            recover: Recover::Keep,
            lock_wait: Duration::ZERO,
            heartbeat_interval: Duration::from_millis(100),
        }
    }
}

impl Options {
    /// Bytes of the first generation, allocated in full; the file is exactly this long. At least
    /// 8192. Default 10 MiB.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Bytes that one generation may grow to. A rollover needs room for two. Default 8 x `size`.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    /// Permissions of the file, whatever the umask; nobody but the owner may write. Default 0600.
    ///
    /// Each generation is a new file, and so is its group: 0640 is for a folder that hands its own group on
    /// (`chmod g+s`).
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// What becomes of the entries that are there. Default [`Recover::Keep`].
    pub fn recover(mut self, recover: Recover) -> Self {
        self.recover = recover;
        self
    }

    /// How long to wait for another writer to let go. Default: not at all.
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// How often [`Writer::heartbeat`] is going to be called; readers call the writer stale after
    /// ten of them. Default 100 ms.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.heartbeat_interval = interval;
        self
    }

    /// Opens the store at `path`, making it if nothing is there.
    ///
    /// # Errors
    /// [`WriteError::Locked`] while another writer lives; [`WriteError::BadOwner`],
    /// [`NotRegular`](WriteError::NotRegular), [`InsecureMode`](WriteError::InsecureMode),
    /// [`NotAStore`](WriteError::NotAStore), [`Corrupt`](WriteError::Corrupt),
    /// [`Version`](WriteError::Version) for what is at the path; [`WriteError::PathLost`] for what came there
    /// meanwhile; [`WriteError::Io`] from the system (ENOSPC when the disk has no room for the file);
    /// [`WriteError::BadOption`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Writer, WriteError> {
        Writer::open(path.as_ref(), &self)
    }

    pub(crate) fn limits(&self) -> Result<Limits, WriteError> {
        let sizes = MIN_FILE_SIZE..=MAX_FILE_SIZE / 2;
        if !sizes.contains(&self.size) {
            return Err(WriteError::BadOption("size"));
        }
        let max_size = self.max_size.unwrap_or(self.size.saturating_mul(8));
        if !sizes.contains(&max_size) || max_size < self.size {
            return Err(WriteError::BadOption("max_size"));
        }
        if self.mode & !0o755 != 0 || self.mode & 0o600 != 0o600 {
            return Err(WriteError::BadOption("mode"));
        }
        Ok(Limits {
            size: self.size,
            max_size,
        })
    }
}
