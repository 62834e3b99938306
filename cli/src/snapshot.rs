//! What can be seen of a store at one moment, and what followed from the moments before: for whoever
//! watches it.
//!
//! A sample reads a few words of the header, whatever the store holds. The keys are another matter: to
//! know the largest of them all have to be walked, so that is done apart, and never for more than a
//! twentieth of the time.

mod history;
mod keys;
mod rate;
mod scrape;
mod survey;
#[cfg(test)]
mod tests;
mod watched;

pub use history::Changed;
pub use keys::{By, Keys, Order, Row};
pub use scrape::{Scraper, Tiers, http_url};
pub use watched::{Watched, exists};

use erlmcp_shm_reader::{Liveness, ReadError, StoreStats, Verdict};
use history::History;
use std::sync::Arc;
use std::time::{Duration, Instant};
use survey::Survey;

/// Of 20 moments, the walk over all keys takes one.
const DUTY: u32 = 20;

/// A store at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub taken: Instant,
    pub store: Result<Figures, ReadError>,
    /// As of the last walk, which may be a while ago.
    pub keys: Arc<Keys>,
    /// When each of them changed, in their order.
    pub changed: Arc<[Changed]>,
    /// How long nothing has changed since the walk.
    idle: Duration,
}

impl Snapshot {
    /// Updates per second of one of the keys, by now.
    pub fn rate(&self, row: &Row) -> f64 {
        row.rate * rate::decay(self.idle)
    }
}

/// Figures of the store, and of its writer.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub entries: u64,
    pub live_bytes: u64,
    pub dead_bytes: u64,
    pub generation: u64,
    pub size: u64,
    pub log_used: u64,
    pub log_capacity: u64,
    pub max_size: u64,
    /// How much of what it can hold at `max_size` the store holds, 0 to 1.
    pub fill: f64,
    pub counters: Counters,
    pub writer: Verdict,
    /// 0 if unknown.
    pub pid: u32,
    pub heartbeat_age: Option<Duration>,
    /// Between this sample and the one before; `None` where they cannot be compared.
    pub rates: Option<Rates>,
}

/// What only ever rises within one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    store_id: [u8; 16],
    version: u64,
    pub puts: u64,
    pub deletes: u64,
    pub rollovers: u64,
}

/// Per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub puts: f64,
    pub deletes: f64,
    pub rollovers: f64,
}

impl Figures {
    fn new(stats: &StoreStats, liveness: &Liveness) -> Self {
        Self {
            entries: stats.entries,
            live_bytes: stats.live_bytes,
            dead_bytes: stats.dead_bytes,
            generation: stats.generation,
            size: stats.size,
            log_used: stats.log_used,
            log_capacity: stats.log_capacity,
            max_size: stats.max_size,
            fill: stats.fill,
            counters: Counters {
                store_id: stats.store_id,
                version: stats.version,
                puts: stats.puts,
                deletes: stats.deletes,
                rollovers: stats.rollovers,
            },
            writer: liveness.verdict(),
            pid: liveness.writer_pid,
            heartbeat_age: liveness.heartbeat_age,
            rates: None,
        }
    }
}

impl Counters {
    /// What happened per second since `before`, if both are of one store.
    fn since(&self, before: &Self, time: Duration) -> Option<Rates> {
        if before.store_id != self.store_id || time.is_zero() {
            return None;
        }
        let rate =
            |now: u64, before: u64| Some(now.checked_sub(before)? as f64 / time.as_secs_f64());
        Some(Rates {
            puts: rate(self.puts, before.puts)?,
            deletes: rate(self.deletes, before.deletes)?,
            rollovers: rate(self.rollovers, before.rollovers)?,
        })
    }
}

/// What rates are counted from.
struct Noted {
    at: Instant,
    counters: Counters,
    /// Those up to here.
    rates: Option<Rates>,
}

/// The last walk over all keys.
struct Walk {
    at: Instant,
    /// Of the store.
    version: u64,
    store_id: [u8; 16],
    /// When the next one may be.
    again: Instant,
    /// What it found, for each order.
    found: Vec<Found>,
}

