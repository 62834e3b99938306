//! Answers questions about a store, one a line: `ask PATH`.
//!
//! * `get KIND KEY`: `absent`, or version, metadata and data, the latter two in hexadecimal.
//! * `time ROUNDS KIND DATA`: looks up every key of the kind, so many times round and each by itself, and compares what
//!   it finds with `DATA`: the number of lookups, and their p50 and p99 in nanoseconds, the clock's own cost included.

use erlmcp_shm_reader::{Kind, Reader};
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: ask PATH")?;
    let shm = Reader::open(path)?;
    for line in std::io::stdin().lines() {
        let line = line?;
        let (question, rest) = line.split_once(' ').ok_or("no question")?;
        let answer = match question {
            "get" => get(&shm, rest)?,
            "time" => time(&shm, rest)?,
            _ => return Err(format!("no such question: {question}").into()),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn get(shm: &Reader, rest: &str) -> Result<String, Box<dyn Error>> {
    let (kind, key) = rest.split_once(' ').ok_or("which?")?;
    let view = shm.view()?;
    Ok(match view.get(kind.parse()?, key)? {
        Some(entry) => {
            let (metadata, data) = (hex(entry.metadata()), hex(entry.data()));
            format!("{} {metadata} {data}", entry.version())
        }
        None => "absent".to_owned(),
    })
}

fn time(shm: &Reader, rest: &str) -> Result<String, Box<dyn Error>> {
    let mut words = rest.splitn(3, ' ');
    let mut word = || words.next().ok_or("what?");
    let (rounds, kind, data): (usize, Kind, _) = (word()?.parse()?, word()?.parse()?, word()?);
    let all = shm.view()?;
    let of_kind = all.iter().filter(|entry| entry.kind() == kind);
    let keys: Vec<Vec<u8>> = of_kind.map(|entry| entry.key().to_vec()).collect();
    let mut times = Vec::with_capacity(rounds * keys.len());
    for _ in 0..rounds {
        for key in &keys {
            let start = Instant::now();
            let view = shm.view()?;
            let entry = view.get(kind, key)?;
            times.push(start.elapsed().as_nanos());
            if entry.is_none_or(|entry| entry.data() != data.as_bytes()) {
                return Err(format!("{} is not {data}", String::from_utf8_lossy(key)).into());
            }
        }
    }
    times.sort_unstable();
    let rank = |p: f64| ((times.len() as f64 * p / 100.0).round() as usize).max(1);
    let at = |p| times.get(rank(p) - 1).copied().unwrap_or(0);
    Ok(format!("{} {} {}", times.len(), at(50.0), at(99.0)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
