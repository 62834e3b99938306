//! When a new generation is due, how large it gets, and what the store can hold at all.
//!
//! A store must be able to compact: the live records, once more the live records (so that a full
//! generation of puts fits between two compactions), and a tombstone for every live key (so that
//! deletes never fail) have to fit into a log of `max_size`.

use erlmcp_shm_layout::{
    HEADER_SIZE, Header, MIN_FILE_SIZE, MIN_SLOTS, SLOT_SIZE, Stats, least_slots, log_room,
};

/// Dead bytes below which fragmentation alone starts no compaction.
const DEAD_MIN: u64 = 1 << 20;
const PAGE: u64 = 4096;
const HUGE: u64 = 2 << 20;

/// The sizes a store was opened with, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of the first generation, and the least a later one gets.
    pub size: u64,
    /// Of any one generation.
    pub max_size: u64,
}

/// The geometry of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub file_size: u64,
    pub slot_count: u64,
}

/// What a waiting put needs on top of what is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    pub bytes: u64,
    pub keys: u64,
}

const fn overhead(slots: u64) -> u64 {
    HEADER_SIZE as u64 + slots * SLOT_SIZE as u64
}

/// The index of a first generation, when nothing is known but its size: a sixteenth of it at most.
const fn slots_by_size(file_size: u64) -> u64 {
    let slots = file_size / 1024;
    if slots <= MIN_SLOTS {
        MIN_SLOTS
    } else {
        1 << slots.ilog2()
    }
}

impl Limits {
    /// Whether the store can hold `after`, reached from `before` by a record of `record` bytes.
    pub fn admit(&self, before: &Stats, after: &Stats, record: u64) -> bool {
        let log = log_room(self.max_size, after.entries);
        // A store that was opened with too small a limit lets in what makes it no fuller.
        let no_fuller = before.log_needed() > log
            && after.entries <= before.entries
            && after.live_bytes <= before.live_bytes;
        let holds =
            after.log_needed() <= log && before.live_bytes + record + after.reserved_bytes <= log;
        holds || no_fuller
    }

    /// Whether even an empty store could not hold a record of these sizes.
    pub fn rules_out(&self, record: u64, tombstone: u64) -> bool {
        2 * record + tombstone > log_room(self.max_size, 1)
    }

    /// The first generation: exactly `size`, where the live records leave room in that.
    pub fn first(&self, live: &Stats) -> Plan {
        let plan = Plan {
            file_size: self.size,
            slot_count: slots_by_size(self.size),
        };
        let log = self.size - overhead(plan.slot_count);
        let roomy = live.log_needed() <= log && 2 * least_slots(live.entries) <= plan.slot_count;
        if roomy || live.entries == 0 {
            plan
        } else {
            self.next(live, Demand::default())
        }
    }

    /// The next generation: room for four times the live records, within `max_size`, and never less
    /// than what is live (a store opened with a smaller `max_size` than before stays readable). Its index
    /// is for four times the live keys at least, whatever their values' size: how many there are is known.
    pub fn next(&self, live: &Stats, demand: Demand) -> Plan {
        let needed = live.log_needed() + demand.bytes;
        let wanted = 2 * live.live_bytes + needed + demand.bytes;
        let least_slots = least_slots(live.entries + demand.keys);
        let mut slot_count = 2 * least_slots;
        let mut file_size = round_up(overhead(slot_count) + wanted).max(self.size);
        if file_size > self.max_size {
            file_size = self.max_size;
            while slot_count > least_slots && overhead(slot_count) + needed > file_size {
                slot_count /= 2;
            }
        } else if file_size < overhead(slot_count) + wanted {
            file_size = round_up(overhead(slot_count) + wanted).min(self.max_size);
        }
        file_size = file_size.max(self.least(live, demand).file_size);
        Plan {
            file_size,
            slot_count,
        }
    }

    /// The smallest generation that serves: for a file system with no room for the one wanted. Within
    /// `max_size`, unless what is there already takes more.
    pub fn least(&self, live: &Stats, demand: Demand) -> Plan {
        let slot_count = least_slots(live.entries + demand.keys);
        let must = live.live_bytes + live.reserved_bytes + demand.bytes;
        let bytes = (overhead(slot_count) + must).max(MIN_FILE_SIZE);
        Plan {
            file_size: bytes.next_multiple_of(PAGE).min(self.max_size.max(bytes)),
            slot_count,
        }
    }
}

fn round_up(bytes: u64) -> u64 {
    bytes.next_multiple_of(if bytes >= HUGE { HUGE } else { PAGE })
}

impl Plan {
    /// The geometry of a generation that exists.
    pub fn of(header: &Header) -> Self {
        Self {
            file_size: header.file_size,
            slot_count: header.slot_count,
        }
    }

    /// Bytes a log of this geometry has left with these records in it, the tombstones' reserve kept.
    fn free(&self, live_bytes: u64, reserved: u64) -> u64 {
        let taken = overhead(self.slot_count) + live_bytes + reserved;
        self.file_size.saturating_sub(taken)
    }
}

