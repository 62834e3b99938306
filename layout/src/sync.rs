//! The one place atomics come from: `core`, or loom's model-checked stand-ins under `--cfg loom`.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
