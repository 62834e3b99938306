//! Building the next generation while puts go on, and the switch to it.
//!
//! One thread of the writer's own does this. From the moment a [`Build`] stands in the state, every
//! put and delete goes into both generations; the thread copies what is older. A record is copied
//! in three steps: its room is claimed under the lock, its bytes are copied without the lock, and it
//! is published in the new index under the lock, unless the key has changed meanwhile (then its
//! slot in the current index bears a later version, and the copy is dead weight).
//!
//! # The switch
//!
//! Under the lock, so with no put in between: the new generation is marked live, takes the path (the
//! old one then bears the temporary name), the old one is marked superseded, its waiters are woken,
//! it is unlinked, and puts are admitted again. So a mark always means that a newer file exists, and
//! a writer that dies at any point leaves readers with data that nothing newer has been returned
//! against: before the marking nothing was put into the new generation alone.

#[cfg(test)]
mod heap;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use erlmcp_shm_layout::{Record, RecordShape, SlotValue};

use crate::generation::{Generation, Identity, Mapped, Pending};
use crate::recovery::supersede;
use crate::region::Claim;
use crate::shared::{Locked, Shared};
use crate::sizing::{Demand, Trigger, is_fragmented};
use crate::state::{Op, Open, RETRY_AFTER, State};
use crate::{WriteError, fault, sys};

/// Bounds of one hold of the lock, far below 100 us: records claimed, bytes claimed, slots seen.
const BATCH_RECORDS: usize = 128;
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_SLOTS: usize = 1024;
/// How long the thread sleeps when nothing is asked of it; then it looks for what it can tidy.
const PAUSE: Duration = Duration::from_millis(250);

/// A generation that takes puts beside the current one, and fills up with what is older.
#[derive(Debug)]
pub struct Build {
    pub next: Generation,
    /// What the copying may still need.
    pub pending: Pending,
    /// Records up to this version are the copier's; later ones went into both.
    start: u64,
    /// It cannot be finished: the thread gives it up and begins another.
    pub aborted: bool,
}

/// A record on its way: position of its slot in the current index, what the slot said, its room.
struct Copy<'r> {
    position: usize,
    value: SlotValue,
    claim: Claim<'r>,
}

impl Build {
    /// Puts a change into the generation being built. `false`: it has no room for it.
    pub fn take(&mut self, op: &Op<'_>, record: &Record<'_>, reserved: u64) -> bool {
        let Generation { map, stats } = &mut self.next;
        let (kind, key) = op.key();
        let place = map.place(kind, key, map.hash(kind, key));
        let after = place.after(stats, record);
        self.pending.reserved = reserved;
        if !place.is_reachable() || !map.fits(&after, &self.pending) {
            return false;
        }
        map.publish(&place, record, map.append(record));
        *stats = after;
        true
    }
}

/// The life of the builder thread: what is asked for first, then what makes later puts cheaper, then
/// what tidies up. It ends when the store is closed.
pub fn run(shared: &Shared) {
    // However this ends, nobody is left waiting for a build.
    let _farewell = Farewell(shared);
    let mut state = shared.lock();
    loop {
        if unmap_unused(&mut state) {
            continue;
        }
        if state.open.is_none() {
            if state.retired.is_empty() {
                return;
            }
            // A heartbeat or a look at the figures may hold it for another moment.
            let _ = state.wait(&shared.work, Duration::from_millis(2));
        } else if let Some(demand) = state.request.take() {
            shared.building.store(true, Ordering::Relaxed);
            let error = state.unlocked(|| build(shared, demand)).err();
            give_up(&mut state);
            state.builds_ended += 1;
            state.build_error = error;
            state.retry_at = error.map(|_| Instant::now() + RETRY_AFTER);
            shared.building.store(false, Ordering::Relaxed);
            *shared.last_build_error.lock() = error;
            shared.build_ended.notify_all();
        } else if !on_current(&mut state, Mapped::populate_next)
            // That let go of the lock: what was asked for meanwhile has rung already.
            && state.request.is_none()
            && state.open.is_some()
            && state.wait(&shared.work, PAUSE).timed_out()
        {
            tidy(&mut state);
        }
    }
}

