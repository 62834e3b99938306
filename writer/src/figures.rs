//! The figures that a writer gives of itself.

use std::time::Duration;

use erlmcp_shm_layout::Stats;

use crate::WriteError;
use crate::generation::{Generation, Mapped};
use crate::shared::Shared;
use crate::sys;
use std::sync::atomic::Ordering;

/// What a writer is doing.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let writer = erlmcp_shm_writer::Writer::options().open(dir.path().join("s"))?;
/// assert_eq!(writer.stats().phase, erlmcp_shm_writer::Phase::Live);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Taking puts.
    Live,
    /// Taking puts while the next generation is built.
    Building,
    /// A panic interrupted an operation: open the store again.
    Failed,
    /// Closed.
    Closed,
}

/// The figures of a writer, of one instant.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// let writer = erlmcp_shm_writer::Writer::options().size(1 << 20).open(dir.path().join("s"))?;
/// let stats = writer.stats();
/// assert_eq!((stats.size, stats.stats.entries), (1 << 20, 0));
/// assert!(stats.fill() < 0.01);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WriterStats {
    /// Bytes of the current generation's file.
    pub size: u64,
    /// Bytes that one generation may grow to.
    pub max_size: u64,
    /// What the header's statistics say.
    pub stats: Stats,
    /// Number of the current generation.
    pub generation: u64,
    /// 128 random bits of the store.
    pub store_id: [u8; 16],
    /// Slots of the index; half of them can be used.
    pub slot_count: u64,
    /// Bytes of the log.
    pub log_bytes: u64,
    /// Bytes of the log that records take.
    pub log_used: u64,
    /// What the writer is doing.
    pub phase: Phase,
    /// Bytes of the file, from its start, that have 2 MiB pages.
    pub huge_bytes: u64,
    /// Since the last heartbeat.
    pub heartbeat_age: Duration,
    /// Why the last build of a generation failed, if it did.
    pub last_build_error: Option<WriteError>,
    /// Whether the last heartbeat found the file at the path removed or replaced: readers may not see
    /// what is put.
    pub path_lost: bool,
    /// Damaged places that the recovery at open met before the published tail.
    pub damaged: u64,
}

impl WriterStats {
    /// Reads them, without the writer's lock.
    pub(crate) fn of(shared: &Shared, live: &Mapped) -> Self {
        let stats = loop {
            if let Some(stats) = live.words().stats() {
                break stats;
            }
        };
        Self::new(shared, live, stats, live.words().heartbeat())
    }

    /// Those that this process has counted, without a look at the file. Of no heartbeat.
    pub(crate) fn counted(shared: &Shared, current: &Generation) -> Self {
        Self::new(shared, &current.map, current.stats, 0)
    }

    fn new(shared: &Shared, live: &Mapped, stats: Stats, heartbeat: u64) -> Self {
        let header = &live.header;
        let phase = if shared.failed() {
            Phase::Failed
        } else if shared.building.load(Ordering::Relaxed) {
            Phase::Building
        } else {
            Phase::Live
        };
        let age = sys::boottime_now().saturating_sub(heartbeat);
        WriterStats {
            size: header.file_size,
            max_size: shared.limits.max_size,
            stats,
            generation: header.generation,
            store_id: header.store_id,
            slot_count: header.slot_count,
            log_bytes: header.file_size - header.log_offset(),
            log_used: stats.log_tail - header.log_offset(),
            phase,
            huge_bytes: live.huge.load(Ordering::Relaxed),
            heartbeat_age: Duration::from_nanos(age),
            last_build_error: *shared.last_build_error.lock(),
            path_lost: shared.path_lost.load(Ordering::Relaxed),
            damaged: shared.damaged,
        }
    }

    /// How much of what it can hold at `max_size` the store holds, 0 to 1; at 1 puts of more are refused.
    pub fn fill(&self) -> f64 {
        self.stats.fill(self.max_size)
    }
}
