//! What lookups in this very store cost, from this process.
//!
//! Each lookup takes a view, gets one entry by its key, and reads the first and last byte of its
//! data. Keys are drawn at random and are in the cache, as a caller's are; the entries are where they are.

use crate::globals::{Filter, Globals};
use crate::output::{Answer, Failure, Output, say, shown};
use crate::progress::{Progress, Unit};
use clap::Args;
use erlmcp_shm_reader::{Entry, Kind, ReadError, Reader};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::hint::black_box;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Keys of one call of `get_many`.
const BATCH: usize = 16;
/// Lookups between two looks at the progress, which no measurement includes.
const STRIDE: u64 = 1 << 16;

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    filter: Filter,
    /// How many lookups to time
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    reads: u64,
    /// Where the random order of the keys begins
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Keys = Vec<(Kind, Vec<u8>)>;

impl Bench {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let reader = globals.open()?;
        let keys = self.keys(&reader)?;
        if keys.is_empty() {
            let path = shown(&globals.path);
            say(format_args!("{path}: {}", self.filter.nothing()));
            return Ok(Answer::No);
        }
        let mut order = Random(self.seed);
        // Once over all: page faults are paid at the first touch, not at each lookup.
        for (kind, key) in &keys {
            look_up(&reader, *kind, key)?;
        }
        let mut progress = Progress::new("measuring", Unit::Count);
        let mut done = |lookups| progress.at(lookups, Some(3 * self.reads));
        let each = self.timed_one_by_one(&reader, &keys, &mut order, &mut done)?;
        let timer = timer_cost(self.reads.min(100_000));
        let result = JsonBench {
            keys: keys.len(),
            reads: self.reads,
            seed: self.seed,
            absent: each.absent,
            p50_ns: each.nanos.value_at_quantile(0.5),
            p99_ns: each.nanos.value_at_quantile(0.99),
            p99_9_ns: each.nanos.value_at_quantile(0.999),
            max_ns: each.nanos.max(),
            timer_p50_ns: timer.value_at_quantile(0.5),
            timer_p99_ns: timer.value_at_quantile(0.99),
            overlapped_mean_ns: self.overlapped_mean(&reader, &keys, &mut order, &mut done)?,
            get_many_mean_ns: self.get_many_mean(&reader, &keys, &mut order, &mut done)?,
        };
        drop(progress);
        let mut out = Output::new();
        if globals.json {
            out.json(&result)?;
        } else {
            result.text(&mut out)?;
        }
        out.flush()?;
        Ok(Answer::Yes)
    }

    fn keys(&self, reader: &Reader) -> Result<Keys, ReadError> {
        let view = reader.view()?;
        let entries = view.try_iter().filter(|entry| match entry {
            Ok(entry) => self.filter.accepts(entry),
            Err(_) => true,
        });
        entries
            .map(|entry| entry.map(|entry| (entry.kind(), entry.key().to_vec())))
            .collect()
    }

    fn timed_one_by_one(
        &self,
        reader: &Reader,
        keys: &Keys,
        order: &mut Random,
        done: &mut dyn FnMut(u64),
    ) -> Result<Timed, ReadError> {
        let mut nanos = histogram();
        let mut absent = 0;
        for read in 0..self.reads {
            if read % STRIDE == 0 {
                done(read);
            }
            let (kind, key) = &keys[order.below(keys.len())];
            warm(key);
            let start = Instant::now();
            let found = look_up(reader, *kind, key)?;
            nanos.saturating_record(start.elapsed().as_nanos() as u64);
            absent += u64::from(!found);
        }
        Ok(Timed { nanos, absent })
    }

    /// Nothing depends on the answer before, so that the processor works on several at a time.
    fn overlapped_mean(
        &self,
        reader: &Reader,
        keys: &Keys,
        order: &mut Random,
        done: &mut dyn FnMut(u64),
    ) -> Result<f64, ReadError> {
        let took = in_strides(self.reads, |stride| {
            done(self.reads + stride.start);
            let start = Instant::now();
            for _ in stride {
                let (kind, key) = &keys[order.below(keys.len())];
                look_up(reader, *kind, key)?;
            }
            Ok(start.elapsed())
        })?;
        Ok(took.as_nanos() as f64 / self.reads as f64)
    }

    fn get_many_mean(
        &self,
        reader: &Reader,
        keys: &Keys,
        order: &mut Random,
        done: &mut dyn FnMut(u64),
    ) -> Result<f64, ReadError> {
        let batches = self.reads.div_ceil(BATCH as u64);
        let took = in_strides(batches, |stride| {
            done(2 * self.reads + stride.start * BATCH as u64);
            let start = Instant::now();
            for _ in stride {
                let batch: [(Kind, &[u8]); BATCH] = std::array::from_fn(|_| {
                    let (kind, key) = &keys[order.below(keys.len())];
                    (*kind, key.as_slice())
                });
                for entry in reader.view()?.get_many(&batch) {
                    touch(entry?.as_ref());
                }
            }
            Ok(start.elapsed())
        })?;
        Ok(took.as_nanos() as f64 / (batches * BATCH as u64) as f64)
    }
}

