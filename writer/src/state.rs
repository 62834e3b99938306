//! What the writer's lock guards, and the publish itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_shm_layout::{Attributes, Kind, MAX_KEY, Record, RecordShape};

use crate::WriteError;
use crate::build::Build;
use crate::fault;
use crate::generation::{Generation, Mapped, Pending};
use crate::sizing::{Demand, Limits, Trigger};
use crate::sys::LockFile;

/// One change to the store.
///
/// ```
/// use erlmcp_shm_writer::{Kind, Op, Writer};
/// # let dir = tempfile::tempdir()?;
/// let writer = Writer::options().open(dir.path().join("store"))?;
/// writer.put_batch(&[
///     Op::Put { kind: Kind::Resource, key: b"a", data: b"1", metadata: b"{}", attributes: Default::default() },
///     Op::Delete { kind: Kind::Resource, key: b"b" },
/// ])?;
/// assert_eq!(writer.stats().stats.entries, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Publish an entry, or its next version.
    Put {
        /// Name space of the key.
        kind: Kind,
        /// 1 to 65535 bytes.
        key: &'a [u8],
        /// The bytes to publish.
        data: &'a [u8],
        /// JSON text.
        metadata: &'a [u8],
        /// Expiry and scope.
        attributes: Attributes,
    },
    /// Delete an entry, if it is there.
    Delete {
        /// Name space of the key.
        kind: Kind,
        /// 1 to 65535 bytes.
        key: &'a [u8],
    },
}

impl<'a> Op<'a> {
    pub(crate) fn key(&self) -> (Kind, &'a [u8]) {
        match *self {
            Op::Put { kind, key, .. } | Op::Delete { kind, key } => (kind, key),
        }
    }

    /// What can be said without looking at the store.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), WriteError> {
        let (_, key) = self.key();
        if key.is_empty() {
            return Err(WriteError::EmptyKey);
        }
        if key.len() > MAX_KEY {
            return Err(WriteError::KeyTooLarge);
        }
        if let Op::Put { data, metadata, .. } = self {
            let longest = data.len().max(metadata.len()) as u64;
            // Short-circuits: the shape of longer ones is not computed.
            if longest > u64::from(u32::MAX) || self.is_ruled_out(limits) {
                return Err(WriteError::TooLarge);
            }
        }
        Ok(())
    }

    fn is_ruled_out(&self, limits: &Limits) -> bool {
        let (_, key) = self.key();
        let tombstone = RecordShape::tombstone(key.len() as u16);
        limits.rules_out(self.record_bytes(), tombstone)
    }

    fn record(&self, version: u64) -> Record<'a> {
        let (kind, key) = self.key();
        let deleted = Record {
            kind,
            version,
            tombstone: true,
            attributes: Attributes::default(),
            key,
            data: b"",
            metadata: b"",
        };
        match *self {
            Op::Delete { .. } => deleted,
            Op::Put {
                data,
                metadata,
                attributes,
                ..
            } => Record {
                tombstone: false,
                attributes,
                data,
                metadata,
                ..deleted
            },
        }
    }

    /// Bytes of the record that this makes.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.record(0).shape().total
    }
}

/// How long a failed build keeps others from being tried that nobody waits for.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How an attempt under the lock ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Published, under this version; `None`: a delete of an absent key, nothing to do.
    Done(Option<u64>),
    /// Log or index are full: a next generation has to come first that meets this demand.
    NoRoom(Demand),
}

/// Everything behind the writer's lock.
pub struct State {
    /// `None` once closed.
    pub open: Option<Open>,
    /// Somebody asked for a build that has not begun.
    pub request: Option<Demand>,
    /// Builds that ended, well or not; waiters compare it.
    pub builds_ended: u64,
    /// How the last one ended.
    pub build_error: Option<WriteError>,
    /// After a build failed, builds that nobody waits for are put off until then.
    pub retry_at: Option<Instant>,
    pub version: u64,
    pub changes: u64,
    /// Old generations, until nobody uses their mappings any more.
    pub retired: Vec<Arc<Mapped>>,
    /// The builder thread has ended.
    pub builder_gone: bool,
}

