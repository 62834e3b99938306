//! What was measured, as lines of JSON: what the tables and plots are made of.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::order::Order;

/// One row. Times are in ns; 0 is "not measured".
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// `reads`, `load`, `threads`, `processes`, `writes`, `rollover`, `pages`, `memory`, `timer`, `erlang`.
    pub group: String,
    /// Who.
    pub peer: String,
    /// How many keys.
    pub keys: usize,
    /// Bytes of a value.
    pub value: usize,
    /// Which keys are asked for.
    pub order: Order,
    /// What else went on.
    pub load: String,
    /// One after the other, not waiting for each other: the median of the rounds.
    pub ns: f64,
    /// The same over the floor's in the same round: the median of the ratios.
    pub ratio: f64,
    /// Each waiting for the one before.
    pub dependent: f64,
    /// The same over the floor's.
    pub dependent_ratio: f64,
    /// Of lookups timed one by one, the timer's own cost included.
    pub p50: u64,
    /// Likewise.
    pub p99: u64,
    /// Likewise.
    pub p999: u64,
    /// Likewise: 99.99 %.
    pub p9999: u64,
    /// The longest one.
    pub max: u64,
    /// Updates a second that another process got done meanwhile.
    pub rate: f64,
    /// Bytes of an entry over its payload.
    pub bytes: f64,
}

impl Row {
    /// With the percentiles of a histogram.
    pub fn spread(mut self, times: &Histogram<u64>) -> Self {
        self.p50 = times.value_at_quantile(0.5);
        self.p99 = times.value_at_quantile(0.99);
        self.p999 = times.value_at_quantile(0.999);
        self.p9999 = times.value_at_quantile(0.9999);
        self.max = times.max();
        self
    }
}

fn path() -> PathBuf {
    let target = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
    std::fs::create_dir_all(target).expect("a target folder");
    PathBuf::from(target).join("results.jsonl")
}

/// Begins anew.
pub fn forget() {
    let _ = std::fs::remove_file(path());
}

/// Writes a row down, and says it.
pub fn note(row: &Row) {
    let line = serde_json::to_string(row).expect("plain data");
    let mut options = OpenOptions::new();
    let mut file: File = options
        .create(true)
        .append(true)
        .open(path())
        .expect("writable");
    writeln!(file, "{line}").expect("room");
    println!(
        "{:<9} {:<30} {:>7} x {:<5} {:<7} {:<12} {:>9.1} ns {:>7.2} x | dependent {:>9.1} ns {:>7.2} x | p50 {:>7} p99 {:>7} p99.9 {:>8} max {:>9} | {:.1} bytes",
        row.group,
        row.peer,
        row.keys,
        row.value,
        format!("{:?}", row.order),
        row.load,
        row.ns,
        row.ratio,
        row.dependent,
        row.dependent_ratio,
        row.p50,
        row.p99,
        row.p999,
        row.max,
        row.bytes
    );
}

/// What was written down.
pub fn rows() -> Vec<Row> {
    let text = std::fs::read_to_string(path()).expect("measure first");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("our own line"))
        .collect()
}

/// An empty histogram, of up to ten seconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("sound bounds")
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
