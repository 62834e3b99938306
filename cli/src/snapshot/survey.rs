//! How often each key changes: found out by walking over all entries again and again.
//!
//! Between two walks, an entry whose version is another one has changed, and how often says the number of
//! its publishes in this generation. Of what happened in a generation that came and went between, nothing
//! is known: rates are what there was at least.

use super::keys::{Keys, Order, walk};
use super::rate::{Rate, decay};
use erlmcp_shm_reader::{Entry, View};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

/// So many keys are followed, at 64 bytes each; those beyond have no rate.
const FOLLOWED: usize = 1 << 20;

/// What the walks before found.
#[derive(Default)]
pub struct Survey {
    store_id: [u8; 16],
    generation: u64,
    began: Option<Instant>,
    last: Option<Instant>,
    walks: u64,
    /// By the hash of kind and key.
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
}

struct Seen {
    version: u64,
    publishes: u64,
    rate: Rate,
    walk: u64,
}

impl Survey {
    /// The first `limit` keys in each of the orders, after a walk over all.
    pub fn keys(&mut self, view: &View, orders: &[Order], limit: usize, now: Instant) -> Vec<Keys> {
        if self.store_id != view.store_id() {
            self.forget();
            self.store_id = view.store_id();
        }
        self.walks += 1;
        let same_generation = self.generation == view.generation();
        self.generation = view.generation();
        // What a fresh average lacks because it was zero before anybody looked.
        let watched = now - *self.began.get_or_insert(now);
        let warm = 1.0 - decay(watched);
        let keys = walk(view, orders, limit, |entry| {
            let rate = self.follow(view, entry, same_generation, now);
            if warm > 0.0 { rate / warm } else { 0.0 }
        });
        if keys.iter().all(|keys| keys.unreadable == 0) {
            let walk = self.walks;
            self.seen.retain(|_, seen| seen.walk == walk);
        }
        self.last = Some(now);
        keys
    }

    pub fn forget(&mut self) {
        self.began = None;
        self.last = None;
        self.seen.clear();
    }

    fn follow(
        &mut self,
        view: &View,
        entry: &Entry<'_>,
        same_generation: bool,
        now: Instant,
    ) -> f64 {
        let (kind, key, version) = (entry.kind(), entry.key(), entry.version());
        let publishes = || view.publishes(kind, key).ok().flatten().unwrap_or(1);
        let id = self.hasher.hash_one((kind as u8, key));
        let full = self.seen.len() >= FOLLOWED;
        let Some(seen) = self.seen.get_mut(&id) else {
            if full {
                return 0.0;
            }
            let mut rate = Rate::new(now);
            if let Some(last) = self.last {
                rate.add(1, now - last, now);
            }
            let seen = Seen {
                version,
                publishes: publishes(),
                rate,
                walk: self.walks,
            };
            self.seen.insert(id, seen);
            return rate.at(now);
        };
        seen.walk = self.walks;
        if !same_generation {
            // What was copied was published once, to begin with.
            seen.publishes = 1;
        }
        if seen.version != version {
            let publishes = publishes();
            let updates = publishes.saturating_sub(seen.publishes).max(1);
            (seen.version, seen.publishes) = (version, publishes);
            if let Some(last) = self.last {
                seen.rate.add(updates, now - last, now);
            }
        }
        seen.rate.at(now)
    }
}
