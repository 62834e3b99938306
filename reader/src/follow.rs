//! Which generation is current, and how a switch is followed.
//!
//! **Roles.** Any number of threads look up; one process-wide watcher thread looks at the path from
//! time to time. All of them may follow a switch, one at a time, under `follow`'s lock.
//!
//! **Fast path** ([`Reader::view`](crate::Reader::view)). One load of the current generation and one relaxed load of the
//! state word in the very mapping that was just loaded.
//!
//! **Slow path** ([`Inner::follow`]). The state word says superseded (or there is no generation
//! yet): open the path again, with every check, and swap the new generation in.
//!
//! **Ordering.** The writer renames the new file to the path, and then marks the old one (Release);
//! whoever sees the mark (Relaxed) opens the path by a system call, which the kernel orders after
//! the rename. A mapping is published to other threads by the swap of an `Arc`.
//!
//! **What a crash leaves.** A writer that dies between renaming and marking leaves readers with the
//! old generation, against which nothing newer has been returned; the next writer marks it, and the
//! watcher finds the new file even before.

use crate::generation::Generation;
use crate::open::{FileId, Opened};
use crate::options::Options;
use crate::{ReadError, View, watcher};
use arc_swap::ArcSwapOption;
use erlmcp_shm_layout::State;
use erlmcp_shm_layout::sync::{AtomicU64, Ordering, fence};
use parking_lot::Mutex;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many switches in a row one call follows before it gives up with `Contended`.
const MAX_SWITCHES: usize = 16;

/// What the clones of a reader share.
pub(crate) struct Inner {
    /// As it was given.
    pub path: PathBuf,
    /// The same as an absolute path: the process may change its folder.
    pub absolute: Arc<Path>,
    pub options: Options,
    /// What views are made of; `None` before the file is there, or when the path was given to
    /// an older copy of the same store.
    current: ArcSwapOption<Generation>,
    follow: Mutex<Follow>,
    /// Age of the heartbeat in ns at the watcher's last look; `u64::MAX` is unknown.
    heartbeat_age: AtomicU64,
}

#[derive(Default)]
struct Follow {
    /// The newest generation that was ever current.
    last: Option<Arc<Generation>>,
    /// When we last found nothing newer at the path.
    detached: Option<Instant>,
}

impl Inner {
    /// See [`Options::open`].
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>, ReadError> {
        let inner = Arc::new(Inner {
            path: path.into(),
            absolute: std::path::absolute(path)
                .unwrap_or_else(|_| path.into())
                .into(),
            options,
            current: ArcSwapOption::empty(),
            follow: Mutex::default(),
            heartbeat_age: AtomicU64::new(u64::MAX),
        });
        match inner.follow() {
            Err(ReadError::NotFound) if inner.options.allow_absent => {}
            result => result?,
        }
        inner.prefault();
        if inner.options.watcher {
            watcher::watch(&inner)?;
        }
        Ok(inner)
    }

    /// A view of the current generation, if that is fresh.
    #[inline(always)]
    pub fn current_view(&self) -> Option<View> {
        let view = View::new(self.current.load())?;
        view.is_current().then_some(view)
    }

    /// The same after following the switch, or several.
    #[cold]
    pub fn view_after_switch(&self) -> Result<View, ReadError> {
        for _ in 0..MAX_SWITCHES {
            self.follow()?;
            if let Some(view) = self.current_view() {
                return Ok(view);
            }
        }
        Err(ReadError::Contended)
    }

    /// What the watcher does for this reader, every `refresh_interval`.
    pub fn tick(&self) {
        if self.last().is_some_and(|last| last.is_cut_off()) {
            // To touch what somebody truncated would be the end of the process, in which nobody else may do so.
            self.heartbeat_age.store(u64::MAX, Ordering::Relaxed);
            return;
        }
        // A failure is met again, and answered, by the next lookup it concerns.
        let _ = self.look_at_path();
        self.prefault();
        let age = self.last().and_then(|last| last.heartbeat_age());
        let age = age.map_or(u64::MAX, |age| age.as_nanos() as u64);
        self.heartbeat_age.store(age, Ordering::Relaxed);
    }

    /// Not on a lookup's way: it takes as long as there are pages.
    fn prefault(&self) {
        if let Some(last) = self.last().filter(|_| self.options.prefault) {
            last.prefault();
        }
    }

