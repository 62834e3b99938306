//! Panics on purpose, for the tests of what a panic leaves: with the feature `test-panic` only.
//!
//! Changes, builds and switches pass a point between any two of their steps under the writer's lock. A
//! test arms the first, the second, and so on, until a run no longer gets as far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Points to pass until the panic; 0 for none.
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Has the `n`-th point from now panic, in whatever thread and writer of this process; 0 disarms. Returns how
/// many an earlier call had left, 0 if it came to its panic.
pub fn arm(n: u64) -> u64 {
    // Relaxed, here and below: one word, by which nothing else is published.
    LEFT.swap(n, Ordering::Relaxed)
}

pub(crate) fn point() {
    let count = |left: u64| left.checked_sub(1);
    if LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1) {
        panic!("on purpose: a test armed this point");
    }
}
