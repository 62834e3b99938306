//! Opening a store: the lock, what an earlier writer left, and the first generation of this one.

use std::path::Path;
use std::sync::Arc;

use erlmcp_shm_layout::HeaderWords;
use rustix::io::Errno;

use crate::generation::{Generation, Identity, Mapped};
use crate::recovery::{self, Inventory, Remains};
use crate::shared::Shared;
use crate::sizing::{Demand, Limits, Trigger};
use crate::state::{Open, State};
use crate::sys::{self, FileId, LockFile};
use crate::{Options, Recover, WriteError, Writer, build};

impl Writer {
    pub(crate) fn open(path: &Path, options: &Options) -> Result<Self, WriteError> {
        let limits = options.limits()?;
        if cfg!(not(all(
            target_endian = "little",
            target_pointer_width = "64"
        ))) {
            return Err(WriteError::Unsupported);
        }
        // A later change of the working directory must not move the store.
        let path = std::path::absolute(path).map_err(|_| WriteError::BadOption("path"))?;
        // What is not a store of ours gets no lock file beside it.
        unless_cleared(options, recovery::examine(&path))?;
        let lock = LockFile::acquire(&path, options.lock_wait)?;
        let found = recovery::open(&path);
        let is_damaged = matches!(found, Err(WriteError::Corrupt(_)));
        let remains = unless_cleared(options, found)?;
        let unreadable = match is_damaged {
            true => recovery::unreadable(&path)?,
            false => None,
        };
        recovery::sweep(&path, remains.as_ref())?;
        let damaged = unreadable.as_ref().map(|found| found.id);
        let (current, changes, damaged, old) = start(&path, options, &limits, remains, damaged)?;
        if let Some(region) = unreadable.and_then(|found| found.header) {
            let counted = HeaderWords::new(region.header_words()).changes();
            recovery::supersede(&region, counted.wrapping_add(1));
        }
        let state = State {
            version: current.stats.version,
            open: Some(Open {
                trigger: Trigger::new(&current.map.header, &current.stats),
                current,
                build: None,
                lock,
            }),
            changes,
            request: None,
            builds_ended: 0,
            build_error: None,
            retry_at: None,
            retired: old.map(Arc::new).into_iter().collect(),
            builder_gone: false,
        };
        let interval = options.heartbeat_interval;
        let shared = Shared::new(path, limits, options.mode, interval, state, damaged);
        let shared = Arc::new(shared);
        let theirs = shared.clone();
        let builder = std::thread::Builder::new()
            .name("erlmcp-shm-build".into())
            .spawn(move || build::run(&theirs))
            .map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::AGAIN))?;
        Ok(Self::new(shared, builder))
    }
}

/// What was found, or nothing where it is damaged and is to be cleared anyway: then there is nothing to
/// keep.
fn unless_cleared<T>(
    options: &Options,
    found: Result<Option<T>, WriteError>,
) -> Result<Option<T>, WriteError> {
    match found {
        Err(WriteError::Corrupt(_)) if options.recover == Recover::Clear => Ok(None),
        found => found,
    }
}

/// The generation that a writer begins with, standing at the path in the place of what was found there (it
/// may have been unreadable); its change counter; how many damaged places there were; and the mapping of the
/// old generation.
fn start(
    path: &Path,
    options: &Options,
    limits: &Limits,
    mut remains: Option<Remains>,
    unreadable: Option<FileId>,
) -> Result<(Generation, u64, u64, Option<Mapped>), WriteError> {
    let keep = options.recover == Recover::Keep;
    let inventory = match &remains {
        Some(remains) if keep => remains.take_inventory(),
        Some(remains) => Inventory::empty(remains.figures()),
        None => Inventory::default(),
    };
    let store_id = match &remains {
        Some(remains) if keep => remains.map.header.store_id,
        _ => sys::random()?,
    };
    let generation = |r: &Remains| r.map.header.generation + 1;
    let identity = Identity {
        store_id,
        generation: remains.as_ref().map_or(1, generation),
    };
    let live = &inventory.stats;
    let first = limits.first(live);
    // A new store is as large as asked or not made; one that holds something comes up all the same.
    let plans = match live.entries {
        0 => [first, first],
        _ => [first, limits.least(live, Demand::default())],
    };
    let changes = remains.as_ref().map_or(0, Remains::changes) + 1; // far below its limit
    let rollovers = live.rollovers + u64::from(remains.is_some());
    loop {
        let name = sys::temporary_name(path, identity.generation)?;
        let temporary = build::Temporary(&name);
        let map = match Mapped::create(&name, plans, options.mode, identity, live.live_bytes) {
            Err(error) if error.is_no_room() && live.entries == 0 && remains.is_some() => {
                // Nothing to keep: the old file makes room for the new one.
                remains.take().expect("just seen").discard(path, changes);
                continue;
            }
            map => map?,
        };
        let mut current = Generation::new(map, live);
        if let Some(remains) = &remains
            && !remains.copy_into(&inventory, &mut current)
        {
            continue; // the next one has another seed
        }
        current.stats.rollovers = rollovers;
        let interval = options.heartbeat_interval.as_millis() as u64;
        current.go_live(changes, interval, limits.max_size);
        let old = remains.as_ref().map(|remains| remains.map.id);
        let old_name = sys::place(temporary.0, path, old.or(unreadable))
            .inspect_err(|_| recovery::supersede(&current.map.region, changes))?;
        if let Some(remains) = &remains {
            remains.supersede(changes);
        }
        if let Some(name) = old_name {
            let _ = rustix::fs::unlink(&name);
        }
        let old = remains.map(|remains| remains.map);
        return Ok((current, changes, inventory.damaged, old));
    }
}