/// What an open writer has.
pub struct Open {
    pub current: Generation,
    pub trigger: Trigger,
    /// The generation being built, from the moment it takes puts.
    pub build: Option<Build>,
    pub lock: LockFile,
}

impl State {
    /// Publishes one change, into the generation being built as well. Everything is checked before
    /// the first byte is written, so a change that failed cannot come back in a recovery. The caller
    /// [announces](Self::announce) it before it lets go of the lock.
    pub fn apply(&mut self, op: &Op<'_>, limits: &Limits) -> Result<Step, WriteError> {
        let Open { current, build, .. } = self.open.as_mut().ok_or(WriteError::Closed)?;
        let Generation { map, stats } = current;
        let (kind, key) = op.key();
        let hash = map.hash(kind, key);
        map.fetch_slot(hash);
        let record = op.record(self.version + 1);
        // Where there is room in any case, the record is written while its slot and the old one's key are
        // on their way from memory: those misses are most of what a put costs.
        let early = !record.tombstone && build.is_none() && map.has_room(stats, limits, &record);
        map.fetch_old_key(hash, key.len() as u16);
        let early = early.then(|| map.append(&record));
        fault::point();
        let place = map.place(kind, key, hash);
        if record.tombstone && place.live().is_none() {
            return Ok(Step::Done(None));
        }
        let mut after = place.after(stats, &record);
        // What the change adds to the live records, beside what it replaces.
        let demand = Demand {
            bytes: record.shape().total + after.reserved_bytes.saturating_sub(stats.reserved_bytes),
            keys: after.entries.saturating_sub(stats.entries),
        };
        let claim = match early {
            Some(claim) if place.is_reachable() => claim,
            // The index is full there.
            Some(claim) => {
                claim.retract();
                return Ok(Step::NoRoom(demand));
            }
            None => {
                let total = record.shape().total;
                if !record.tombstone && !limits.admit(stats, &after, total) {
                    return Err(WriteError::NoSpace);
                }
                // A delete always fits: its tombstone's room is kept free, and its slot is there.
                if !place.is_reachable() || !map.fits(&after, &Pending::default()) {
                    return Ok(Step::NoRoom(demand));
                }
                if let Some(build) = build
                    && !build.take(op, &record, after.reserved_bytes)
                {
                    if !record.tombstone {
                        return Ok(Step::NoRoom(demand));
                    }
                    // It must not fail for the sake of a build: that one is begun again.
                    build.aborted = true;
                }
                map.append(&record)
            }
        };
        fault::point();
        map.publish(&place, &record, claim);
        fault::point();
        after.version = record.version;
        *stats = after;
        self.version = record.version;
        self.changes += 1;
        fault::point();
        Ok(Step::Done(Some(record.version)))
    }

    /// Starts to fetch the slot of a change to come.
    pub fn fetch_slot(&self, op: &Op<'_>) {
        self.fetch(op, |map, hash, _| map.fetch_slot(hash));
    }

    /// Starts to fetch the key that a change to come replaces, once its slot was asked for.
    pub fn fetch_old_key(&self, op: &Op<'_>) {
        self.fetch(op, Mapped::fetch_old_key);
    }

    fn fetch(&self, op: &Op<'_>, what: impl Fn(&Mapped, u64, u16)) {
        if let Some(open) = &self.open {
            let (kind, key) = op.key();
            let map = &open.current.map;
            what(map, map.hash(kind, key), key.len() as u16);
        }
    }

    /// Makes the figures of what was changed visible, and the change counter.
    pub fn announce(&self) {
        if let Some(open) = &self.open {
            open.current.announce(self.changes);
        }
    }

    /// Whether a build should begin although nobody waits for one.
    pub fn build_is_due(&self, limits: &Limits) -> bool {
        let due = |open: &Open| open.trigger.is_due(limits, &open.current.stats);
        self.request.is_none() && self.open.as_ref().is_some_and(due) && !self.backs_off()
    }

    /// Whether a build failed so lately that none should be tried that nobody waits for.
    pub fn backs_off(&self) -> bool {
        self.retry_at.is_some_and(|at| Instant::now() < at)
    }
}
