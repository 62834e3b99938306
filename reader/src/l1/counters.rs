//! Counters and latencies of each thread by itself, so that counting shares no cache line.
//!
//! A counter has one thread that writes it, with a plain load and a plain store (Relaxed: a figure
//! orders nothing), and any number that read it. Latencies are sampled: one read in so many looks at the
//! clock, which spreads the cost of two looks, and of the histogram, thinly.

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use thread_local::ThreadLocal;

/// The longest latency that is told from longer ones, in ns: a minute.
const LONGEST: u64 = 60_000_000_000;

/// A histogram of latencies in ns: three significant digits, up to a minute.
pub fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST, 3).expect("these bounds are valid");
    histogram.auto(false);
    histogram
}

#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only ever called by the thread that the counter belongs to.
    #[inline(always)]
    pub fn count(&self) {
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(before.wrapping_add(1), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The figures of one thread.
#[derive(Default)]
pub struct Local {
    /// Reads until the next one that is timed, this included.
    until_sample: Counter,
    pub hits: Counter,
    pub misses: Counter,
    pub absent: Counter,
    pub coherence_misses: Counter,
    /// Made by the first sample.
    latency: Mutex<Option<Box<Histogram<u64>>>>,
}

impl Local {
    /// To be called when a read begins; what it answers goes to [`end`](Self::end).
    #[inline(always)]
    pub fn begin(&self, sample_every: u64) -> Option<Instant> {
        // Down to 0 and up again, since a division would cost more than all the rest.
        let left = self.until_sample.0.load(Ordering::Relaxed);
        if left > 1 {
            self.until_sample.0.store(left - 1, Ordering::Relaxed);
            return None;
        }
        self.sample(sample_every)
    }

    #[cold]
    #[inline(never)]
    fn sample(&self, every: u64) -> Option<Instant> {
        let next = if every == 0 { u64::MAX } else { every };
        self.until_sample.0.store(next, Ordering::Relaxed);
        (every > 0).then(Instant::now)
    }

    #[inline(always)]
    pub fn end(&self, started: Option<Instant>) {
        if let Some(started) = started {
            self.record(started);
        }
    }

    #[cold]
    #[inline(never)]
    fn record(&self, started: Instant) {
        let ns = started.elapsed().as_nanos() as u64;
        let mut latency = self.latency.lock();
        let histogram = latency.get_or_insert_with(|| Box::new(histogram()));
        histogram.saturating_record(ns.max(1));
    }
}

/// The figures of all threads.
#[derive(Default)]
pub struct Counters(ThreadLocal<Local>);

impl Counters {
    #[inline(always)]
    pub fn local(&self) -> &Local {
        self.0.get_or_default()
    }

    pub fn sum(&self, counter: impl Fn(&Local) -> &Counter) -> u64 {
        self.0.iter().map(|local| counter(local).get()).sum()
    }

    pub fn latency(&self) -> Histogram<u64> {
        let mut all = histogram();
        for local in &self.0 {
            if let Some(histogram) = &*local.latency.lock() {
                all.add(&**histogram).expect("all have the same bounds");
            }
        }
        all
    }
}
