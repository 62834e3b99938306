//! Whether the node was started anew a moment ago.
//!
//! A node that dies opens the circuit breakers of all ways to it, and its successor would go unnoticed until their
//! timeout. But a store's writer that starts begins a generation, and that is seen at once. (So does one that only
//! runs out of room: then a trial is made that need not have been.) The node listens a little later than it publishes,
//! hence not one trial but one now and then, for a while.

use erlmcp_shm_reader::Reader;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// For how long a new generation is taken for a reason to try again.
const RECENT: Duration = Duration::from_secs(10);
/// Between two trials within that time.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

type Generation = ([u8; 16], u64);

pub(crate) struct Rebirth {
    reader: Option<Reader>,
    seen: Mutex<(Option<Generation>, Option<Instant>)>,
}

impl Rebirth {
    pub fn new(reader: Option<Reader>) -> Self {
        let now = reader.as_ref().and_then(generation);
        let seen = Mutex::new((now, None));
        Self { reader, seen }
    }

    /// Asked only where a breaker is open: while all is well it costs nothing.
    pub fn is_recent(&self, now: Instant) -> bool {
        let Some(current) = self.reader.as_ref().and_then(generation) else {
            return false;
        };
        let mut seen = self.seen.lock();
        if seen.0 != Some(current) {
            *seen = (Some(current), Some(now));
        }
        seen.1
            .is_some_and(|at| now.saturating_duration_since(at) < RECENT)
    }
}

fn generation(reader: &Reader) -> Option<Generation> {
    let view = reader.view().ok()?;
    Some((view.store_id(), view.generation()))
}
