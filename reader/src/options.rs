//! How to open a store.

use crate::{ReadError, Reader};
use std::path::Path;
use std::time::Duration;

/// How to open a store; made by [`Reader::options`].
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::Reader;
/// use std::time::Duration;
///
/// let shm = Reader::options()
///     .refresh_interval(Duration::from_millis(20))
///     .allow_absent(true)
///     .open(store.path())?;
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) refresh_interval: Duration,
    pub(crate) watcher: bool,
    pub(crate) allow_absent: bool,
    pub(crate) trust_owner: Option<u32>,
    pub(crate) prefault: bool,
    pub(crate) pread: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            refresh_interval: Duration::from_millis(100),
            watcher: true,
            allow_absent: false,
            trust_owner: None,
            prefault: false,
            pread: false,
        }
    }
}

impl Options {
    /// How often the watcher looks at the path, and how often a detached reader looks again
    /// (100 ms; at least 1 ms).
    pub fn refresh_interval(mut self, interval: Duration) -> Self {
        self.refresh_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// Whether the process's watcher thread serves this reader (true).
    ///
    /// Without it a switch is still followed at once, by whoever looks up next; what goes
    /// unnoticed until a [`Reader::wait_for_change`] or a new open is a file that another store
    /// replaced without the old one having been marked. Old generations are then unmapped where
    /// their last user lets go of them: in the lookup that follows a switch, or in the destructor
    /// of a `View` or `Bytes`, which takes 100 ms and more for a big file.
    pub fn watcher(mut self, on: bool) -> Self {
        self.watcher = on;
        self
    }

    /// Whether `open` succeeds where there is no file yet (false).
    ///
    /// Until there is one, [`Reader::view`] answers [`ReadError::NotFound`], at the cost of an
    /// attempt to open it, so that the first lookup after the writer's start finds it.
    pub fn allow_absent(mut self, on: bool) -> Self {
        self.allow_absent = on;
        self
    }

    /// Accepts files of this user too, not only of the effective one.
    ///
    /// The owner of the file can feed this process any bytes, and can kill it by truncating the
    /// file unless [`pread`](Self::pread) is on.
    pub fn trust_owner(mut self, uid: u32) -> Self {
        self.trust_owner = Some(uid);
        self
    }

    /// Whether to map every used page when the store is opened rather than at first touch (false). The
    /// watcher does the same for the generations that follow; no lookup waits for it.
    pub fn prefault(mut self, on: bool) -> Self {
        self.prefault = on;
        self
    }

    /// Whether to read by system calls into memory of our own instead of mapping (false).
    ///
    /// Each lookup takes a few system calls, copies the record and verifies its checksum; a file
    /// that its owner truncates or rewrites gives an error and never a signal.
    pub fn pread(mut self, on: bool) -> Self {
        self.pread = on;
        self
    }

    /// Opens the store at `path`.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Reader, ReadError> {
        Reader::with(path.as_ref(), self)
    }
}
