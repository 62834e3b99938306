//! Why a store cannot be opened or written.

use erlmcp_shm_layout::FormatError;
use rustix::io::Errno;

/// Everything that can go wrong on the writing side. What was published before stays readable.
///
/// ```
/// use erlmcp_shm_writer::{Kind, WriteError, Writer};
/// # let dir = tempfile::tempdir()?;
/// let writer = Writer::options().open(dir.path().join("store"))?;
/// assert_eq!(writer.put(Kind::Resource, b"", b"x", b"{}"), Err(WriteError::EmptyKey));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A key of 0 bytes.
    #[error("the key is empty: give it at least one byte")]
    EmptyKey,
    /// A key of more than 65535 bytes.
    #[error("the key is longer than 65535 bytes: shorten it")]
    KeyTooLarge,
    /// Data or metadata of more than 4 GiB - 1, or more than a store of `max_size` could ever hold,
    /// which is a little less than half of it.
    #[error("the value is larger than 4 GiB - 1 or than half of max_size: raise that or split it")]
    TooLarge,
    /// The live entries would need more than `max_size` allows, even when compacted.
    #[error("the store is full at its max_size: raise max_size or delete entries")]
    NoSpace,
    /// Another writer holds the store.
    #[error("another writer has this store open: stop it, or wait for it (lock_wait)")]
    Locked,
    /// The file or lock at the path belongs to another user.
    #[error("the file at the path belongs to another user: use a folder that you own")]
    BadOwner,
    /// A link, a folder, a FIFO or a device at the path.
    #[error("what is at the path is not a regular file: remove it or use another path")]
    NotRegular,
    /// Group or others may write the file.
    #[error("the file at the path is writable by others: chmod go-w, or remove it")]
    InsecureMode,
    /// The file at the path is something else.
    #[error("the file at the path is not an erlmcp-shm store: remove it or use another path")]
    NotAStore,
    /// The header of the file at the path contradicts itself.
    #[error("the store at the path is damaged ({0}): open it with recover = clear, or remove it")]
    Corrupt(&'static str),
    /// The file at the path has another format version.
    #[error("the store at the path has format version {0}, which this program does not know")]
    Version(u32),
    /// This machine cannot hold the format.
    #[error("the format needs a little-endian 64-bit machine")]
    Unsupported,
    /// Somebody removed or replaced the file at the path, or took the lock file away.
    #[error("the path does not name this writer's file any more: somebody removed or replaced it")]
    PathLost,
    /// The writer was closed.
    #[error("the writer is closed: open the store again")]
    Closed,
    /// A panic interrupted an earlier operation.
    #[error("an earlier operation panicked half way: open the store again")]
    Failed,
    /// An option has a value that makes no store.
    #[error("bad value of the option {0}")]
    BadOption(&'static str),
    /// The system said no: a full disk, a limit, missing rights.
    #[error("the system refused: {0}")]
    Io(Errno),
}

impl WriteError {
    /// Whether a smaller file might have been made.
    pub(crate) fn is_no_room(&self) -> bool {
        let Self::Io(errno) = self else { return false };
        matches!(
            *errno,
            Errno::NOSPC | Errno::DQUOT | Errno::NOMEM | Errno::FBIG
        )
    }
}

impl From<Errno> for WriteError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno)
    }
}

impl From<FormatError> for WriteError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::NotAStore => Self::NotAStore,
            FormatError::Version(found) => Self::Version(found),
            FormatError::Corrupt(what) => Self::Corrupt(what),
            _ => Self::Unsupported,
        }
    }
}

/// Which operation of a batch failed, and why.
///
/// Where `error` came from checking, nothing of the batch was written; on `NoSpace` and on errors of
/// the system the operations before `index` were.
///
/// ```
/// use erlmcp_shm_writer::{BatchError, WriteError};
/// let e = BatchError { index: 3, error: WriteError::EmptyKey };
/// assert_eq!(e.to_string(), "operation 3: the key is empty: give it at least one byte");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operation {index}: {error}")]
pub struct BatchError {
    /// Position in the batch, from 0.
    pub index: usize,
    /// What happened there.
    pub error: WriteError,
}
