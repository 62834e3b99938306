//! Figures of the store, and signs of life of its writer.

use crate::globals::Globals;
use crate::key::hex;
use crate::output::{Answer, Failure, Output, scaled, shown};
use clap::Args;
use erlmcp_shm_reader::{Liveness, State, StoreStats};
use serde::Serialize;
use std::io;
use std::path::Path;
use std::time::Duration;

#[derive(Args)]
pub struct Stat {}

impl Stat {
    /// Mapped pages are touched at once, else no huge page would be in use yet, and none be shown.
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let reader = globals.options().prefault(true).open(&globals.path)?;
        let (stats, liveness) = (reader.stats()?, reader.liveness());
        let mut out = Output::new();
        if globals.json {
            out.json(&JsonStat::new(&globals.path, &stats, &liveness))?;
        } else {
            text(&mut out, &globals.path, &stats, &liveness)?;
        }
        out.flush()?;
        Ok(Answer::Yes)
    }
}

/// The names are stable.
#[derive(Serialize)]
struct JsonStat {
    path: String,
    /// `alive`, `stale`, `closed` or `dead`.
    writer: String,
    writer_pid: u32,
    lock_held: Option<bool>,
    heartbeat_age_ms: Option<u64>,
    heartbeat_interval_ms: u64,
    state: &'static str,
    store_id: String,
    generation: u64,
    rollovers: u64,
    version: u64,
    changes: u64,
    puts: u64,
    deletes: u64,
    entries: u64,
    size: u64,
    live_bytes: u64,
    dead_bytes: u64,
    fragmentation: f64,
    log_used: u64,
    log_capacity: u64,
    max_size: u64,
    fill: f64,
    used_slots: u64,
    slot_count: u64,
    huge_page_bytes: Option<u64>,
    mapped_generations: usize,
    mapped_bytes: u64,
}

impl JsonStat {
    fn new(path: &Path, stats: &StoreStats, liveness: &Liveness) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            writer: liveness.verdict().to_string(),
            writer_pid: liveness.writer_pid,
            lock_held: liveness.lock_held,
            heartbeat_age_ms: liveness.heartbeat_age.map(millis),
            heartbeat_interval_ms: millis(liveness.heartbeat_interval),
            state: state_name(stats.state),
            store_id: hex(&stats.store_id),
            generation: stats.generation,
            rollovers: stats.rollovers,
            version: stats.version,
            changes: stats.changes,
            puts: stats.puts,
            deletes: stats.deletes,
            entries: stats.entries,
            size: stats.size,
            live_bytes: stats.live_bytes,
            dead_bytes: stats.dead_bytes,
            fragmentation: stats.fragmentation,
            log_used: stats.log_used,
            log_capacity: stats.log_capacity,
            max_size: stats.max_size,
            fill: stats.fill,
            used_slots: stats.used_slots,
            slot_count: stats.slot_count,
            huge_page_bytes: stats.huge_page_bytes,
            mapped_generations: stats.mapped_generations,
            mapped_bytes: stats.pinned_bytes,
        }
    }
}

fn text(out: &mut Output, path: &Path, s: &StoreStats, liveness: &Liveness) -> io::Result<()> {
    let mut row = |name: &str, value: String| out.line(format_args!("{name:12}{value}"));
    row("path", shown(path))?;
    row("writer", writer(liveness))?;
    row("state", state_name(s.state).into())?;
    row("store id", hex(&s.store_id))?;
    row(
        "generation",
        format!("{} ({} rollovers)", s.generation, s.rollovers),
    )?;
    row("entries", s.entries.to_string())?;
    row(
        "version",
        format!("{} ({} puts, {} deletes)", s.version, s.puts, s.deletes),
    )?;
    row("changes", s.changes.to_string())?;
    row("size", format!("{} ({} bytes)", scaled(s.size), s.size))?;
    row(
        "fill",
        format!(
            "{:.1} % of what it can hold at its largest, {}",
            100.0 * s.fill,
            scaled(s.max_size)
        ),
    )?;
    row(
        "log",
        format!(
            "{} of {} used: {} live, {} dead (fragmentation {:.2})",
            scaled(s.log_used),
            scaled(s.log_capacity),
            scaled(s.live_bytes),
            scaled(s.dead_bytes),
            s.fragmentation
        ),
    )?;
    row(
        "index",
        format!("{} of {} slots used", s.used_slots, s.slot_count),
    )?;
    let pinned = scaled(s.pinned_bytes);
    row(
        "mapped here",
        match s.huge_page_bytes {
            Some(bytes) => format!("{pinned}, {} of it on huge pages", scaled(bytes)),
            None => pinned,
        },
    )
}

fn writer(l: &Liveness) -> String {
    let mut text = l.verdict().to_string();
    if l.writer_pid != 0 {
        text += &format!(", process {}", l.writer_pid);
    }
    text += &match l.heartbeat_age {
        Some(age) => format!(", last heartbeat {} ms ago", millis(age)),
        None => ", no heartbeat".into(),
    };
    if !l.heartbeat_interval.is_zero() {
        text += &format!(" (one every {} ms)", millis(l.heartbeat_interval));
    }
    text += match l.lock_held {
        Some(true) => ", lock held",
        Some(false) => ", lock free",
        None => ", lock unknown",
    };
    text
}

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Building => "building",
        State::Live => "live",
        State::Superseded => "superseded",
        State::Closed => "closed",
    }
}
