//! # The file format of erlmcp-shm, version 1
//!
//! One file is one **generation** of a store: a header, a slot index, and an append-only log. The
//! one writer appends records and publishes slots; readers map the file read-only and never write.
//! A published record is immutable for as long as its generation lives. When log or index run out,
//! the writer puts a new file with the live records in its place and marks the old one superseded.
//! The format needs a little-endian 64-bit machine.
//!
//! ```text
//!      0 +----------------------------------------------------------------------+
//!        | magic "ERLMCP01"      8 | version u32       4 | entry count u32    4  |
//!     16 | header length u32     4 | slot length u32   4 | file size u64      8  |
//!     32 | generation u64        8 | hash seed u64                            8  |
//!     48 | store id                                                          16  |
//!     64 | index offset u64      8 | slot count u64                           8  |
//!     80 | log offset u64        8 | log end u64                              8  |
//!     96 | created u64           8 | boot id, first half                      8  |
//!    112 | boot id, second half  8 | header checksum u64                      8  |
//!    128 +----------------------------------------------------------------------+
//!        | state u64 ........................................... rest reserved   |
//!    192 +----------------------------------------------------------------------+
//!        | change counter u64 (its first 4 bytes: the futex) ... rest reserved   |
//!    256 +----------------------------------------------------------------------+
//!        | heartbeat u64 | its interval in ms u64 | pid u64 | max size u64 | ..  |
//!    320 +----------------------------------------------------------------------+
//!        | reserved                                                              |
//!    384 +----------------------------------------------------------------------+
//!        | statistics: sequence u64 ............................ rest reserved   |
//!    448 |   even half, 16 words                                                 |
//!    576 |   odd half, 16 words                                                  |
//!    704 | reserved, zero                                                        |
//!   1024 +----------------------------------------------------------------------+
//!        | slot index: slot count x 64 bytes                        (see `slot`) |
//!        +----------------------------------------------------------------------+
//!        | log: records, each a multiple of 8 bytes, zeros behind (see `record`) |
//!        +----------------------------------------------------------------------+
//! ```
//!
//! Integers of the header, the slots and the record headers are little-endian. Reserved bytes are
//! written as zero and ignored when read.
//!
//! **Magic**, 8 bytes: `ERLMCP01`. Anything else is not a store.
//!
//! **Version**: 1. Magic, version, state and change counter keep their offsets in every version to
//! come, so that an old reader can follow a switch and name a version that it does not know.
//!
//! **Entry count**: live entries, for display (2^32-1 where there are more). Stored with every
//! publish; no lookup reads it.
//!
//! **Header length, slot length**: 1024 and 64 in version 1.
//!
//! **File size**: bytes of the whole file. A file of another length is damaged (truncated, say).
//!
//! **Generation**: rises with every generation of a store.
//!
//! **Hash seed**: drawn anew for each generation. The hash of a key is XXH3-64 of its bytes with the
//! seed `hash seed + kind` (wrapping), and 1 where that is 0: [`key_hash`].
//!
//! **Store id**: 128 random bits, drawn when a store starts from nothing or is cleared, and kept by
//! its later generations. Versions compare only within one store id.
//!
//! **Index offset, slot count, log offset, log end**: 1024; a power of two, 16 at least; 1024 + 64 x
//! slot count; the file size.
//!
//! **Created, boot id**: CLOCK_BOOTTIME in ns, and the 16 bytes of the host's boot id. All times in
//! the file belong to that boot.
//!
//! **Header checksum**: XXH3-64 of the bytes 16 to 119.
//!
//! **State**: 1 building, 2 live, 3 superseded, 4 closed ([`State`]). Superseded means that a newer
//! file stands at the path: a reader opens the path again.
//!
//! **Change counter**: rises with every publish and once at the switch, and continues in the next
//! generation. Its first four bytes are the futex word on which readers wait; wake-ups may be
//! coalesced, the counter never is.
//!
//! **Heartbeat**: CLOCK_BOOTTIME in ns, stored by the writer every *interval* ms. The pid is the
//! writer's in its own PID namespace, for display. *Max size* is what a generation may grow to, in
//! bytes: [`Stats::fill`] is measured against it.
//!
//! **Statistics**: ten words under a [`Latch`], in the order of the fields of [`Stats`]. The log tail
//! among them is where the next record goes; every record before it was published.
//!
//! **Slot index**: open addressing with linear probing from `hash mod slot count`, at most half full,
//! no probe longer than [`MAX_PROBE`]: [`slot`].
//!
//! **Log**: records one behind the other, from the log offset on. Deletes are records too, so the log
//! alone rebuilds the index; of several records of a key the highest version counts, wherever it
//! stands: [`record`].
//!
//! The concurrent protocol of slots and statistics is in [`latch`].

#![forbid(unsafe_code)]

pub mod header;
pub mod latch;
pub mod record;
pub mod slot;
pub mod words;

mod error;
mod hash;
mod kind;
pub mod sync;

pub use error::FormatError;
pub use hash::{checksum, key_hash};
pub use header::{
    FORMAT_VERSION, HEADER_SIZE, Header, MAGIC, MIN_FILE_SIZE, MIN_SLOTS, least_slots, log_room,
};
pub use kind::{Kind, Scope, UnknownKind};
pub use latch::Latch;
pub use record::{
    Attributes, MAX_KEY, RECORD_HEADER, Record, RecordShape, attributes, claimed_length,
    record_length,
};
pub use slot::{Contended, Index, MAX_FILE_SIZE, MAX_PROBE, Probe, SLOT_SIZE, Slot, SlotValue};
pub use words::{HeaderWords, State, Stats};