/// Does `n` things, some at a time: the sum of what each part says that it took.
fn in_strides(
    n: u64,
    mut part: impl FnMut(Range<u64>) -> Result<Duration, ReadError>,
) -> Result<Duration, ReadError> {
    let mut took = Duration::ZERO;
    for start in (0..n).step_by(STRIDE as usize) {
        took += part(start..n.min(start + STRIDE))?;
    }
    Ok(took)
}

struct Timed {
    nanos: Histogram<u64>,
    /// Entries that were deleted meanwhile.
    absent: u64,
}

fn look_up(reader: &Reader, kind: Kind, key: &[u8]) -> Result<bool, ReadError> {
    let view = reader.view()?;
    let entry = view.get(kind, key)?;
    touch(entry.as_ref());
    Ok(entry.is_some())
}

fn touch(entry: Option<&Entry<'_>>) {
    if let Some(entry) = entry {
        black_box((entry.data().first(), entry.data().last()));
    }
}

/// Has the key in the cache.
fn warm(key: &[u8]) {
    black_box(key.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte)));
}

/// What one measurement takes when there is nothing to measure.
fn timer_cost(samples: u64) -> Histogram<u64> {
    let mut nanos = histogram();
    for _ in 0..samples {
        let start = Instant::now();
        nanos.saturating_record(start.elapsed().as_nanos() as u64);
    }
    nanos
}

/// Three digits, up to ten seconds.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(10_000_000_000, 3).expect("bounds that make sense")
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

/// The names are stable. The timer's cost is within the percentiles, not taken off.
#[derive(Serialize)]
struct JsonBench {
    keys: usize,
    reads: u64,
    seed: u64,
    absent: u64,
    p50_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    max_ns: u64,
    timer_p50_ns: u64,
    timer_p99_ns: u64,
    overlapped_mean_ns: f64,
    get_many_mean_ns: f64,
}

impl JsonBench {
    fn text(&self, out: &mut Output) -> io::Result<()> {
        let mut row = |name: &str, value: String| out.line(format_args!("{name:18}{value}"));
        row(
            "lookups",
            format!("{} of {} keys in random order", self.reads, self.keys),
        )?;
        row("p50", format!("{} ns", self.p50_ns))?;
        row("p99", format!("{} ns", self.p99_ns))?;
        row("p99.9", format!("{} ns", self.p99_9_ns))?;
        row("max", format!("{} ns", self.max_ns))?;
        row(
            "timer itself",
            format!(
                "{} ns (p99 {} ns), within the above",
                self.timer_p50_ns, self.timer_p99_ns
            ),
        )?;
        row(
            "overlapped mean",
            format!(
                "{:.1} ns, one after the other without a timer between",
                self.overlapped_mean_ns
            ),
        )?;
        row(
            "get_many mean",
            format!("{:.1} ns, {BATCH} keys a call", self.get_many_mean_ns),
        )?;
        if self.absent > 0 {
            row(
                "absent",
                format!("{} lookups of keys deleted meanwhile", self.absent),
            )?;
        }
        Ok(())
    }
}