/// Nobody wanted a build for a while, so there is time, and this generation will last: one that a
/// flood of puts replaces in milliseconds is gone before tidying pays.
fn tidy(state: &mut Locked<'_>) {
    let fragmented = |open: &Open| is_fragmented(&open.current.stats);
    if state.open.as_ref().is_some_and(fragmented) && !state.backs_off() {
        state.request.get_or_insert_default();
    }
    while state.request.is_none() && on_current(state, Mapped::collapse_next) {}
}

/// Takes a step of something long on the current generation, given its log's tail, without the lock.
fn on_current(state: &mut Locked<'_>, step: impl Fn(&Mapped, u64) -> bool) -> bool {
    let Some(open) = &state.open else {
        return false;
    };
    let (map, tail) = (open.current.map.clone(), open.current.stats.log_tail);
    state.unlocked(|| step(&map, tail))
}

struct Farewell<'a>(&'a Shared);

impl Drop for Farewell<'_> {
    fn drop(&mut self) {
        self.0.lock().builder_gone = true;
        self.0.build_ended.notify_all();
    }
}

/// Unmaps the retired generations that nobody else holds; says whether there were any. Unmapping
/// takes 100 ms and more for big files: not under the lock.
fn unmap_unused(state: &mut Locked<'_>) -> bool {
    let unused = |map: &mut Arc<Mapped>| Arc::strong_count(map) == 1;
    let unused: Vec<_> = state.retired.extract_if(.., unused).collect();
    let some = !unused.is_empty();
    state.unlocked(|| drop(unused));
    some
}

/// Hands the mapping of an unfinished build to the reaper.
pub fn give_up(state: &mut State) {
    let build = state.open.as_mut().and_then(|open| open.build.take());
    state.retired.extend(build.map(|build| build.next.map));
}

/// Builds the next generation and switches to it.
fn build(shared: &Shared, demand: Demand) -> Result<(), WriteError> {
    // A build that was aborted or outgrown by the puts is begun again, with what was learnt.
    for _ in 0..8 {
        let (identity, before) = {
            let mut state = shared.lock();
            let current = &shared.open(&mut state)?.current;
            let header = &current.map.header;
            let identity = Identity {
                store_id: header.store_id,
                generation: header.generation + 1,
            };
            (identity, current.stats)
        };
        let limits = &shared.limits;
        let plans = [limits.next(&before, demand), limits.least(&before, demand)];
        let name = sys::temporary_name(&shared.path, identity.generation)?;
        let temporary = Temporary(&name);
        let map = Mapped::create(&name, plans, shared.mode, identity, before.live_bytes)?;
        let next = Generation::new(map, &before);
        let target = next.map.clone();
        if begin(shared, next)? && copy_all(shared, &target)? && switch(shared, &temporary)? {
            return Ok(());
        }
        // Puts need not go into it any longer, and its memory is wanted for the next attempt.
        let given_up = shared.lock().open.as_mut().and_then(|o| o.build.take());
        drop(given_up);
    }
    Err(WriteError::NoSpace)
}

/// Removes the file under its temporary name, unless the switch has already. After a panic it stays, for it may be
/// the old generation without its mark, and readers wait for that: the next start marks and removes it.
pub struct Temporary<'a>(pub &'a Path);

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _ = rustix::fs::unlink(self.0);
        }
    }
}

/// From here on puts go into both. `false`: the store has outgrown the plan.
fn begin(shared: &Shared, next: Generation) -> Result<bool, WriteError> {
    let mut state = shared.lock();
    let start = state.version;
    let open = shared.open(&mut state)?;
    let live = &open.current.stats;
    let pending = Pending {
        bytes: live.live_bytes,
        keys: live.entries,
        reserved: live.reserved_bytes,
    };
    let aborted = !next.map.fits(&next.stats, &pending);
    open.build = Some(Build {
        next,
        pending,
        start,
        aborted,
    });
    fault::point();
    Ok(!aborted)
}

