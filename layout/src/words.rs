//! The words of the header that move: state, change counter, heartbeat, statistics.

use crate::Latch;
use crate::header::{FIXED_SIZE, FORMAT_VERSION, HEADER_SIZE, VERSION, log_room};
use crate::sync::{AtomicU64, Ordering};

// Offsets of what moves, each on a cache line of its own.
/// Offset of the state word.
pub const STATE: usize = 128;
/// Offset of the change counter; the futex word is its low half, the first four bytes.
pub const CHANGES: usize = 192;
/// Offset of the writer's heartbeat; its interval and process id share the line.
pub const HEARTBEAT: usize = 256;
const HEARTBEAT_INTERVAL: usize = 264;
const WRITER_PID: usize = 272;
const MAX_SIZE: usize = 280;
/// Offset of the statistics latch's sequence.
pub const STATS: usize = 384;
const STATS_EVEN: usize = 448;
const STATS_ODD: usize = 576;
const STATS_WORDS: usize = 16;
const STATS_END: usize = STATS_ODD + STATS_WORDS * 8;

/// Where a generation stands in its life.
///
/// ```
/// use erlmcp_shm_layout::State;
/// assert_eq!(State::from_u64(3), Some(State::Superseded));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Being filled under a temporary name; no reader looks at it.
    Building = 1,
    /// The newest generation of its store.
    Live = 2,
    /// A newer generation stands at the path.
    Superseded = 3,
    /// The writer closed the store in good order; what it published stays readable.
    Closed = 4,
}

impl State {
    /// The state with this number, if there is one.
    pub const fn from_u64(n: u64) -> Option<State> {
        match n {
            1 => Some(State::Building),
            2 => Some(State::Live),
            3 => Some(State::Superseded),
            4 => Some(State::Closed),
            _ => None,
        }
    }
}

/// The statistics of a generation, as the latch holds them.
///
/// ```
/// use erlmcp_shm_layout::Stats;
/// let stats = Stats { live_bytes: 300, dead_bytes: 100, ..Stats::default() };
/// assert_eq!(stats.fragmentation(), 0.25);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Live entries.
    pub entries: u64,
    /// Slots in use, those of deleted keys included.
    pub used_slots: u64,
    /// Offset where the next record goes: what lies before it was published.
    pub log_tail: u64,
    /// Bytes of the records of live entries.
    pub live_bytes: u64,
    /// Bytes of the log's other records: replaced ones and tombstones.
    pub dead_bytes: u64,
    /// Bytes that tombstones for all live entries would take; the log always keeps that much free.
    pub reserved_bytes: u64,
    /// Puts since the store began.
    pub puts: u64,
    /// Deletes of present keys since the store began.
    pub deletes: u64,
    /// Generations made since the store began, the first one not counted.
    pub rollovers: u64,
    /// The highest version given out, tombstones included.
    pub version: u64,
}

impl Stats {
    /// Dead bytes over all bytes of the log's records, 0 to 1; 0 for an empty log.
    pub fn fragmentation(&self) -> f64 {
        match self.live_bytes.saturating_add(self.dead_bytes) {
            0 => 0.0,
            all => self.dead_bytes as f64 / all as f64,
        }
    }

    /// Bytes of log that the store needs to be able to compact, and so to hold what it holds: the live
    /// records twice (in a full generation as many puts again fit between two compactions) and a
    /// tombstone for each (so that deletes never fail).
    pub const fn log_needed(&self) -> u64 {
        let live = self.live_bytes.saturating_mul(2);
        live.saturating_add(self.reserved_bytes)
    }

    /// How much of what it can hold at `max_size` the store holds, 0 to 1; at 1 puts of more are
    /// refused. This, and not how far the log has been written, tells how full a store is.
    ///
    /// ```
    /// use erlmcp_shm_layout::Stats;
    /// let stats = Stats { entries: 1, live_bytes: 2 << 20, ..Stats::default() };
    /// assert!((0.39..0.41).contains(&stats.fill(10 << 20)));
    /// ```
    pub fn fill(&self, max_size: u64) -> f64 {
        let log = log_room(max_size, self.entries);
        (self.log_needed() as f64 / log.max(1) as f64).min(1.0)
    }
}

/// The words of the header that move, laid over a mapping.
#[derive(Clone, Copy, Debug)]
pub struct HeaderWords<'a>(&'a [AtomicU64; HEADER_SIZE / 8]);

impl<'a> HeaderWords<'a> {
    /// The words over the first [`HEADER_SIZE`] bytes of a mapping.
    #[inline(always)]
    pub fn new(words: &'a [AtomicU64; HEADER_SIZE / 8]) -> Self {
        Self(words)
    }