    /// See [`Reader::heartbeat_seen`](crate::Reader::heartbeat_seen).
    pub fn heartbeat_seen(&self) -> Option<Duration> {
        // Relaxed: a figure that carries nothing else.
        let age = self.heartbeat_age.load(Ordering::Relaxed);
        (age != u64::MAX).then(|| Duration::from_nanos(age))
    }

    /// The newest generation that was ever current, fresh or not.
    pub fn last(&self) -> Option<Arc<Generation>> {
        self.follow.lock().last.clone()
    }

    /// Makes the generation at the path the current one, unless the current one is fresh.
    fn follow(&self) -> Result<(), ReadError> {
        // Pairs with the Release store of the mark: what the writer did at the path before, the system
        // calls below see.
        fence(Ordering::Acquire);
        let mut follow = self.follow.lock();
        if self.current_view().is_some() {
            return Ok(()); // another thread has just done it
        }
        if let Some(at) = follow.detached
            && at.elapsed() < self.options.refresh_interval
        {
            return Err(ReadError::Detached);
        }
        let found = self.find(follow.last.as_ref());
        follow.detached = matches!(found, Err(ReadError::Detached)).then(Instant::now);
        self.adopt(&mut follow, found?);
        Ok(())
    }

    /// Looks at the path even though the current generation is not superseded: has another file
    /// taken its place? An error leaves everything as it is, but for `Detached`.
    pub fn look_at_path(&self) -> Result<(), ReadError> {
        let mut follow = self.follow.lock();
        let last = follow.last.clone();
        let at_path = FileId::at(&self.absolute)?;
        if last.as_ref().is_some_and(|last| last.id == at_path) && self.current_view().is_some() {
            return Ok(());
        }
        match self.find(last.as_ref()) {
            Ok(found) => {
                self.adopt(&mut follow, found);
                Ok(())
            }
            Err(error) => {
                if error == ReadError::Detached {
                    // An older copy of our own store stands there. Whatever a writer publishes
                    // into it, we do not see: so nothing more from ours.
                    self.replace(None);
                }
                Err(error)
            }
        }
    }

    fn adopt(&self, follow: &mut Follow, generation: Arc<Generation>) {
        generation.set_replaced(false);
        follow.last = Some(Arc::clone(&generation));
        self.replace(Some(generation));
    }

    fn replace(&self, next: Option<Arc<Generation>>) {
        let old = self.current.swap(next);
        if let Some(old) = old
            && !self.current_is(&old)
        {
            old.set_replaced(true);
        }
    }

    fn current_is(&self, generation: &Arc<Generation>) -> bool {
        let current = self.current.load();
        current.as_ref().is_some_and(|c| Arc::ptr_eq(c, generation))
    }

    /// What stands at the path: `last` itself if it is fresh, or a generation that is newer, or of
    /// another store. `Detached` where it is neither.
    fn find(&self, last: Option<&Arc<Generation>>) -> Result<Arc<Generation>, ReadError> {
        // Held open until the next look, so that the two files cannot share an inode number.
        let mut superseded: Option<Opened> = None;
        for _ in 0..MAX_SWITCHES {
            let opened = Opened::open(&self.absolute, &self.options)?;
            let ours = last.filter(|last| last.id == opened.id);
            match (opened.state, ours) {
                (Some(State::Live | State::Closed), Some(ours)) => return Ok(Arc::clone(ours)),
                (Some(State::Live | State::Closed), None) => {
                    if last.is_some_and(|last| !opened.is_newer_than(last)) {
                        return Err(ReadError::Detached);
                    }
                    let generation = Generation::new(opened, self, last.map(|last| &**last))?;
                    return Ok(watcher::hold(generation, self.options.watcher));
                }
                // The path cannot show us the newer file that there must be.
                (Some(State::Superseded), Some(_)) => return Err(ReadError::Detached),
                (Some(State::Superseded), None) => {
                    if superseded.is_some_and(|before| before.id == opened.id) {
                        return Err(ReadError::Detached);
                    }
                    // It was replaced while we opened it: now the path names another one.
                    superseded = Some(opened);
                }
                (Some(State::Building), _) => return Err(ReadError::Corrupt("never finished")),
                (None, _) => return Err(ReadError::Corrupt("state")),
            }
        }
        Err(ReadError::Contended)
    }
}
