//! Lookups in an erlmcp-shm store, from any process: no lock, no copy, no system call.
//!
//! A store is a file in shared memory that one writer (an Erlang node, as a rule) publishes MCP
//! resources, tool schemas, prompts and capabilities into. This crate maps it read-only and looks
//! keys up, at the cost of two cache misses. It registers nowhere and writes nothing, so no reader
//! can disturb the writer or another reader, whatever happens to it.
//!
//! ```
//! # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
//! # let store = support::doc_store();
//! use erlmcp_shm_reader::{Kind, Reader};
//!
//! let shm = Reader::open(store.path())?;             // Clone, Send, Sync: one for the program
//! let view = shm.view()?;                            // the current generation, pinned
//! if let Some(entry) = view.get(Kind::Resource, "file:///hello.txt")? {
//!     assert_eq!(entry.data(), b"hello");            // borrowed from the mapping
//! }
//! for entry in view.iter() {
//!     println!("{entry:?}");
//! }
//! // Owned, and yet not copied.
//! let schema = shm.get_bytes(Kind::ToolSchema, "search")?;
//! # assert_eq!(schema.unwrap(), r#"{"type":"object"}"#);
//! # Ok::<(), erlmcp_shm_reader::ReadError>(())
//! ```
//!
//! # Which call for what
//!
//! | to | call | costs |
//! |---|---|---|
//! | look up now and then | [`Reader::view`], [`View::get`] | a view is two atomic read-modify-writes |
//! | look up in a loop | one view, [`View::refresh`] before each `get` | two loads more than the `get` |
//! | look up many keys | [`View::get_many`] | their cache misses overlap |
//! | keep a big value | [`Reader::get_bytes`], [`Entry::to_bytes`] | one allocation; pins the generation |
//! | keep a small value | `entry.data().to_vec()` | the copy |
//! | walk over everything | [`View::iter`] | a pass over the index |
//! | hear of changes | [`Reader::wait_for_change`] | a thread that sleeps |
//! | check every byte | [`View::verify`] | a pass over the whole file |
//!
//! # Consistency
//!
//! * **Whole or not at all.** A lookup answers one published value with its metadata and version.
//!   A writer that is stopped or killed in the midst of a publish leaves the value before.
//! * **Fresh.** A put that returned before [`Reader::view`] was called is in that view, and one that
//!   returned before [`View::get`] was called is found by it, as long as the view is current.
//! * **Immutable.** What an [`Entry`] borrows never changes, however long it is held. A value that is
//!   replaced or deleted meanwhile stays readable where it is held.
//! * **No going back.** Versions rise with every publish in the whole store. Two lookups of a key by
//!   the same thread, through current views, never meet the older version second.
//! * **Not a snapshot.** A view sees each publish as it happens; two lookups through the same view
//!   may straddle one. Entries of a batch appear one by one.
//! * **Expired entries are found.** A lookup reads no clock: ask [`Entry::is_expired`].
//! * **Errors, never old data.** When the generation was superseded and the next one cannot be
//!   opened, that is the answer: [`ReadError::Detached`] where the path shows nothing newer (a
//!   single file bind-mounted into a container, say), else what [`Reader::open`] would say.
//!
//! # How a switch is followed
//!
//! When its file is full, the writer builds the next generation in a new file, renames that to the
//! path, and marks the old file as superseded. The next [`Reader::view`] sees the mark (a relaxed
//! load of a line that is written once in its life), opens the path again with every check, and
//! goes on with the new file. Views that are held stay on the old one, frozen, and keep it mapped.
//!
//! What no mark tells is that someone unlinked the file and another store took its path. For that
//! a **watcher**, one thread a process, looks at the path every `refresh_interval`. It is also the one to
//! unmap generations that nobody uses any more, so that neither a lookup nor a destructor ever does
//! (a big file takes 100 ms and more). See [`Options::watcher`] for life without it.
//!
//! A new store starts its change counter anew; the counter that this crate shows,
//! [`Reader::changes`], goes on rising all the same.
//!
//! # Whom a reader trusts
//!
//! The owner of the file, and nobody else. [`Reader::open`] refuses a file that another user owns
//! (but for [`Options::trust_owner`]), that others than its owner may write to, or that is no regular
//! file; it follows no link. Of the content nothing is trusted: any file whatever gives data or a typed
//! error, never a panic, an endless loop or a read outside the mapping.
//!
//! Two promises end where the owner breaks the format's rules, because a mapping cannot keep them:
//!
//! * if the owner **truncates** the file, touching what is gone is a SIGBUS, which ends the process
//!   unless it handles it;
//! * if the owner **rewrites** published bytes, what an entry borrows changes under the borrower.
//!
//! The writer of this project does neither. A reader that cannot rely on it opens with
//! [`Options::pread`]: the same answers by system calls and copies, with every record's checksum
//! verified, some microseconds each. Damage is then an error, and never a signal.
//!
//! # Trade-offs
//!
//! * A view, or a `Bytes`, pins a whole generation: while it lives, the kernel keeps that file's
//!   pages. [`StoreStats::pinned_bytes`] tells how much a process holds. Threads that fall idle
//!   should drop their views.
//! * No checksum on a lookup: memory is trusted, the disk is not involved. [`View::verify`] and
//!   [`Options::pread`] check.
//! * The first lookup after a switch opens and maps a file: tens of microseconds, and page faults
//!   after it. The watcher may be faster and spare an idle reader's next lookup that.
//! * The mapping begins on a multiple of 2 MiB, so that a generation whose pages the writer had
//!   collapsed to huge ones is mapped by huge ones; [`StoreStats::huge_page_bytes`] tells.
//! * Linux is what it is made for. Elsewhere waiting polls, nobody knows whether the writer's lock is
//!   held, and times are those of the monotonic clock.
//! * A process that forks without exec has no watcher in the child.
//!
//! # Orderings
//!
//! The protocol of slots and statistics is that of
//! [`erlmcp_shm_layout::latch`]; this crate adds no store to shared memory, and in
//! its own process nothing but the swap of an `Arc` and flags that carry no data.

#![deny(unsafe_code)]

mod entry;
mod error;
mod follow;
mod generation;
mod iter;
#[cfg(feature = "l1")]
pub mod l1;
mod liveness;
#[allow(unsafe_code)]
mod map;
mod open;
mod options;
mod pread;
mod reader;
mod stats;
mod sys;
mod verify;
mod view;
mod wait;
mod watcher;

pub use bytes::Bytes;
pub use entry::Entry;
pub use erlmcp_shm_layout::{Kind, Scope, State, UnknownKind};
pub use error::ReadError;
pub use iter::{Iter, TryIter};
pub use liveness::{Liveness, STALE_AFTER, Verdict};
pub use options::Options;
pub use reader::Reader;
pub use stats::StoreStats;
pub use verify::{Damage, Verification};
pub use view::View;