/// Whether half of what was written is dead, and enough to be worth a compaction once there is time.
pub fn is_fragmented(stats: &Stats) -> bool {
    stats.dead_bytes > DEAD_MIN && stats.dead_bytes >= stats.live_bytes
}

/// Decides whether to start building the next generation before anybody has to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct Trigger {
    plan: Plan,
    born_free: u64,
    born_used: u64,
}

impl Trigger {
    /// For a generation that starts its life with `stats`.
    pub fn new(header: &Header, stats: &Stats) -> Self {
        let plan = Plan::of(header);
        Self {
            plan,
            born_free: free_now(&plan, stats),
            born_used: stats.used_slots,
        }
    }

    /// Whether a build is due now, before a put has to wait for one.
    pub fn is_due(&self, limits: &Limits, stats: &Stats) -> bool {
        self.log_low(limits, stats) || self.index_low(stats)
    }

    fn log_low(&self, limits: &Limits, stats: &Stats) -> bool {
        let free = free_now(&self.plan, stats);
        let low = (self.plan.file_size / 4).max(stats.live_bytes);
        if free >= low.min(self.born_free / 2) {
            return false;
        }
        // Full of live records at its largest: building anew would gain nothing yet.
        let next = limits.next(stats, Demand::default());
        let gained = next.free(stats.live_bytes, stats.reserved_bytes);
        gained > free + self.plan.file_size / 16
    }

    fn index_low(&self, stats: &Stats) -> bool {
        let full = self.plan.slot_count / 2;
        let mark = (3 * self.plan.slot_count / 8).max((self.born_used + full) / 2);
        stats.used_slots > mark
    }
}

/// Bytes the log has left for puts.
fn free_now(plan: &Plan, stats: &Stats) -> u64 {
    plan.file_size
        .saturating_sub(stats.log_tail + stats.reserved_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn live(entries: u64, live_bytes: u64, reserved_bytes: u64) -> Stats {
        Stats {
            entries,
            used_slots: entries,
            live_bytes,
            reserved_bytes,
            ..Stats::default()
        }
    }

    #[test]
    fn the_first_generation_is_as_long_as_asked() {
        let limits = Limits {
            size: 10_485_760,
            max_size: 83_886_080,
        };
        let plan = limits.first(&Stats::default());
        assert_eq!((plan.file_size, plan.slot_count), (10_485_760, 8192));
    }

    #[test]
    fn a_full_store_at_its_largest_is_not_built_again_for_nothing() {
        let limits = Limits {
            size: 1 << 20,
            max_size: 1 << 20,
        };
        let plan = limits.next(&live(100, 400_000, 8_000), Demand::default());
        let mut stats = live(100, 400_000, 8_000);
        stats.log_tail = overhead(plan.slot_count) + 400_000;
        let header = Header::new(plan.file_size, plan.slot_count).unwrap();
        let trigger = Trigger::new(&header, &stats);
        assert!(!trigger.is_due(&limits, &stats));
        stats.log_tail = plan.file_size - 10_000;
        assert!(!trigger.log_low(
            &limits,
            &Stats {
                live_bytes: 980_000,
                ..stats
            }
        ));
        assert!(trigger.is_due(&limits, &stats));
    }

    proptest! {
        /// Whatever was admitted fits the generation planned for it, with room for the next put,
        /// and every plan is a valid geometry.
        #[test]
        fn what_is_admitted_fits(
            entries in 1u64..200_000,
            each in 56u64..4096,
            record in 56u64..1 << 22,
            tightness in 0u64..100,
            factor in 1u64..16,
        ) {
            // From just enough for what is there to plenty.
            let before = live(entries, entries * each, entries * 56);
            let after = live(entries + 1, before.live_bytes + record, before.reserved_bytes + 56);
            let log = after.log_needed().max(before.live_bytes + record + after.reserved_bytes);
            let enough = overhead(least_slots(entries + 1)) + log;
            let max_size = enough + enough * tightness / 50;
            let max_size = max_size.max(8192);
            let limits = Limits { size: (max_size / factor).max(8192), max_size };
            prop_assert!(limits.admit(&before, &after, record));
            let demand = Demand { bytes: record + 56, keys: 1 };
            let plan = limits.next(&before, demand);
            prop_assert!(Header::new(plan.file_size, plan.slot_count).is_some());
            prop_assert!(plan.file_size <= limits.max_size);
            prop_assert!(plan.free(before.live_bytes, before.reserved_bytes) >= demand.bytes);
            prop_assert!(plan.slot_count >= 2 * (entries + 1));
            let least = limits.least(&before, demand);
            prop_assert!(least.file_size <= plan.file_size);
            prop_assert!(least.free(before.live_bytes, before.reserved_bytes) >= demand.bytes);
        }

        #[test]
        fn a_store_too_large_for_its_new_limit_still_opens(entries in 1u64..100_000) {
            let limits = Limits { size: 8192, max_size: 8192 };
            let stats = live(entries, entries * 1000, entries * 64);
            let plan = limits.first(&stats);
            prop_assert!(Header::new(plan.file_size, plan.slot_count).is_some());
            let taken = overhead(plan.slot_count) + stats.live_bytes + stats.reserved_bytes;
            prop_assert!(plan.file_size >= taken);
        }
    }
}
