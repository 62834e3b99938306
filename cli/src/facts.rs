//! The figures as text, each with its name: the same on a terminal and in a plain snapshot.

use crate::output::{explained, grouped, scaled};
use crate::snapshot::{Changed, Figures, Snapshot, Tiers};
use erlmcp_shm_reader::{ReadError, Verdict};
use std::time::{Duration, Instant};

/// How good a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
}

/// A figure, or a few that belong together.
#[derive(Debug, PartialEq, Eq)]
pub struct Fact {
    pub name: &'static str,
    pub text: String,
    pub tone: Tone,
}

fn fact(name: &'static str, text: impl Into<String>, tone: Tone) -> Fact {
    Fact {
        name,
        text: text.into(),
        tone,
    }
}

fn plain(name: &'static str, text: impl Into<String>) -> Fact {
    fact(name, text, Tone::Plain)
}

/// All of them, the most important ones first: not all have room everywhere.
pub fn facts(snapshot: Option<&Snapshot>, tiers: Option<&Result<Tiers, String>>) -> Vec<Fact> {
    let mut facts = match snapshot.map(|snapshot| &snapshot.store) {
        None => vec![],
        Some(Err(error)) => vec![trouble(*error)],
        Some(Ok(figures)) => of_store(figures),
    };
    match tiers {
        None => {}
        Some(Err(error)) => facts.push(fact("metrics", error, Tone::Bad)),
        Some(Ok(tiers)) => facts.extend(of_tiers(tiers)),
    }
    facts
}

fn trouble(error: ReadError) -> Fact {
    match error {
        ReadError::NotFound => fact(
            "writer",
            "there is no file at the path; waiting for one",
            Tone::Warning,
        ),
        error => fact("writer", explained(error), Tone::Bad),
    }
}

fn of_store(f: &Figures) -> Vec<Fact> {
    let rate = |rate: fn(&crate::snapshot::Rates) -> f64| match &f.rates {
        Some(rates) => per_second(rate(rates)),
        None => "-".into(),
    };
    let mut facts = vec![
        writer(f),
        heartbeat(f),
        plain("entries", grouped(f.entries)),
        plain("puts/s", rate(|rates| rates.puts)),
        plain("deletes/s", rate(|rates| rates.deletes)),
        plain("rollovers/s", rate(|rates| rates.rollovers)),
        fact(
            "fill",
            format!("{} of {}", percent(f.fill), scaled(f.max_size)),
            match f.fill {
                fill if fill > 0.95 => Tone::Bad,
                fill if fill > 0.8 => Tone::Warning,
                _ => Tone::Plain,
            },
        ),
        plain("live", scaled(f.live_bytes)),
        plain("dead", scaled(f.dead_bytes)),
    ];
    let log = f.log_used as f64 / f.log_capacity.max(1) as f64;
    facts.push(plain(
        "generation",
        format!(
            "{}, {} of {} written",
            grouped(f.generation),
            percent(log),
            scaled(f.size)
        ),
    ));
    let c = &f.counters;
    facts.push(plain(
        "so far",
        format!(
            "{} puts, {} deletes, {} rollovers",
            grouped(c.puts),
            grouped(c.deletes),
            grouped(c.rollovers)
        ),
    ));
    facts
}

fn writer(f: &Figures) -> Fact {
    let process = match f.pid {
        0 => String::new(),
        pid => format!(" (process {pid})"),
    };
    let (state, tone) = match f.writer {
        Verdict::Alive => ("alive", Tone::Good),
        Verdict::Stale => ("gives no sign of life", Tone::Bad),
        Verdict::Closed => ("has closed the store", Tone::Warning),
        _ => ("dead", Tone::Bad),
    };
    fact("writer", format!("{state}{process}"), tone)
}

fn heartbeat(f: &Figures) -> Fact {
    let tone = match f.writer {
        Verdict::Alive => Tone::Plain,
        Verdict::Closed => Tone::Warning,
        _ => Tone::Bad,
    };
    match f.heartbeat_age {
        Some(age) => fact("heartbeat", format!("{} ago", short(age)), tone),
        None => fact("heartbeat", "none", tone),
    }
}

fn of_tiers(tiers: &Tiers) -> Vec<Fact> {
    let mut facts = vec![];
    for (tier, name) in ["L1", "L2", "server"].into_iter().enumerate() {
        let share = percent(tiers.shares[tier]);
        facts.push(plain(
            name,
            match tiers.rates {
                Some(rates) => format!("{}/s ({share})", per_second(rates[tier])),
                None => share,
            },
        ));
    }
    if let Some([p50, p99]) = tiers.quantiles {
        let [p50, p99] = [p50, p99].map(|s| short(Duration::from_secs_f64(s.max(0.0))));
        facts.push(plain("latency", format!("p50 {p50}, p99 {p99}")));
    }
    facts.push(plain("< 50 us", percent(tiers.compliance)));
    facts
}

/// When an entry changed.
pub fn age(changed: Changed, now: Instant) -> String {
    match changed {
        Changed::At(then) => short(now.saturating_duration_since(then)),
        Changed::Before(then) => format!(">{}", short(now.saturating_duration_since(then))),
    }
}

/// A rate, with as many digits as say something.
pub fn per_second(rate: f64) -> String {
    match rate {
        rate if rate >= 100.0 => grouped(rate.round() as u64),
        rate if rate >= 0.005 => format!("{rate:.2}"),
        _ => "0".into(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A duration in its largest unit.
pub fn short(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.as_nanos());
    match seconds {
        0 if nanos < 1_000 => format!("{nanos} ns"),
        0 if nanos < 1_000_000 => format!("{} us", nanos / 1_000),
        0 => format!("{} ms", nanos / 1_000_000),
        1..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
