//! Why a store cannot be read.

use erlmcp_shm_layout::{Contended, FormatError};
use rustix::io::Errno;

/// What can go wrong when a store is opened or read. Absence of a key is not among it.
///
/// ```
/// use erlmcp_shm_reader::{ReadError, Reader};
/// let error = Reader::open("/nonexistent/store.bin").unwrap_err();
/// assert_eq!(error, ReadError::NotFound);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no file at the path.
    #[error("no store at the path: start its writer, or open with allow_absent")]
    NotFound,
    /// The file belongs to another user.
    #[error("the file belongs to another user: check the path, or name its owner to trust_owner")]
    BadOwner,
    /// A symbolic link, a folder, a FIFO, a device or a socket stands at the path.
    #[error("not a regular file (links are not followed): give the path of the file itself")]
    NotRegular,
    /// The file's group or others may write to it.
    #[error("the file is writable by others than its owner: chmod go-w it, or check who made it")]
    InsecureMode,
    /// The magic is not there.
    #[error("not an erlmcp-shm store (the magic ERLMCP01 is missing): check the path")]
    NotAStore,
    /// Magic and version are right, and something else is not.
    #[error("the store is damaged ({0}): verify it, and restart its writer")]
    Corrupt(&'static str),
    /// A format this program does not know.
    #[error("format version {0} is not known here (this program reads 1): use a newer program")]
    Version(u32),
    /// This machine cannot read the format at all.
    #[error("the format needs a little-endian 64-bit machine")]
    Unsupported,
    /// Our generation was superseded, and no newer one is to be found at the path.
    #[error(
        "the store has moved on and the path does not show its newer file: \
         bind-mount its folder, not the file"
    )]
    Detached,
    /// The writer published the same entry during each of a lookup's tries.
    #[error("the entry changed during each of many tries to read it: try again")]
    Contended,
    /// A system call failed.
    #[error("the system says: {0}")]
    Io(Errno),
}

impl From<FormatError> for ReadError {
    fn from(error: FormatError) -> Self {
        match error {
            FormatError::NotAStore => ReadError::NotAStore,
            FormatError::Version(found) => ReadError::Version(found),
            FormatError::Corrupt(what) => ReadError::Corrupt(what),
            FormatError::Unsupported => ReadError::Unsupported,
            _ => ReadError::Corrupt("header"),
        }
    }
}

impl From<Contended> for ReadError {
    fn from(_: Contended) -> Self {
        ReadError::Contended
    }
}

impl From<Errno> for ReadError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::NOENT | Errno::NOTDIR => ReadError::NotFound,
            error => ReadError::Io(error),
        }
    }
}

impl From<std::io::Error> for ReadError {
    fn from(error: std::io::Error) -> Self {
        Errno::from_io_error(&error).map_or(ReadError::Io(Errno::IO), ReadError::from)
    }
}
