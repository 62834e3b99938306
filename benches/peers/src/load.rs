//! Lookups while another process writes; and several readers at once.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{folder, key, touch};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;

use crate::results::{Row, histogram, median, note};

/// The other process: fills a store, says so, and then updates it as often a second as the last line it was given says;
/// 0 is never, and `u64::MAX` as fast as it goes.
pub fn feed(path: &Path, count: usize, len: usize) {
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
    // Relaxed: a number that nothing else hangs on.
    let rate = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for line in std::io::stdin().lines() {
                let line = line.expect("text");
                rate.store(line.parse().expect("a number"), Ordering::Relaxed);
            }
            // Nobody is left to feed.
            std::process::exit(0);
        });
        let mut due = Instant::now();
        for i in 0usize.. {
            let rate = rate.load(Ordering::Relaxed);
            if rate == 0 {
                std::thread::sleep(Duration::from_millis(1));
                due = Instant::now();
                continue;
            }
            put(i.wrapping_mul(7919), i as u8);
            if rate != u64::MAX {
                due += Duration::from_secs_f64(1.0 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    });
}

/// The feeding process, ended when dropped.
struct Feeder(Child);

impl Feeder {
    fn new(path: &Path, count: usize, len: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .arg("feed")
            .arg(path)
            .args([count.to_string(), len.to_string()])
            .stdin(Stdio::piped())
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

    fn set(&mut self, rate: u64) {
        let input = self.0.stdin.as_mut().expect("piped");
        writeln!(input, "{rate}").expect("it lives");
        // Until it has heard, and what it did before is over.
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lookups under each load in turn, round after round. The ratio is that of p99.9 over idle's in the same round.
pub fn run(count: usize, len: usize, rounds: usize) {
    let loads = [("idle", 0), ("10,000/s", 10_000), ("flat out", u64::MAX)];
    let folder = folder();
    let path = folder.path().join("store");
    let mut feeder = Feeder::new(&path, count, len);
    let reader = Reader::options()
        .prefault(true)
        .open(&path)
        .expect("filled");
    let keys: Vec<_> = (0..count).map(key).collect();
    let mut view = reader.view().expect("current");
    let mut at = 0;
    let mut look = |lookups: usize| {
        let mut spread = histogram();
        for _ in 0..lookups {
            at = (at + 7919) % count;
            let begun = Instant::now();
            view.refresh(&reader).expect("current");
            let entry = view.get(Kind::Resource, &keys[at]).expect("readable");
            std::hint::black_box(touch(entry.expect("present").data()));
            spread.saturating_record(begun.elapsed().as_nanos() as u64);
        }
        spread
    };
    let mut spreads = loads.map(|_| histogram());
    let mut means = loads.map(|_| Vec::new());
    let mut tails = loads.map(|_| Vec::new());
    for _ in 0..rounds {
        for (i, (_, rate)) in loads.into_iter().enumerate() {
            feeder.set(rate);
            if rate == 0 {
                // Until the writer has tidied up after its puts: idle is when nothing happens.
                std::thread::sleep(Duration::from_millis(800));
            }
            // What the turn before left in the other core's caches is not this one's.
            look(count);
            let spread = look(50_000);
            means[i].push(spread.mean());
            tails[i].push(spread.value_at_quantile(0.999) as f64);
            spreads[i].add(&spread).expect("equal bounds");
        }
    }
    for (i, (load, _)) in loads.into_iter().enumerate() {
        let ratios = tails[i].iter().zip(&tails[0]).map(|(of, idle)| of / idle);
        let row = Row {
            group: "load".into(),
            peer: "erlmcp-shm".into(),
            keys: count,
            value: len,
            load: load.into(),
            ns: median(means[i].clone()),
            ratio: median(ratios.collect()),
            ..Row::default()
        };
        note(&row.spread(&spreads[i]));
    }
}

/// Lookups of all threads together, in ns each, as several threads do them.
pub fn threads(count: usize, len: usize, rounds: usize) {
    let folder = folder();
    let path = folder.path().join("store");
    let _feeder = Feeder::new(&path, count, len);
    let reader = Reader::open(&path).expect("filled");
    let keys: Vec<_> = (0..count).map(key).collect();
    let measure = |threads: usize| {
        let lookups = 1_000_000;
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
    measure(2);
    let in_turn = |round| match round % 2 {
        0 => (measure(1), measure(2)),
        _ => {
            let two = measure(2);
            (measure(1), two)
        }
    };
    let pairs: Vec<_> = (0..rounds).map(in_turn).collect();
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
