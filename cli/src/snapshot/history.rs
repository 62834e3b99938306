//! When entries changed: an entry bears a version and no time, but who has noted the store's version
//! from time to time can tell.

use std::time::Instant;

/// As many samples are kept, and then only those that lie apart by this part of their age. (Of years
/// that watch every second these are 3,300.)
const SAMPLES: usize = 4096;
const PRECISION: u32 = 256;

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
            // The first one stays: it says since when we watch.
            let mut kept = None;
            self.samples.retain(|(_, at)| {
                let keep = kept.is_none_or(|kept| *at - kept >= (now - *at) / PRECISION);
                if keep {
                    kept = Some(*at);
                }
                keep
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
