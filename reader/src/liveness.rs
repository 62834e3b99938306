//! Is there a writer, and is it well?

use crate::{Reader, sys};
use erlmcp_shm_layout::State;
use std::path::PathBuf;
use std::time::Duration;

/// A heartbeat this many intervals old is stale.
pub const STALE_AFTER: u32 = 10;

/// Signs of life of the writer; from [`Reader::liveness`].
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::{Reader, Verdict};
/// let liveness = Reader::open(store.path())?.liveness();
/// assert_eq!(liveness.lock_held, Some(false)); // nobody has a lock on this file
/// assert_eq!(liveness.verdict(), Verdict::Dead);
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Liveness {
    /// What the newest generation that we have seen says of itself; `None` if we have seen none.
    pub state: Option<State>,
    /// How long ago the last heartbeat was; `None` before the first, and if the file is from
    /// before the host's last boot.
    pub heartbeat_age: Option<Duration>,
    /// How often the writer means to give one; zero where it promises none.
    pub heartbeat_interval: Duration,
    /// Whether someone holds the writer's lock; `None` where the lock file is not ours to open or
    /// the system cannot tell.
    pub lock_held: Option<bool>,
    /// Process id of the writer in its own PID namespace, for display; 0 if unknown.
    pub writer_pid: u32,
}

/// What to make of a [`Liveness`].
///
/// ```
/// use erlmcp_shm_reader::Verdict;
/// assert_eq!(Verdict::Alive.to_string(), "alive");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// A writer holds the lock (as far as we can tell) and its heartbeat is fresh.
    Alive,
    /// The heartbeat is older than [`STALE_AFTER`] intervals: stopped, overloaded, or (where the
    /// lock cannot be probed) dead.
    Stale,
    /// The writer closed the store in good order.
    Closed,
    /// Nobody holds the writer's lock: it died, or there never was one.
    Dead,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Verdict::Alive => "alive",
            Verdict::Stale => "stale",
            Verdict::Closed => "closed",
            Verdict::Dead => "dead",
        })
    }
}

impl Liveness {
    /// Alive, stale, closed or dead. Whatever it is, what was published stays readable.
    pub fn verdict(&self) -> Verdict {
        let overdue = match self.heartbeat_age {
            Some(age) => age > self.heartbeat_interval * STALE_AFTER,
            // None yet: a writer that has only just begun, if there is one for certain.
            None => self.lock_held.is_none(),
        };
        match (self.state, self.lock_held) {
            (Some(State::Closed), held) if held != Some(true) => Verdict::Closed,
            (_, Some(false)) | (None, None) => Verdict::Dead,
            _ if overdue && !self.heartbeat_interval.is_zero() => Verdict::Stale,
            _ => Verdict::Alive,
        }
    }
}

pub(crate) fn liveness(reader: &Reader) -> Liveness {
    // Follows a switch if there was one; if that fails, the last generation has to do.
    let _ = reader.view();
    let last = reader.inner.last();
    let words = last.as_ref().and_then(|last| {
        let read = last.words(|words| (words.state(), words.writer()));
        read.ok()
    });
    let (state, (interval_ms, writer_pid)) = words.unwrap_or_default();
    let mut lock = reader.inner.absolute.as_os_str().to_owned();
    lock.push(".lock");
    Liveness {
        state,
        heartbeat_age: last.and_then(|last| last.heartbeat_age()),
        heartbeat_interval: Duration::from_millis(interval_ms.min(u32::MAX.into())),
        lock_held: sys::lock_held(&PathBuf::from(lock)),
        writer_pid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(state: Option<State>, age: Option<u64>, lock: Option<bool>) -> Verdict {
        Liveness {
            state,
            heartbeat_age: age.map(Duration::from_millis),
            heartbeat_interval: Duration::from_millis(100),
            lock_held: lock,
            writer_pid: 1,
        }
        .verdict()
    }

    #[test]
    fn the_lock_outweighs_the_heartbeat() {
        let live = Some(State::Live);
        assert_eq!(verdict(live, Some(10), Some(true)), Verdict::Alive);
        assert_eq!(verdict(live, Some(1001), Some(true)), Verdict::Stale);
        assert_eq!(verdict(live, Some(10), Some(false)), Verdict::Dead);
        assert_eq!(verdict(live, Some(1001), Some(false)), Verdict::Dead);
        assert_eq!(verdict(live, None, Some(true)), Verdict::Alive);
    }

    #[test]
    fn without_a_lock_to_probe_the_heartbeat_decides() {
        let live = Some(State::Live);
        assert_eq!(verdict(live, Some(10), None), Verdict::Alive);
        assert_eq!(verdict(live, Some(1001), None), Verdict::Stale);
        assert_eq!(verdict(live, None, None), Verdict::Stale);
        assert_eq!(verdict(None, None, None), Verdict::Dead);
    }

    #[test]
    fn closed_is_not_dead() {
        let closed = Some(State::Closed);
        assert_eq!(verdict(closed, Some(5000), Some(false)), Verdict::Closed);
        assert_eq!(verdict(closed, Some(5000), None), Verdict::Closed);
        // A writer that is just taking the store over.
        assert_eq!(verdict(closed, Some(5000), Some(true)), Verdict::Stale);
    }
}