    #[inline(always)]
    fn word(&self, offset: usize) -> &'a AtomicU64 {
        &self.0[offset / 8]
    }

    /// The state; `None` for a number no writer stores.
    #[inline(always)]
    pub fn state(&self) -> Option<State> {
        // Relaxed: the mark carries no data. Whoever sees Superseded opens the path anew, and the
        // kernel orders that against the switch; who does not see it yet reads a generation
        // against which nothing newer has been returned.
        State::from_u64(self.word(STATE).load(Ordering::Relaxed))
    }

    /// Moves the generation to `state`. Writer only.
    pub fn set_state(&self, state: State) {
        // Release: what was written before (a whole generation, or the path's new name) is not
        // reordered behind the mark. The readers' side is the system call that opens the path.
        self.word(STATE).store(state as u64, Ordering::Release);
    }

    /// The change counter: rises with every publish, across generations.
    #[inline(always)]
    pub fn changes(&self) -> u64 {
        // Acquire, pairs with the Release store in `set_changes`: who sees a count also finds the
        // publish that it counts.
        self.word(CHANGES).load(Ordering::Acquire)
    }

    /// Sets the change counter. Writer only.
    #[inline(always)]
    pub fn set_changes(&self, changes: u64) {
        self.word(CHANGES).store(changes, Ordering::Release);
    }

    /// The word the change counter lives in; waiters sleep on its first four bytes.
    pub fn changes_word(&self) -> &'a AtomicU64 {
        self.word(CHANGES)
    }

    /// CLOCK_BOOTTIME in ns of the last heartbeat, 0 before the first.
    pub fn heartbeat(&self) -> u64 {
        // Relaxed, like the next ones: a time and no promise about other data.
        self.word(HEARTBEAT).load(Ordering::Relaxed)
    }

    /// Stores a heartbeat. Writer only.
    pub fn set_heartbeat(&self, now: u64) {
        self.word(HEARTBEAT).store(now, Ordering::Relaxed);
    }

    /// How often the writer means to store a heartbeat, in ms, and its process id (in its own PID
    /// namespace, for display only).
    pub fn writer(&self) -> (u64, u32) {
        let interval = self.word(HEARTBEAT_INTERVAL).load(Ordering::Relaxed);
        let pid = self.word(WRITER_PID).load(Ordering::Relaxed);
        (interval, pid as u32)
    }

    /// Stores what [`writer`](Self::writer) returns. Writer only.
    pub fn set_writer(&self, interval_ms: u64, pid: u32) {
        self.word(HEARTBEAT_INTERVAL)
            .store(interval_ms, Ordering::Relaxed);
        self.word(WRITER_PID).store(pid.into(), Ordering::Relaxed);
    }

    /// Bytes that a generation of this store may grow to, as its writer was opened.
    pub fn max_size(&self) -> u64 {
        self.word(MAX_SIZE).load(Ordering::Relaxed)
    }

    /// Stores what [`max_size`](Self::max_size) returns. Writer only.
    pub fn set_max_size(&self, bytes: u64) {
        self.word(MAX_SIZE).store(bytes, Ordering::Relaxed);
    }

    /// Live entries as the header's own count has them (the specification's field; 2^32-1 at most).
    pub fn entry_count(&self) -> u32 {
        (self.word(VERSION).load(Ordering::Relaxed) >> 32) as u32
    }

    fn stats_latch(&self) -> Latch<'a, STATS_WORDS> {
        Latch::new(self.word(STATS), &self.0[STATS_EVEN / 8..STATS_END / 8])
    }

    /// The statistics; `None` if the writer changed them during every try.
    pub fn stats(&self) -> Option<Stats> {
        let w = self.stats_latch().load()?;
        Some(Stats {
            entries: w[0],
            used_slots: w[1],
            log_tail: w[2],
            live_bytes: w[3],
            dead_bytes: w[4],
            reserved_bytes: w[5],
            puts: w[6],
            deletes: w[7],
            rollovers: w[8],
            version: w[9],
        })
    }

    /// Publishes the statistics, and the entry count with them. Writer only.
    pub fn set_stats(&self, s: &Stats) {
        let mut words = [0; STATS_WORDS];
        words[..10].copy_from_slice(&[
            s.entries,
            s.used_slots,
            s.log_tail,
            s.live_bytes,
            s.dead_bytes,
            s.reserved_bytes,
            s.puts,
            s.deletes,
            s.rollovers,
            s.version,
        ]);
        self.stats_latch().store(words);
        let count = s.entries.min(u32::MAX.into()) << 32 | u64::from(FORMAT_VERSION);
        // Relaxed: a figure for display; lookups never read it.
        self.word(VERSION).store(count, Ordering::Relaxed);
    }
}

const _: () = {
    // What readers poll has a cache line of its own, away from what is fixed.
    assert!(STATE.is_multiple_of(64) && CHANGES.is_multiple_of(64));
    assert!(HEARTBEAT.is_multiple_of(64) && STATS.is_multiple_of(64));
    assert!(STATE == FIXED_SIZE && CHANGES == STATE + 64 && HEARTBEAT == CHANGES + 64);
    assert!(HEARTBEAT_INTERVAL == HEARTBEAT + 8 && WRITER_PID == HEARTBEAT_INTERVAL + 8);
    assert!(MAX_SIZE == WRITER_PID + 8 && MAX_SIZE < HEARTBEAT + 64);
    assert!(STATS == 384 && STATS_EVEN == STATS + 64 && STATS_ODD == STATS_EVEN + STATS_WORDS * 8);
    assert!(STATS_END <= HEADER_SIZE);
};
