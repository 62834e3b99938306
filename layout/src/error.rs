//! Why bytes are not a store.

/// What is wrong with a file that should be a store.
///
/// ```
/// use erlmcp_shm_layout::{FormatError, Header};
/// assert_eq!(Header::decode(b"too short", 9), Err(FormatError::NotAStore));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The magic is not there: some other file, or none of ours.
    #[error("not an erlmcp-shm store (the magic ERLMCP01 is missing): check the path")]
    NotAStore,
    /// A format this program does not know.
    #[error("format version {0} is not known here (this program reads 1): use a newer program")]
    Version(u32),
    /// Magic and version are right, and something else is not.
    #[error("the store is damaged ({0}): remove the file, and start its writer again")]
    Corrupt(&'static str),
    /// This machine cannot read the format at all.
    #[error("the format needs a little-endian 64-bit machine")]
    Unsupported,
}