/// Copies everything that is older than the build. `false`: the build was aborted.
fn copy_all(shared: &Shared, target: &Mapped) -> Result<bool, WriteError> {
    let mut position = 0;
    loop {
        let (source, mut batch, done) = claim_batch(shared, target, &mut position)?;
        for copy in &mut batch {
            let bytes = source.record_of(&copy.value);
            copy.claim.bytes().copy_from_slice(bytes);
        }
        let mut state = shared.lock();
        let Open { current, build, .. } = shared.open(&mut state)?;
        let Some(build) = build else { return Ok(false) };
        for copy in batch {
            let now = current.map.index().slot(copy.position).load();
            let offset = copy.claim.seal();
            fault::point();
            if now == Ok(Some(copy.value)) {
                build.aborted |= !build.next.adopt(offset, &copy.value);
                build.pending.keys = build.pending.keys.saturating_sub(1);
            } else {
                build.next.stats.dead_bytes += RecordShape::of(&copy.value).total;
            }
        }
        let aborted = build.aborted;
        state.unlock_fair();
        if aborted || done {
            return Ok(!aborted);
        }
    }
}

/// Claims room for the next records to be copied; says whether they are the last.
fn claim_batch<'r>(
    shared: &Shared,
    target: &'r Mapped,
    position: &mut usize,
) -> Result<(Arc<Mapped>, Vec<Copy<'r>>, bool), WriteError> {
    let mut batch = Vec::with_capacity(BATCH_RECORDS);
    let mut state = shared.lock();
    let Open { current, build, .. } = shared.open(&mut state)?;
    let source = current.map.clone();
    let index = source.index();
    let mut bytes = 0;
    let last = (*position + BATCH_SLOTS).min(index.capacity());
    while let Some(build) = build
        && *position < last
        && batch.len() < BATCH_RECORDS
        && bytes < BATCH_BYTES
    {
        let slot = index.slot(*position);
        if let Ok(Some(value)) = slot.load()
            && !value.tombstone
            && value.version <= build.start
        {
            let total = RecordShape::of(&value).total;
            let Some(claim) = target.region.claim(total) else {
                build.aborted = true;
                break;
            };
            fault::point();
            build.next.stats.log_tail += total;
            build.pending.bytes = build.pending.bytes.saturating_sub(total);
            bytes += total;
            batch.push(Copy {
                position: *position,
                value,
                claim,
            });
        }
        *position += 1;
    }
    let done = *position == index.capacity();
    state.unlock_fair();
    Ok((source, batch, done))
}

/// Makes the finished generation the current one. `false`: it was aborted meanwhile.
fn switch(shared: &Shared, temporary: &Temporary<'_>) -> Result<bool, WriteError> {
    let mut state = shared.lock();
    let changes = state.changes.wrapping_add(1);
    let version = state.version;
    let open = shared.open(&mut state)?;
    let Some(build) = open.build.as_mut().filter(|build| !build.aborted) else {
        return Ok(false);
    };
    open.lock.hold_on(&shared.path)?;
    let next = &mut build.next;
    next.stats.puts = open.current.stats.puts;
    next.stats.deletes = open.current.stats.deletes;
    next.stats.rollovers = open.current.stats.rollovers + 1;
    next.stats.version = version;
    next.go_live(
        changes,
        shared.heartbeat_interval_ms,
        shared.limits.max_size,
    );
    fault::point();
    // Should it have stood there for a moment, whoever opened it then must look again.
    let old_name = sys::place(temporary.0, &shared.path, Some(open.current.map.id))
        .inspect_err(|_| supersede(&next.map.region, changes))?;
    fault::point();
    supersede(&open.current.map.region, changes);
    fault::point();
    if let Some(name) = old_name {
        let _ = rustix::fs::unlink(&name);
    }
    fault::point();
    let next = open.build.take().expect("it was there above").next;
    open.trigger = Trigger::new(&next.map.header, &next.stats);
    let old = std::mem::replace(&mut open.current, next);
    shared.live.store(Some(open.current.map.clone()));
    state.changes = changes;
    state.retired.push(old.map);
    fault::point();
    Ok(true)
}
