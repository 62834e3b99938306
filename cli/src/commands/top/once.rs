//! One snapshot as plain text, or as JSON, for whoever has no terminal.

use super::Top;
use crate::commands::ask;
use crate::facts::{age, facts, per_second};
use crate::globals::Globals;
use crate::key::{JsonKey, escaped};
use crate::output::{Answer, Failure, Output, scaled, shown};
use crate::snapshot::{Figures, Sampler, Scraper, Snapshot, Tiers};
use serde::Serialize;
use std::io;
use std::path::Path;

/// So many keys are printed.
pub const KEYS: usize = 20;

pub fn run(top: &Top, globals: &Globals, mut sampler: Sampler) -> Result<Answer, Failure> {
    let path = &globals.path;
    // Rates take two looks.
    sampler.sample().store?;
    let tiers = ask::run(async {
        let mut scraper = top.metrics.clone().map(Scraper::new);
        if let Some(scraper) = &mut scraper {
            let _ = scraper.ask().await;
        }
        tokio::time::sleep(top.interval).await;
        Ok(match &mut scraper {
            Some(scraper) => Some(scraper.ask().await),
            None => None,
        })
    })?;
    sampler.walk_next();
    let snapshot = sampler.sample();
    let figures = snapshot.store.clone()?;
    let mut out = Output::new();
    if globals.json {
        out.json(&JsonTop::new(path, &figures, &snapshot, tiers.as_ref()))?;
    } else {
        text(&mut out, path, &snapshot, tiers.as_ref())?;
    }
    out.flush()?;
    Ok(Answer::Yes)
}

fn text(
    out: &mut Output,
    path: &Path,
    snapshot: &Snapshot,
    tiers: Option<&Result<Tiers, String>>,
) -> io::Result<()> {
    out.line(format_args!("{:12}{}", "path", shown(path)))?;
    for fact in facts(Some(snapshot), tiers) {
        out.line(format_args!("{:12}{}", fact.name, fact.text))?;
    }
    let (size, when, rate, kind, key) = ("SIZE", "AGE", "UPD/S", "KIND", "KEY");
    out.line(format_args!(
        "\n{size:>10} {when:>8} {rate:>8} {kind:10} {key}"
    ))?;
    for (row, changed) in snapshot.keys.rows.iter().zip(snapshot.changed.iter()) {
        let expired = if row.expired { " (expired)" } else { "" };
        out.line(format_args!(
            "{:>10} {:>8} {:>8} {:10} {}{expired}",
            scaled(row.bytes),
            age(*changed, snapshot.taken),
            per_second(snapshot.rate(row)),
            row.kind,
            escaped(&row.key),
        ))?;
    }
    Ok(())
}

/// The names are stable.
#[derive(Serialize)]
struct JsonTop<'a> {
    path: String,
    writer: String,
    writer_pid: u32,
    heartbeat_age_ms: Option<u128>,
    entries: u64,
    live_bytes: u64,
    dead_bytes: u64,
    generation: u64,
    size: u64,
    log_used: u64,
    log_capacity: u64,
    fill: f64,
    puts: u64,
    deletes: u64,
    rollovers: u64,
    puts_per_second: Option<f64>,
    deletes_per_second: Option<f64>,
    rollovers_per_second: Option<f64>,
    tiers: Option<JsonTiers>,
    metrics_error: Option<&'a str>,
    keys: Vec<JsonRow<'a>>,
}

#[derive(Serialize)]
struct JsonTiers {
    l1: f64,
    l2: f64,
    server: f64,
    l1_per_second: Option<f64>,
    l2_per_second: Option<f64>,
    server_per_second: Option<f64>,
}

#[derive(Serialize)]
struct JsonRow<'a> {
    kind: &'static str,
    #[serde(flatten)]
    key: JsonKey<'a>,
    bytes: u64,
    version: u64,
    expired: bool,
    updates_per_second: f64,
}

impl<'a> JsonTop<'a> {
    fn new(
        path: &Path,
        f: &Figures,
        snapshot: &'a Snapshot,
        tiers: Option<&'a Result<Tiers, String>>,
    ) -> Self {
        Self {
            path: path.to_string_lossy().into_owned(),
            writer: f.writer.to_string(),
            writer_pid: f.pid,
            heartbeat_age_ms: f.heartbeat_age.map(|age| age.as_millis()),
            entries: f.entries,
            live_bytes: f.live_bytes,
            dead_bytes: f.dead_bytes,
            generation: f.generation,
            size: f.size,
            log_used: f.log_used,
            log_capacity: f.log_capacity,
            fill: f.fill,
            puts: f.counters.puts,
            deletes: f.counters.deletes,
            rollovers: f.counters.rollovers,
            puts_per_second: f.rates.map(|rates| rates.puts),
            deletes_per_second: f.rates.map(|rates| rates.deletes),
            rollovers_per_second: f.rates.map(|rates| rates.rollovers),
            tiers: tiers
                .and_then(|tiers| tiers.as_ref().ok())
                .map(JsonTiers::new),
            metrics_error: tiers
                .and_then(|tiers| tiers.as_ref().err())
                .map(String::as_str),
            keys: snapshot
                .keys
                .rows
                .iter()
                .map(|row| JsonRow {
                    kind: row.kind.as_str(),
                    key: JsonKey::new(&row.key),
                    bytes: row.bytes,
                    version: row.version,
                    expired: row.expired,
                    updates_per_second: snapshot.rate(row),
                })
                .collect(),
        }
    }
}

impl JsonTiers {
    fn new(tiers: &Tiers) -> Self {
        let [l1, l2, server] = tiers.shares;
        let rate = |tier: usize| tiers.rates.map(|rates| rates[tier]);
        Self {
            l1,
            l2,
            server,
            l1_per_second: rate(0),
            l2_per_second: rate(1),
            server_per_second: rate(2),
        }
    }
}
