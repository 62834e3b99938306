//! The one place atomics come from: `core`, or under `--cfg loom` stand-ins that loom checks and a
//! test can break on purpose.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};

#[cfg(loom)]
pub mod breakable;
#[cfg(loom)]
pub use breakable::{AtomicU64, Ordering, fence};
