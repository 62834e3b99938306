//! What all handles of a writer and its builder thread share.

use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex, MutexGuard, WaitTimeoutResult};

use crate::WriteError;
use crate::generation::{Mapped, TRUNCATED};
use crate::sizing::Limits;
use crate::state::{Open, State};

/// Everything of a writer but its thread.
pub struct Shared {
    pub path: PathBuf,
    pub limits: Limits,
    pub mode: u32,
    pub heartbeat_interval_ms: u64,
    state: Mutex<State>,
    /// The builder has something to do.
    pub work: Condvar,
    /// A build ended, or the builder did.
    pub build_ended: Condvar,
    /// The current generation for what needs no lock: heartbeat, wake-ups, figures. `None` once
    /// closed.
    pub live: ArcSwapOption<Mapped>,
    /// The change counter at the last wake-up.
    pub woken: AtomicU64,
    /// The last heartbeat found the path to name another file, or none. Relaxed: for display.
    pub path_lost: AtomicBool,
    /// A build is under way. Relaxed: written under the lock, and read under it but for display.
    pub building: AtomicBool,
    /// Something panicked under the lock.
    failed: AtomicBool,
    /// A heartbeat found the file truncated, and what was mapped is gone for good. Relaxed: it carries nothing.
    pub truncated: AtomicBool,
    pub last_build_error: Mutex<Option<WriteError>>,
    pub damaged: u64,
}

/// The writer's lock, held.
pub struct Locked<'a> {
    // Dropped first, so that the mark is set while the lock is still held.
    _tripwire: Tripwire<'a>,
    guard: MutexGuard<'a, State>,
}

/// Marks the writer failed when a panic unwinds through a hold of the lock.
struct Tripwire<'a> {
    failed: &'a AtomicBool,
    /// Somebody else's panic was under way when the lock was taken.
    unwinding: bool,
}

impl Drop for Tripwire<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.unwinding {
            // Relaxed: read under the same lock, or for display.
            self.failed.store(true, Ordering::Relaxed);
        }
    }
}

impl Deref for Locked<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.guard
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.guard
    }
}

impl<'a> Locked<'a> {
    /// Lets go, to the thread that waits longest if one does.
    pub fn unlock_fair(self) {
        MutexGuard::unlock_fair(self.guard);
    }

    /// Waits for the signal without the lock.
    pub fn wait(&mut self, signal: &Condvar, at_most: Duration) -> WaitTimeoutResult {
        signal.wait_for(&mut self.guard, at_most)
    }

    /// Does something long without the lock.
    pub fn unlocked<T>(&mut self, work: impl FnOnce() -> T) -> T {
        MutexGuard::unlocked(&mut self.guard, work)
    }
}

impl Shared {
    pub fn new(
        path: PathBuf,
        limits: Limits,
        mode: u32,
        heartbeat_interval: Duration,
        state: State,
        damaged: u64,
    ) -> Self {
        let live = state.open.as_ref().map(|open| open.current.map.clone());
        Self {
            path,
            limits,
            mode,
            heartbeat_interval_ms: heartbeat_interval.as_millis() as u64,
            woken: AtomicU64::new(state.changes),
            state: Mutex::new(state),
            work: Condvar::new(),
            build_ended: Condvar::new(),
            live: ArcSwapOption::new(live),
            path_lost: AtomicBool::new(false),
            building: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            truncated: AtomicBool::new(false),
            last_build_error: Mutex::new(None),
            damaged,
        }
    }

    fn locked<'a>(&'a self, guard: MutexGuard<'a, State>) -> Locked<'a> {
        Locked {
            _tripwire: Tripwire {
                failed: &self.failed,
                unwinding: std::thread::panicking(),
            },
            guard,
        }
    }

    /// Takes the writer's lock.
    pub fn lock(&self) -> Locked<'_> {
        self.locked(self.state.lock())
    }

    /// Takes it if it can be had within `patience`.
    pub fn try_lock(&self, patience: Duration) -> Option<Locked<'_>> {
        let guard = match self.state.try_lock() {
            None if !patience.is_zero() => self.state.try_lock_for(patience),
            guard => guard,
        };
        guard.map(|guard| self.locked(guard))
    }

    /// Whether a panic left the state half changed.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// What an open writer has; `Err` once closed or failed, or where there is nothing to write to any more.
    pub fn open<'s>(&self, state: &'s mut State) -> Result<&'s mut Open, WriteError> {
        match &mut state.open {
            None => Err(WriteError::Closed),
            Some(_) if self.failed() => Err(WriteError::Failed),
            Some(_) if self.truncated.load(Ordering::Relaxed) => Err(TRUNCATED),
            Some(open) => Ok(open),
        }
    }

    /// The generation that a heartbeat or wake-up goes to.
    pub fn live(&self) -> Result<Arc<Mapped>, WriteError> {
        self.live.load_full().ok_or(WriteError::Closed)
    }
}