/// The first keys in an order, and when each of them changed.
type Found = (Arc<Keys>, Arc<[Changed]>);

impl Walk {
    /// Not before its time, and only if there is something new.
    fn is_over(&self, counters: &Counters, now: Instant) -> bool {
        let same = (self.version, self.store_id) == (counters.version, counters.store_id);
        now >= self.again && !same
    }
}

/// Takes one sample after the other.
pub struct Sampler {
    store: Watched,
    /// Rates are of this long at least, however often somebody asks.
    span: Duration,
    last: Option<Noted>,
    history: History,
    survey: Survey,
    walk: Option<Walk>,
    orders: Vec<Order>,
    limit: usize,
}

impl Sampler {
    /// For samples at this interval, and others between them. Of the keys, the first `limit` in each of the orders are
    /// kept.
    pub fn new(store: Watched, orders: &[Order], limit: usize, interval: Duration) -> Self {
        Self {
            store,
            // Sleeps are not exact.
            span: interval * 9 / 10,
            last: None,
            history: History::default(),
            survey: Survey::default(),
            walk: None,
            orders: orders.into(),
            limit,
        }
    }

    /// Figures as they are now, to be compared with those of later. The keys are let alone.
    pub fn note(&mut self) -> Result<Figures, ReadError> {
        let now = Instant::now();
        let looked = self.store.look();
        if looked.is_err() {
            // Another store may be there next, or the same one again: nothing is compared across the gap.
            self.last = None;
            self.walk = None;
            self.survey.forget();
        }
        let (stats, liveness) = looked?;
        let mut figures = Figures::new(&stats, &liveness);
        let counters = figures.counters;
        self.history.note(counters.store_id, counters.version, now);
        figures.rates = match &self.last {
            Some(last)
                if now - last.at < self.span && last.counters.store_id == counters.store_id =>
            {
                last.rates
            }
            last => {
                let rates = last
                    .as_ref()
                    .and_then(|last| counters.since(&last.counters, now - last.at));
                self.last = Some(Noted {
                    at: now,
                    counters,
                    rates,
                });
                rates
            }
        };
        Ok(figures)
    }

    /// The store as it is now, its keys in the first of the orders.
    pub fn sample(&mut self) -> Snapshot {
        self.sample_by(0)
    }

    /// The store as it is now, its keys in the order of that number.
    pub fn sample_by(&mut self, order: usize) -> Snapshot {
        let store = self.note();
        let now = Instant::now();
        if let Ok(figures) = &store {
            self.walk_if_due(&figures.counters, now);
        }
        let unchanged = |walk: &&Walk| {
            store
                .as_ref()
                .is_ok_and(|s| s.counters.version == walk.version)
        };
        let walk = self.walk.as_ref();
        let (keys, changed) = walk
            .map(|walk| walk.found[order].clone())
            .unwrap_or_default();
        let idle = walk.filter(unchanged).map(|walk| now - walk.at);
        Snapshot {
            taken: now,
            keys,
            changed,
            idle: idle.unwrap_or_default(),
            store,
        }
    }

    /// What order alone the keys of later samples are in.
    pub fn set_order(&mut self, order: Order) {
        if self.orders != [order] {
            self.orders = vec![order];
            self.walk_next();
        }
    }

    /// Has the keys walked for the next sample, whatever that costs.
    pub fn walk_next(&mut self) {
        self.walk = None;
    }

    /// A store that does not change is walked once.
    fn walk_if_due(&mut self, counters: &Counters, now: Instant) {
        let due = self
            .walk
            .as_ref()
            .is_none_or(|last| last.is_over(counters, now));
        if !due {
            return;
        }
        let Ok(view) = self.store.view() else {
            return;
        };
        let keys = self.survey.keys(&view, &self.orders, self.limit, now);
        let found = keys.into_iter().map(|keys| {
            let rows = keys.rows.iter();
            let changed = rows.map(|row| self.history.when(row.version, now));
            let changed = changed.collect();
            (Arc::new(keys), changed)
        });
        self.walk = Some(Walk {
            at: now,
            version: counters.version,
            store_id: counters.store_id,
            found: found.collect(),
            again: now + now.elapsed() * DUTY,
        });
    }
}
