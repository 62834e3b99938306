//! What is kept of a value, and whether it may still be served.

use super::queues::MAX_USES;
use crate::ReadError;
use crate::generation::{Generation, Stamp, patiently};
use erlmcp_shm_layout::Kind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Instant;

/// A cached value.
pub struct Node<T> {
    pub value: Arc<T>,
    /// Of the entry in shared memory; 0 for a value that came from elsewhere.
    pub version: u64,
    pub origin: Origin,
    pub weight: usize,
    /// Its place in the queues.
    pub ticket: u64,
    uses: AtomicU8,
}

/// By what a value is known to be current.
pub enum Origin {
    /// It was decoded from an entry in shared memory.
    Shared {
        /// Of the generation that the stamp belongs to.
        serial: u64,
        stamp: Stamp,
        store_id: [u8; 16],
        /// CLOCK_BOOTTIME in ns; 0 is never.
        expires_at: u64,
    },
    /// It came from somewhere else while shared memory did not have the key, or only up to a version.
    Upstream {
        /// The change counter at which shared memory was last known not to have it.
        seen: AtomicU64,
        until: Instant,
        /// It was made to expire before its time.
        expired: AtomicBool,
        /// Versions up to this do not count: the value is known to be newer.
        over: u64,
    },
}

impl<T> Node<T> {
    pub fn new(value: Arc<T>, version: u64, origin: Origin, weight: usize) -> Self {
        Self {
            value,
            version,
            origin,
            weight,
            ticket: 0,
            uses: AtomicU8::new(0),
        }
    }

    /// Whether the value may be served: decided anew at each use, by what shared memory says now.
    /// `generation` is current (its state was looked at just now), or there is none.
    #[inline(always)]
    pub fn is_current(&self, generation: Option<&Arc<Generation>>, kind: Kind, key: &[u8]) -> bool {
        match (&self.origin, generation) {
            (
                Origin::Shared {
                    serial,
                    stamp,
                    expires_at,
                    ..
                },
                Some(generation),
            ) => {
                *serial == generation.serial
                    && generation.is_unchanged(*stamp, kind, key)
                    && (*expires_at == 0 || *expires_at > crate::sys::boottime_now())
            }
            (Origin::Shared { .. }, None) => false,
            (
                Origin::Upstream {
                    seen,
                    until,
                    expired,
                    over,
                },
                generation,
            ) => {
                // Relaxed: whoever expired it under a lock or by a message has ordered that already.
                !expired.load(Ordering::Relaxed)
                    && Instant::now() < *until
                    && generation.is_none_or(|generation| {
                        still_absent(seen, *over, generation, kind, key).unwrap_or(false)
                    })
            }
        }
    }

    /// Notes a use, for the queues.
    #[inline(always)]
    pub fn used(&self) {
        // Relaxed, and a race may lose a use: it is a hint.
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < MAX_USES {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    /// Uses since the last turn, less what this turn costs.
    pub fn spend(&self, uses: u8) -> u8 {
        let had = self.uses.load(Ordering::Relaxed);
        self.uses.store(had.saturating_sub(uses), Ordering::Relaxed);
        had
    }
}

/// Whether shared memory still does not have the key (in a version above `over`).
///
/// The counter is read before the key is looked up, and the writer moves it after the publish: so a
/// publish that the lookup missed moves the counter away from what is noted here.
fn still_absent(
    seen: &AtomicU64,
    over: u64,
    generation: &Arc<Generation>,
    kind: Kind,
    key: &[u8],
) -> Result<bool, ReadError> {
    let changes = generation.changes()?;
    // Relaxed: a number that is compared with the counter, and carries nothing else.
    if seen.load(Ordering::Relaxed) == changes {
        return Ok(true);
    }
    let entry = patiently(|| generation.lookup(kind, key))?;
    if entry.is_some_and(|entry| entry.version() > over && !entry.is_expired()) {
        return Ok(false);
    }
    seen.store(changes, Ordering::Relaxed);
    Ok(true)
}
