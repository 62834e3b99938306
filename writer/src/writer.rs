//! The handle that programs hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use erlmcp_shm_layout::{Attributes, Kind, State as GenerationState};
use parking_lot::Mutex;

use crate::recovery::MAX_COUNTER;
use crate::shared::{Locked, Shared};
use crate::sizing::Demand;
use crate::state::{Op, Open, State, Step};
use crate::{Options, Phase, WriteError, WriterStats, build, sys};

/// Rollovers that one put waits for before it gives up: more means that others fill every one.
const MAX_WAITS: u32 = 64;

/// The writer of a store. Clones share it; dropping the last one closes it.
///
/// ```
/// use erlmcp_shm_writer::{Kind, WriteError, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("export.bin");
/// let writer = Writer::options().open(&path)?;
/// let first = writer.put(Kind::Prompt, b"greet", br#"{"messages":[]}"#, b"{}")?;
/// let second = writer.put(Kind::Prompt, b"greet", br#"{"messages":[]}"#, b"{}")?;
/// assert!(second > first);
/// // One writer a path:
/// assert_eq!(Writer::options().open(&path).err(), Some(WriteError::Locked));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Writer {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    builder: Mutex<Option<JoinHandle<()>>>,
    /// The figures at the close.
    last: Mutex<Option<WriterStats>>,
}

/// How an attempt ended that was not to wait.
///
/// ```
/// use erlmcp_shm_writer::{Attempt, Kind, Writer};
/// # let dir = tempfile::tempdir()?;
/// # let writer = Writer::options().open(dir.path().join("export.bin"))?;
/// let gone = writer.try_delete(Kind::Resource, b"x", std::time::Duration::from_micros(20))?;
/// assert_eq!(gone, Attempt::Done(None)); // it was not there
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt<T> {
    /// It is done.
    Done(T),
    /// It would have had to wait; nothing was written.
    Busy,
}

impl Writer {
    /// Options with their defaults.
    pub fn options() -> Options {
        Options::default()
    }

