//! What a lookup costs, beside what it may cost.

use crate::manifest::Expected;
use crate::{Result, grouped};
use erlmcp_shm_reader::{Entry, Kind, Reader};
use hdrhistogram::Histogram;
use std::hint::black_box;
use std::time::Instant;

const LOOKUPS: usize = 1_000_000;

/// Measures and prints.
pub fn report(reader: &Reader, entries: &[Expected]) -> Result<()> {
    eprintln!(
        "\n{:26}{:>8}{:>10}{:>10}{:>12}{:>10}",
        "a lookup costs, in ns", "p50", "p99", "p99.9", "max", "budget"
    );
    row(
        reader,
        "resource",
        100_000,
        entries,
        |kind| kind == Kind::Resource,
        |entry| entry.data(),
    )?;
    row(
        reader,
        "tool schema",
        50_000,
        entries,
        |kind| kind == Kind::ToolSchema,
        |entry| entry.data(),
    )?;
    row(
        reader,
        "metadata, any entry's",
        10_000,
        entries,
        |_| true,
        |entry| entry.metadata(),
    )?;
    let timer = timed(|_| Ok(()))?;
    eprintln!(
        "{} lookups each, the keys in random order; {} ns of each are the timer's own",
        grouped(LOOKUPS),
        timer.value_at_quantile(0.5)
    );
    Ok(())
}

fn row(
    reader: &Reader,
    name: &str,
    budget: usize,
    entries: &[Expected],
    wanted: impl Fn(Kind) -> bool,
    part: impl for<'a> Fn(&'a Entry<'_>) -> &'a [u8],
) -> Result<()> {
    let keys: Vec<_> = entries.iter().filter(|entry| wanted(entry.kind)).collect();
    let nanos = timed(|random| {
        let Expected { kind, key, .. } = keys[random % keys.len()];
        let view = reader.view()?;
        let entry = view.get(*kind, key)?.ok_or("an entry has gone")?;
        let bytes = part(&entry);
        black_box((bytes.first(), bytes.last()));
        Ok(())
    })?;
    let at = |quantile| grouped(nanos.value_at_quantile(quantile) as usize);
    eprintln!(
        "  {name:24}{:>8}{:>10}{:>10}{:>12}{:>10}",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        grouped(budget)
    );
    Ok(())
}

/// Times what is done with each of many random numbers.
fn timed(mut lookup: impl FnMut(usize) -> Result<()>) -> Result<Histogram<u64>> {
    let mut nanos = Histogram::new(3)?;
    let mut random = 1_u64;
    for _ in 0..LOOKUPS {
        // Xorshift: good enough to keep the processor from guessing the next key.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let start = Instant::now();
        lookup((random >> 32) as usize)?;
        nanos.record(start.elapsed().as_nanos() as u64)?;
    }
    Ok(nanos)
}
