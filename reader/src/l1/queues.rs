//! Which value has to go when there is no room: S3-FIFO.
//!
//! A new value enters a small queue, a tenth of the room. Whoever was asked for again by the time it
//! comes to that queue's end moves to the main queue; the rest is dropped, and remembered as a ghost:
//! coming back soon, it enters the main queue at once. In the main queue what was used since its last
//! turn gets another one. So a scan, whose values nobody asks for twice, passes through the small
//! queue and leaves the main one as it was.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction", SOSP 2023.

use super::key::Key;
use std::collections::{HashSet, VecDeque};

/// Uses that are counted for a value, at most.
pub const MAX_USES: u8 = 3;

/// A value's place in the queues. One whose ticket is not the value's any more is a leftover.
pub struct Place {
    pub key: Key,
    pub ticket: u64,
    pub weight: usize,
}

/// What is known of the value at a place.
pub enum Standing {
    /// It was removed, or is another one now.
    Gone,
    /// It is there, and was used so often since its last turn.
    Used(u8),
}

#[derive(Default)]
pub struct Queues {
    small: VecDeque<Place>,
    main: VecDeque<Place>,
    /// Hashes of what left the small queue unused, oldest first.
    ghosts: VecDeque<u64>,
    is_ghost: HashSet<u64>,
    small_bytes: usize,
    bytes: usize,
    tickets: u64,
    /// Places whose value is gone.
    leftovers: usize,
}

impl Queues {
    /// Values that have a place.
    pub fn entries(&self) -> usize {
        self.small.len() + self.main.len() - self.leftovers
    }

    /// The weight of everything that has a place.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives a value its place.
    pub fn enter(&mut self, key: Key, weight: usize) -> u64 {
        self.tickets += 1;
        let ticket = self.tickets;
        let came_back = self.is_ghost.remove(&key.hash);
        let place = Place {
            key,
            ticket,
            weight,
        };
        self.bytes += weight;
        if came_back {
            self.main.push_back(place);
        } else {
            self.small_bytes += weight;
            self.small.push_back(place);
        }
        ticket
    }

    /// A value was removed; its place is cleared away in its time.
    pub fn left(&mut self, weight: usize, standing: impl Fn(&Place) -> Standing) {
        self.bytes -= weight;
        self.leftovers += 1;
        if self.leftovers > 64.max((self.small.len() + self.main.len()) / 2) {
            let here = |place: &Place| matches!(standing(place), Standing::Used(_));
            self.small.retain(here);
            self.main.retain(here);
            self.leftovers = 0;
            self.small_bytes = self.small.iter().map(|place| place.weight).sum();
        }
    }

    /// Takes the value that matters least out of the queues; `None` if they are empty. `standing`
    /// answers for a value, and counts its uses down by as many as it is told.
    pub fn evict(&mut self, standing: impl Fn(&Place, u8) -> Standing) -> Option<Key> {
        loop {
            let from_small = self.main.is_empty() || self.small_bytes * 10 > self.bytes;
            let queue = match from_small {
                true => &mut self.small,
                false => &mut self.main,
            };
            let Some(place) = queue.pop_front() else {
                // Only one of the two can be empty for long.
                if self.small.is_empty() && self.main.is_empty() {
                    return None;
                }
                self.small_bytes = 0;
                continue;
            };
            if from_small {
                self.small_bytes = self.small_bytes.saturating_sub(place.weight);
            }
            let spent = if from_small { MAX_USES } else { 1 };
            match standing(&place, spent) {
                Standing::Gone => self.leftovers = self.leftovers.saturating_sub(1),
                Standing::Used(0) => {
                    self.bytes -= place.weight;
                    if from_small {
                        self.remember(place.key.hash);
                    }
                    return Some(place.key);
                }
                Standing::Used(_) => self.main.push_back(place),
            }
        }
    }

    fn remember(&mut self, hash: u64) {
        if self.is_ghost.insert(hash) {
            self.ghosts.push_back(hash);
        }
        // As many as there are values, and never none.
        while self.ghosts.len() > self.main.len().max(16) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.is_ghost.remove(&oldest);
            }
        }
    }

    /// Forgets everything, but gives no ticket twice.
    pub fn clear(&mut self) {
        *self = Self {
            tickets: self.tickets,
            ..Self::default()
        };
    }
}
