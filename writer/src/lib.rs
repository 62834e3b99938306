//! The single writer of an erlmcp-shm store.
//!
//! A store is one memory-mapped file that any number of processes read without locks while one
//! [`Writer`] publishes into it. This crate appends, publishes, rolls over to the next generation,
//! and recovers what an earlier writer left; `erlmcp-shm-reader` is the other side, and
//! `erlmcp-shm-layout` describes the file.
//!
//! ```
//! use erlmcp_shm_writer::{Kind, Writer};
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("export.bin");
//!
//! let writer = Writer::options().size(1 << 20).open(&path)?;
//! writer.put(Kind::Resource, b"file:///motd", b"hello", b"{}")?; // readers see it from here on
//! writer.delete(Kind::Resource, b"file:///motd")?;
//! writer.flush()?;                                               // wake those who wait
//! writer.close();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Guarantees
//!
//! * A put is visible to every reader when it returns, whole or not at all.
//! * Published bytes are never written again while their generation is mapped anywhere.
//! * However the process ends, opening the path again brings back every entry whose put had
//!   returned. (The process, not the machine: nothing is synced to a disk.)
//! * One writer a path, by a lock that the kernel releases when the process dies.
//! * A put that fails leaves everything published before readable. Deletes do not fail for want of
//!   room: the log always keeps room for a tombstone of every live key.
//!
//! # Trade-offs
//!
//! Space for time: a rollover needs room for two generations, and the live records may take up to
//! half of `max_size`. A reader that holds an old generation mapped keeps its pages in memory.
//!
//! # Threads
//!
//! A writer has one thread of its own, which builds the next generation while puts go on and unmaps
//! old ones. [`Writer::heartbeat`] and [`Writer::flush`] are the caller's to call, about every 100
//! ms: who stops calling them is who has stopped.

#![deny(unsafe_code)]

#[cfg(not(any(target_os = "linux", target_os = "android")))]
compile_error!(
    "erlmcp-shm-writer needs Linux: locks of open files, an exchange of two names, a futex. (erlmcp-shm-reader does not.)"
);

mod batch;
mod build;
mod error;
#[cfg(feature = "test-panic")]
pub mod fault;
#[cfg(not(feature = "test-panic"))]
mod fault {
    /// Nothing, but in a test build.
    #[inline(always)]
    pub fn point() {}
}
mod figures;
mod generation;
mod hints;
mod limits;
mod open;
mod options;
mod recovery;
#[allow(unsafe_code)]
mod region;
mod shared;
mod sizing;
mod state;
mod sys;
mod writer;

pub use erlmcp_shm_layout::{Attributes, Kind, Scope, Stats};
pub use error::{BatchError, WriteError};
pub use figures::{Phase, WriterStats};
pub use options::{Options, Recover};
pub use state::Op;
pub use sys::boottime_now;
pub use writer::{Attempt, Writer};