    pub(crate) fn new(shared: Arc<Shared>, builder: JoinHandle<()>) -> Self {
        Self {
            handle: Arc::new(Handle {
                shared,
                builder: Mutex::new(Some(builder)),
                last: Mutex::new(None),
            }),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// The absolute path of the store.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// Publishes an entry, or its next version; returns the version. Readers see it from the moment
    /// this returns.
    ///
    /// # Errors
    /// [`EmptyKey`](WriteError::EmptyKey), [`KeyTooLarge`](WriteError::KeyTooLarge),
    /// [`TooLarge`](WriteError::TooLarge), [`NoSpace`](WriteError::NoSpace), and what building a
    /// larger generation met, ENOSPC for one. Nothing was published then.
    pub fn put(
        &self,
        kind: Kind,
        key: &[u8],
        data: &[u8],
        metadata: &[u8],
    ) -> Result<u64, WriteError> {
        self.put_with(kind, key, data, metadata, Attributes::default())
    }

    /// [`put`](Self::put) with an expiry and a scope.
    ///
    /// ```
    /// use erlmcp_shm_writer::{Attributes, Kind, Scope, Writer, boottime_now};
    /// # let dir = tempfile::tempdir()?;
    /// # let writer = Writer::options().open(dir.path().join("export.bin"))?;
    /// let in_a_minute = boottime_now() + 60_000_000_000;
    /// let attributes = Attributes { expires_at: in_a_minute, scope: Scope::Private };
    /// writer.put_with(Kind::Resource, b"user:1", b"..", b"{}", attributes)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put_with(
        &self,
        kind: Kind,
        key: &[u8],
        data: &[u8],
        metadata: &[u8],
        attributes: Attributes,
    ) -> Result<u64, WriteError> {
        let op = Op::Put {
            kind,
            key,
            data,
            metadata,
            attributes,
        };
        Ok(self.alone(&op)?.expect("a put makes a version"))
    }

    /// [`put_with`](Self::put_with) that does not wait: neither longer than `patience` for the lock,
    /// nor for a rollover.
    pub fn try_put_with(
        &self,
        kind: Kind,
        key: &[u8],
        data: &[u8],
        metadata: &[u8],
        attributes: Attributes,
        patience: Duration,
    ) -> Result<Attempt<u64>, WriteError> {
        let op = Op::Put {
            kind,
            key,
            data,
            metadata,
            attributes,
        };
        Ok(match self.attempt(&op, patience)? {
            Attempt::Done(version) => Attempt::Done(version.expect("a put makes a version")),
            Attempt::Busy => Attempt::Busy,
        })
    }

    /// Deletes an entry; returns the version of the deletion, or `None` if it was not there.
    ///
    /// # Errors
    /// A key of a wrong length, and a writer that is closed or failed; never for want of room.
    pub fn delete(&self, kind: Kind, key: &[u8]) -> Result<Option<u64>, WriteError> {
        self.alone(&Op::Delete { kind, key })
    }

    /// [`delete`](Self::delete) that waits for the lock no longer than `patience`.
    pub fn try_delete(
        &self,
        kind: Kind,
        key: &[u8],
        patience: Duration,
    ) -> Result<Attempt<Option<u64>>, WriteError> {
        self.attempt(&Op::Delete { kind, key }, patience)
    }

    fn attempt(&self, op: &Op<'_>, patience: Duration) -> Result<Attempt<Option<u64>>, WriteError> {
        let shared = self.shared();
        op.check(&shared.limits)?;
        let Some(mut state) = shared.try_lock(patience) else {
            return Ok(Attempt::Busy);
        };
        match self.step(&mut state, op)? {
            Step::Done(version) => {
                self.settle(&mut state);
                Ok(Attempt::Done(version))
            }
            Step::NoRoom(demand) => {
                self.ask_for_build(&mut state, demand);
                Ok(Attempt::Busy)
            }
        }
    }

    /// One try to make the change.
    fn step(&self, state: &mut State, op: &Op<'_>) -> Result<Step, WriteError> {
        let shared = self.shared();
        shared.open(state)?;
        state.apply(op, &shared.limits)
    }

    /// Before the lock is let go of after changes: their figures become visible, and the next build is
    /// begun if it is due.
    pub(crate) fn settle(&self, state: &mut State) {
        let shared = self.shared();
        state.announce();
        let building = shared.building.load(Ordering::Relaxed);
        if !building && state.build_is_due(&shared.limits) {
            state.request = Some(Demand::default());
            shared.work.notify_one();
        }
    }

    /// One change in a hold of the lock of its own.
    fn alone(&self, op: &Op<'_>) -> Result<Option<u64>, WriteError> {
        op.check(&self.shared().limits)?;
        let mut state = self.shared().lock();
        let version = self.wait_for(&mut state, op)?;
        self.settle(&mut state);
        Ok(version)
    }

    /// Asks for a build, unless one is under way that may serve.
    fn ask_for_build(&self, state: &mut State, demand: Demand) {
        if !self.shared().building.load(Ordering::Relaxed) {
            state.request = Some(demand);
            self.shared().work.notify_one();
        }
    }

    /// Makes the change, waiting for as many rollovers as it takes.
    pub(crate) fn wait_for(
        &self,
        state: &mut Locked<'_>,
        op: &Op<'_>,
    ) -> Result<Option<u64>, WriteError> {
        for _ in 0..MAX_WAITS {
            let demand = match self.step(state, op)? {
                Step::Done(version) => return Ok(version),
                Step::NoRoom(demand) => demand,
            };
            // What came before in a batch, for the lock is let go of.
            state.announce();
            let wanted = state.builds_ended + 1;
            self.ask_for_build(state, demand);
            self.wait_for_build(state, wanted)?;
        }
        Err(WriteError::NoSpace)
    }

    fn wait_for_build(&self, state: &mut Locked<'_>, wanted: u64) -> Result<(), WriteError> {
        let shared = self.shared();
        while state.builds_ended < wanted {
            if state.builder_gone {
                return Err(WriteError::Failed);
            }
            let _ = state.wait(&shared.build_ended, Duration::from_secs(1));
            shared.open(state)?;
        }
        state.build_error.map_or(Ok(()), Err)
    }

    /// No version is [raised](Self::raise_version) beyond this, so that as many are left to be given out.
    pub const HIGHEST_RAISED: u64 = MAX_COUNTER / 2;

    /// Sees to it that the next version is higher than `version`, and returns the highest that counts as given out.
    /// For what brings entries back under the versions that they had; a version alone leaves no trace in the file.
    ///
    /// ```
    /// use erlmcp_shm_writer::{Kind, Writer};
    /// # let dir = tempfile::tempdir()?;
    /// let writer = Writer::options().open(dir.path().join("export.bin"))?;
    /// assert_eq!(writer.raise_version(41)?, 41);
    /// assert_eq!(writer.put(Kind::Resource, b"x", b"..", b"{}")?, 42);
    /// assert_eq!(writer.raise_version(7)?, 42);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`BadOption`](WriteError::BadOption) of a version beyond [`HIGHEST_RAISED`](Self::HIGHEST_RAISED).
    pub fn raise_version(&self, version: u64) -> Result<u64, WriteError> {
        if version > Self::HIGHEST_RAISED {
            return Err(WriteError::BadOption("version"));
        }
        let shared = self.shared();
        let mut state = shared.lock();
        shared.open(&mut state)?;
        state.version = state.version.max(version);
        Ok(state.version)
    }

    /// Builds a new generation with the live records only, and waits for the switch to it.
    ///
    /// # Errors
    /// What the building met: ENOSPC, for one. The store goes on in the generation it has.
    pub fn compact(&self) -> Result<(), WriteError> {
        let shared = self.shared();
        let mut state = shared.lock();
        shared.open(&mut state)?;
        // A build that has begun already does not count: it may have passed entries by.
        let under_way = u64::from(shared.building.load(Ordering::Relaxed));
        let wanted = state.builds_ended + under_way + 1;
        state.request.get_or_insert_default();
        shared.work.notify_one();
        self.wait_for_build(&mut state, wanted)
    }

    /// Tells readers that the writer lives, and looks whether the path still names its file, and the
    /// lock file is still its own. Waits for no lock.
    ///
    /// # Errors
    /// [`PathLost`](WriteError::PathLost): the file at the path was removed or replaced. Where it was
    /// merely removed, a new generation is being put there by the time this returns.
    /// [`Corrupt`](WriteError::Corrupt): somebody truncated the file. No heartbeat is told then, and puts are refused
    /// from now on; one before this is noticed would be a SIGBUS, the end of this process.
    /// [`Failed`](WriteError::Failed): no heartbeat is told for a writer that takes no puts.
    pub fn heartbeat(&self) -> Result<(), WriteError> {
        let shared = self.shared();
        let live = shared.live()?;
        if shared.failed() {
            return Err(WriteError::Failed);
        }
        // Before anything in the mapping is touched.
        live.check_length()
            .inspect_err(|_| shared.truncated.store(true, Ordering::Relaxed))?;
        live.words().set_heartbeat(sys::boottime_now());
        if let Some(mut state) = shared.try_lock(Duration::ZERO)
            && let Ok(open) = shared.open(&mut state)
        {
            open.lock.hold_on(&shared.path)?;
        }
        let at_path = sys::id_at(&shared.path)?;
        // The other case: a switch came between.
        let lost = at_path != Some(live.id) && shared.live()?.id == live.id;
        shared.path_lost.store(lost, Ordering::Relaxed);
        if !lost {
            return Ok(());
        }
        if at_path.is_none()
            && let Some(mut state) = shared.try_lock(Duration::ZERO)
        {
            state.request.get_or_insert_default();
            shared.work.notify_one();
        }
        Err(WriteError::PathLost)
    }

    /// Wakes the readers that wait for a change, if there was one since the last wake-up. Takes no
    /// lock.
    ///
    /// # Errors
    /// [`Closed`](WriteError::Closed); [`Corrupt`](WriteError::Corrupt): somebody truncated the file.
    pub fn flush(&self) -> Result<(), WriteError> {
        let shared = self.shared();
        let live = shared.live()?;
        live.check_length()?;
        let changes = live.words().changes();
        // Relaxed: a wake-up more or less does no harm, and the counter it compares orders itself.
        if shared.woken.swap(changes, Ordering::Relaxed) != changes {
            live.wake();
        }
        Ok(())
    }

    /// The figures now, or those at the close. Takes no lock, unless somebody truncated the file.
    pub fn stats(&self) -> WriterStats {
        self.handle.stats()
    }

    /// Closes the store: readers can tell, the lock is free when this returns, and what was
    /// published stays readable. Later calls do nothing.
    pub fn close(&self) {
        self.handle.close();
        // The builder unmaps and removes what it was at.
        let builder = self.handle.builder.lock().take();
        if builder.is_some_and(|builder| builder.join().is_err()) {
            // It panicked, and what it would have unmapped is left to this call.
            let left = std::mem::take(&mut self.shared().lock().retired);
            drop(left);
        }
    }
}

impl Handle {
    fn stats(&self) -> WriterStats {
        let shared = &self.shared;
        let last = || self.last.lock().clone().expect("set before the close");
        let Ok(live) = shared.live() else {
            return last();
        };
        if live.check_length().is_ok() {
            return WriterStats::of(shared, &live);
        }
        // What the header says is gone; what this process counted is not.
        match &shared.lock().open {
            Some(open) => WriterStats::counted(shared, &open.current),
            None => last(),
        }
    }

    fn close(&self) {
        let shared = &self.shared;
        let stats = WriterStats {
            phase: Phase::Closed,
            ..self.stats()
        };
        let mut state = shared.lock();
        build::give_up(&mut state);
        let Some(open) = state.open.take() else {
            return;
        };
        *self.last.lock() = Some(stats);
        shared.live.store(None);
        let Open { current, lock, .. } = open;
        if current.map.check_length().is_ok() {
            // Superseded where a panic interrupted the switch: readers must still be sent on.
            if current.map.words().state() != Some(GenerationState::Superseded) {
                current.map.words().set_state(GenerationState::Closed);
            }
            current.map.wake();
        }
        // The file stays open until it is unmapped; the next writer need not wait for that.
        let _ = sys::lock(&current.map.file, false);
        state.retired.push(current.map);
        drop(lock);
        shared.work.notify_one();
        shared.build_ended.notify_all();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}
