//! Lookups while another process writes; and several readers at once.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{folder, key, touch};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;

use crate::results::{Row, histogram, median, note};

/// The other process: fills a store, says so, and updates it so many times a second; 0 is never, and
/// `u64::MAX` as fast as it goes.
pub fn feed(path: &Path, count: usize, len: usize, rate: u64) {
    let size = (count * (len + 512)).next_multiple_of(2 << 20) as u64 * 2;
    let options = Writer::options().size(size).max_size(4 * size);
    let writer = options.open(path).expect("room");
    let put = |i: usize, fill: u8| {
        let data = vec![fill; len];
        writer
            .put(Kind::Resource, &key(i % count), &data, b"{}")
            .expect("room");
    };
    (0..count).for_each(|i| put(i, i as u8));
    writer.compact().expect("room");
    std::thread::sleep(Duration::from_millis(700));
    println!("filled");
    let begun = Instant::now();
    for i in 0usize.. {
        match rate {
            0 => std::thread::sleep(Duration::from_secs(1)),
            u64::MAX => put(i.wrapping_mul(7919), i as u8),
            rate => {
                put(i.wrapping_mul(7919), i as u8);
                let due = Duration::from_secs_f64(i as f64 / rate as f64);
                std::thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
    }
}

/// The feeding process, ended when dropped.
struct Feeder(Child);

impl Feeder {
    fn new(path: &Path, count: usize, len: usize, rate: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .arg("feed")
            .arg(path)
            .args([count.to_string(), len.to_string(), rate.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run again");
        let mut line = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output)
            .read_line(&mut line)
            .expect("it fills");
        Self(process)
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lookups in turn under each load, round after round.
pub fn run(count: usize, len: usize, rounds: usize) {
    let loads = [("idle", 0), ("10,000/s", 10_000), ("flat out", u64::MAX)];
    for (load, rate) in loads {
        let folder = folder();
        let path = folder.path().join("store");
        let _feeder = Feeder::new(&path, count, len, rate);
        let reader = Reader::options()
            .prefault(true)
            .open(&path)
            .expect("filled");
        let keys: Vec<_> = (0..count).map(key).collect();
        let mut view = reader.view().expect("current");
        let mut spread = histogram();
        let mut means = Vec::new();
        let mut at = 0;
        for _ in 0..rounds {
            let begun = Instant::now();
            for _ in 0..20_000 {
                at = (at + 7919) % count;
                let begun = Instant::now();
                view.refresh(&reader).expect("current");
                let entry = view.get(Kind::Resource, &keys[at]).expect("readable");
                std::hint::black_box(touch(entry.expect("present").data()));
                spread.saturating_record(begun.elapsed().as_nanos() as u64);
            }
            means.push(begun.elapsed().as_nanos() as f64 / 20_000.0);
        }
        let row = Row {
            group: "load".into(),
            peer: "erlmcp-shm".into(),
            keys: count,
            value: len,
            load: load.into(),
            ns: median(means),
            ..Row::default()
        };
        note(&row.spread(&spread));
    }
}

/// Lookups of all threads together, in ns each, as several threads do them.
pub fn threads(count: usize, len: usize, rounds: usize) {
    let folder = folder();
    let path = folder.path().join("store");
    let _feeder = Feeder::new(&path, count, len, 0);
    let reader = Reader::open(&path).expect("filled");
    let keys: Vec<_> = (0..count).map(key).collect();
    let measure = |threads: usize| {
        let lookups = 200_000;
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (reader, keys) = (&reader, &keys);
                scope.spawn(move || {
                    let mut view = reader.view().expect("current");
                    let mut at = thread * 31;
                    for _ in 0..lookups {
                        at = (at + 7919) % count;
                        view.refresh(reader).expect("current");
                        let entry = view.get(Kind::Resource, &keys[at]).expect("readable");
                        std::hint::black_box(touch(entry.expect("present").data()));
                    }
                });
            }
        });
        begun.elapsed().as_nanos() as f64 / (lookups * threads) as f64
    };
    let pairs: Vec<_> = (0..rounds).map(|_| (measure(1), measure(2))).collect();
    for (i, name) in ["one thread", "two threads"].into_iter().enumerate() {
        note(&Row {
            group: "threads".into(),
            peer: "erlmcp-shm".into(),
            keys: count,
            value: len,
            load: name.into(),
            ns: median(pairs.iter().map(|(one, two)| [*one, *two][i]).collect()),
            ratio: median(
                pairs
                    .iter()
                    .map(|(one, two)| one / [*one, *two][i])
                    .collect(),
            ),
            ..Row::default()
        });
    }
}
