//! The keys that come first in some order, without sorting or copying all of them.

use erlmcp_shm_reader::{Entry, Kind, View};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// What keys are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum By {
    /// Bytes of data and metadata, the largest first
    Size,
    /// Time since the last change, the longest first
    Age,
    /// Updates per second, the most first
    Updates,
}

/// An order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub by: By,
    pub reversed: bool,
}

/// One entry, as it was when all were walked.
#[derive(Clone, Debug)]
pub struct Row {
    pub kind: Kind,
    pub key: Vec<u8>,
    /// Of data and metadata.
    pub bytes: u64,
    pub version: u64,
    pub expired: bool,
    /// Updates per second, at least.
    pub rate: f64,
}

/// The first entries in an order.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// In order.
    pub rows: Vec<Row>,
    /// Of so many that are there.
    pub of: u64,
    /// So many more could not be read.
    pub unreadable: u64,
    /// What the walk over all of them took.
    pub took: Duration,
}

/// Walks over all entries and keeps the first `limit` in order; `rate` says how often one changes.
pub fn walk(
    view: &View,
    order: Order,
    limit: usize,
    mut rate: impl FnMut(&Entry<'_>) -> f64,
) -> Keys {
    let began = Instant::now();
    let mut keys = Keys::default();
    // The last of those kept is on top, to be replaced by one that comes before it.
    let mut kept: BinaryHeap<Reverse<Ranked>> = BinaryHeap::with_capacity(limit + 1);
    for entry in view.try_iter() {
        let Ok(entry) = entry else {
            keys.unreadable += 1;
            continue;
        };
        keys.of += 1;
        let bytes = (entry.data().len() + entry.metadata().len()) as u64;
        let rate = rate(&entry);
        let rank = order.rank(bytes, entry.version(), rate);
        let first = (rank, Reverse((entry.kind(), entry.key())));
        if kept.len() == limit
            && kept
                .peek()
                .is_none_or(|Reverse(last)| first <= last.place())
        {
            continue;
        }
        let row = Row {
            kind: entry.kind(),
            key: entry.key().to_vec(),
            bytes,
            version: entry.version(),
            expired: entry.is_expired(),
            rate,
        };
        kept.push(Reverse(Ranked { rank, row }));
        if kept.len() > limit {
            kept.pop();
        }
    }
    let kept = kept.into_sorted_vec().into_iter();
    keys.rows = kept.map(|Reverse(ranked)| ranked.row).collect();
    keys.took = began.elapsed();
    keys
}

impl Order {
    /// The highest comes first.
    fn rank(self, bytes: u64, version: u64, rate: f64) -> u64 {
        let rank = match self.by {
            By::Size => bytes,
            By::Age => !version,
            // Of numbers that are not negative, the bits are in the same order.
            By::Updates => rate.to_bits(),
        };
        if self.reversed { !rank } else { rank }
    }
}

struct Ranked {
    rank: u64,
    row: Row,
}

impl Ranked {
    /// By rank, and where that is the same, by key from the first to the last.
    fn place(&self) -> (u64, Reverse<(Kind, &[u8])>) {
        (self.rank, Reverse((self.row.kind, &self.row.key)))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
