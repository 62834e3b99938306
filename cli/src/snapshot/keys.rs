//! The keys that come first in some order, without sorting or copying all of them.

use erlmcp_shm_reader::{Entry, Kind, View};
use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

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
}

/// Walks over all entries once and keeps, for each of the orders, the first `limit` in it; `rate` says how often an
/// entry changes.
pub fn walk(
    view: &View,
    orders: &[Order],
    limit: usize,
    mut rate: impl FnMut(&Entry<'_>) -> f64,
) -> Vec<Keys> {
    let (mut of, mut unreadable) = (0, 0);
    let mut kept: Vec<Kept> = orders
        .iter()
        .map(|order| Kept::new(*order, limit))
        .collect();
    for entry in view.try_iter() {
        let Ok(entry) = entry else {
            unreadable += 1;
            continue;
        };
        of += 1;
        let rate = rate(&entry);
        kept.iter_mut().for_each(|kept| kept.meet(&entry, rate));
    }
    let keys = kept.into_iter().map(|kept| Keys {
        rows: kept.into_rows(),
        of,
        unreadable,
    });
    keys.collect()
}

/// The first entries in an order, of those met so far.
struct Kept {
    order: Order,
    limit: usize,
    /// The last of them is on top, to be replaced by one that comes before it.
    first: BinaryHeap<Reverse<Ranked>>,
}

impl Kept {
    fn new(order: Order, limit: usize) -> Self {
        Self {
            order,
            limit,
            first: BinaryHeap::with_capacity(limit + 1),
        }
    }

    fn meet(&mut self, entry: &Entry<'_>, rate: f64) {
        let bytes = (entry.data().len() + entry.metadata().len()) as u64;
        let rank = self.order.rank(bytes, entry.version(), rate);
        let place = (rank, Reverse((entry.kind(), entry.key())));
        let last = self.first.peek();
        if self.first.len() == self.limit && last.is_none_or(|Reverse(last)| place <= last.place())
        {
            return;
        }
        let row = Row {
            kind: entry.kind(),
            key: entry.key().to_vec(),
            bytes,
            version: entry.version(),
            expired: entry.is_expired(),
            rate,
        };
        self.first.push(Reverse(Ranked { rank, row }));
        if self.first.len() > self.limit {
            self.first.pop();
        }
    }

    fn into_rows(self) -> Vec<Row> {
        let ranked = self.first.into_sorted_vec().into_iter();
        ranked.map(|Reverse(ranked)| ranked.row).collect()
    }
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
