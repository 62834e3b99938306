//! When entries changed: an entry bears a version and no time, but who has noted the store's version
//! from time to time can tell.

use std::time::Instant;

/// As many samples are kept; of older ones every other is dropped again and again.
const SAMPLES: usize = 4096;

/// The versions of one store, and when they were seen.
#[derive(Default)]
pub struct History {
    store_id: [u8; 16],
    /// Both rise. The first is when we began to watch.
    samples: Vec<(u64, Instant)>,
}

/// When an entry changed last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Then, or within one interval between samples before.
    At(Instant),
    /// Before then, when we began to watch.
    Before(Instant),
}

impl History {
    /// Notes the version that the store has now.
    pub fn note(&mut self, store_id: [u8; 16], version: u64, now: Instant) {
        if self.store_id != store_id {
            self.samples.clear();
            self.store_id = store_id;
        }
        match self.samples.last() {
            Some((last, _)) if *last >= version => return,
            _ => self.samples.push((version, now)),
        }
        if self.samples.len() > SAMPLES {
            let mut position = 0;
            // The first one stays: it says since when we watch.
            self.samples.retain(|_| {
                position += 1;
                position % 2 == 1 || position > SAMPLES / 2
            });
        }
    }

    /// When that version was given out; `now` if it is newer than any that was noted.
    pub fn when(&self, version: u64, now: Instant) -> Changed {
        let at = self.samples.partition_point(|(seen, _)| *seen < version);
        match self.samples.get(at) {
            Some((_, when)) if at == 0 => Changed::Before(*when),
            Some((_, when)) => Changed::At(*when),
            None => Changed::At(now),
        }
    }
}
