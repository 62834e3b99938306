//! A writer in one process, a cache in another: the first read after a put has returned sees it.
//!
//! The writer puts a number under a key, and after the put has returned the same number under a second
//! one. The other process looks the second key up, without a cache, and then reads the first through
//! its cache: never may it find a lower number. `READS=1000000` sets how many numbers there are.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_reader::l1::{Cache, CacheOptions};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;
use std::path::Path;
use std::process::{Command, Stdio};

const KIND: Kind = Kind::ToolSchema;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("read") => read(Path::new(&args[2]), args[3].parse().unwrap()),
        Some("--list") => println!("first_reads: test"),
        _ => {
            first_reads();
            println!("test first_reads ... ok");
        }
    }
}

fn first_reads() {
    let numbers = std::env::var("READS").map_or(100_000, |n| n.parse().unwrap());
    let folder = support::folder();
    let path = folder.path().join("store.bin");
    let writer = Writer::options().size(256 << 10).max_size(4 << 20);
    let writer = writer.open(&path).unwrap();
    let put = |key: &[u8], n: u64| writer.put(KIND, key, &n.to_le_bytes(), b"{}").unwrap();
    put(b"value", 0);
    put(b"returned", 0);
    let mut reader = Command::new(std::env::current_exe().unwrap())
        .args([
            "read".as_ref(),
            path.as_os_str(),
            u64::to_string(&numbers).as_ref(),
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = || reader.try_wait().unwrap().is_some();
    write_numbers(numbers, put, ended);
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success(), "the reader: {}", output.status);
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// Puts number after number, waiting for nobody; and gives way now and then, so that the other process
/// meets each number in the making on a machine with one core as well.
fn write_numbers(numbers: u64, put: impl Fn(&[u8], u64) -> u64, mut ended: impl FnMut() -> bool) {
    for n in 1..=numbers {
        put(b"value", n);
        put(b"returned", n);
        if n % 1024 == 0 && ended() {
            return;
        }
    }
}

fn number(data: &[u8]) -> u64 {
    u64::from_le_bytes(data.try_into().unwrap())
}

fn read(path: &Path, numbers: u64) {
    let shm = Reader::open(path).unwrap();
    let cache = Cache::new(&shm, CacheOptions::default(), |entry| {
        Ok(number(entry.data()))
    });
    let (mut reads, mut last) = (0_u64, 0);
    let first = shm.view().unwrap().generation();
    while last < numbers {
        let returned = {
            let view = shm.view().unwrap();
            number(view.get(KIND, "returned").unwrap().unwrap().data())
        };
        let found = *cache.get(KIND, "value").unwrap().unwrap();
        assert!(
            found >= returned.max(last),
            "{found} after {returned} and {last}"
        );
        last = found;
        reads += 1;
    }
    let stats = cache.stats();
    let switches = shm.view().unwrap().generation() - first;
    assert!(switches > 0 && stats.coherence_misses > 0);
    println!(
        "{reads} reads: {} hits, {} coherence misses, {switches} switches, 0 stale",
        stats.hits, stats.coherence_misses
    );
}
