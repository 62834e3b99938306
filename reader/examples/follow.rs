//! Follows a store through whatever happens to it: `follow PATH KEYS`, to be started before there is a
//! file. The entries are resources `key/0` to `key/KEYS-1` whose value says what it is: number and
//! counter as 64-bit little-endian integers, and then one byte, the low one of 31 x number + counter,
//! again and again.
//!
//! One thread reads everything without end and ends the process with an error when a value is torn,
//! foreign, older than before, or gone. Each line `NUMBER COUNTER` on standard input asks for one entry,
//! which this very lookup must find with that counter at least; the answer is its counter, and the
//! generation it was found in.

use std::io::Write;
use std::process::exit;
use std::time::Duration;

use erlmcp_shm_reader::{Entry, Kind, ReadError, Reader, View};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, path, keys] = args.as_slice() else {
        return Err("usage: follow PATH KEYS".into());
    };
    let keys: u64 = keys.parse()?;
    let shm = Reader::options().allow_absent(true).open(path)?;
    let everything = shm.clone();
    std::thread::spawn(move || watch(&everything, keys));
    println!("ready");
    for line in std::io::stdin().lines() {
        let line = line?;
        let (number, least) = line.split_once(' ').ok_or("two numbers")?;
        let (number, least): (u64, u64) = (number.parse()?, least.parse()?);
        let view = shm.view()?;
        let found = counter(&view, number).unwrap_or_else(|| fail("gone", number));
        if found < least {
            fail("older than what was acknowledged", number);
        }
        println!("{found} {}", view.generation());
        std::io::stdout().flush()?;
    }
    Ok(())
}

fn watch(shm: &Reader, keys: u64) {
    let mut newest = vec![None; keys as usize];
    loop {
        let view = match shm.view() {
            Ok(view) => view,
            // No file yet, or none that is newer yet.
            Err(ReadError::NotFound | ReadError::Detached) => {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            Err(error) => {
                eprintln!("{error}");
                exit(1);
            }
        };
        for (number, newest) in (0..).zip(&mut newest) {
            match counter(&view, number) {
                Some(found) if Some(found) < *newest => fail("older than before", number),
                None if newest.is_some() => fail("gone", number),
                found => *newest = found,
            }
        }
    }
}

fn counter(view: &View, number: u64) -> Option<u64> {
    let found = view.get(Kind::Resource, format!("key/{number}"));
    let entry = found.unwrap_or_else(|_| fail("unreadable", number))?;
    check(number, &entry).or_else(|| fail("torn or foreign", number))
}

/// The counter in a value, if every byte of it is right.
fn check(number: u64, entry: &Entry<'_>) -> Option<u64> {
    let (head, rest) = entry.data().split_first_chunk::<16>()?;
    let (whose, counter) = head.split_at(8);
    let counter = u64::from_le_bytes(counter.try_into().ok()?);
    let fill = number.wrapping_mul(31).wrapping_add(counter) as u8;
    let whole = whose == number.to_le_bytes() && rest.iter().all(|byte| *byte == fill);
    whole.then_some(counter)
}

fn fail(what: &str, number: u64) -> ! {
    eprintln!("key/{number} is {what}");
    exit(1)
}
