//! Puts of 1 KiB beside what they consist of and beside others; and what a rollover costs.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{folder, key, touch};
use erlmcp_shm_layout::{Attributes, Index, Record, key_hash};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{Op, Writer};
use hdrhistogram::Histogram;
use memmap2::{Advice, MmapMut};

use crate::lmdb;
use crate::results::{Row, histogram, median, note};
use crate::server::{Redis, Server};

const COUNT: usize = 10_000;
const LEN: usize = 1 << 10;

/// What a put cannot do without: the record with its checksum into pages that are there and were not written to
/// before, and a slot. No lock, no lookup of what is replaced, no figures, no limits.
struct Parts {
    pages: MmapMut,
    slots: Vec<AtomicU64>,
}

impl Parts {
    fn new() -> Self {
        let folder = folder();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(folder.path().join("parts"))
            .expect("writable");
        file.set_len(16 << 20).expect("room");
        // SAFETY: a file of our own that nobody else opens.
        let pages = unsafe { MmapMut::map_mut(&file) }.expect("it can be mapped");
        pages.advise(Advice::PopulateWrite).expect("room");
        // As many as the writer's index has, in a store of this size.
        let words = (64 << 10) * 8;
        let slots = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { pages, slots }
    }

    /// ns each.
    fn run(&mut self, keys: &[Vec<u8>], data: &[u8]) -> f64 {
        let index = Index::new(&self.slots).expect("a power of two");
        let mut at = 0;
        let begun = Instant::now();
        for (version, key) in (1..).zip(keys) {
            let record = Record {
                kind: Kind::Resource,
                version,
                tombstone: false,
                attributes: Attributes::default(),
                key,
                data,
                metadata: b"{}",
            };
            let total = record.shape().total as usize;
            record.write(&mut self.pages[at..at + total]);
            let hash = key_hash(7, Kind::Resource, key);
            let slot = index.slot(index.home(hash));
            slot.publish(hash, &record.slot_value(at as u64));
            at += total;
        }
        begun.elapsed().as_nanos() as f64 / keys.len() as f64
    }
}

/// Puts and their parts in turn, then the others.
pub fn run(rounds: usize) {
    let folder = folder();
    let keys: Vec<_> = (0..COUNT).map(key).collect();
    let data = vec![7; LEN];
    // Log for a round of puts, so that no rollover falls into one.
    let options = Writer::options().size(64 << 20).max_size(512 << 20);
    let writer = options.open(folder.path().join("store")).expect("room");
    let op = |key| Op::Put {
        kind: Kind::Resource,
        key,
        data: &data,
        metadata: b"{}",
        attributes: Attributes::default(),
    };
    let put = || {
        let begun = Instant::now();
        for key in &keys {
            writer.put(Kind::Resource, key, &data, b"{}").expect("room");
        }
        begun.elapsed().as_nanos() as f64 / COUNT as f64
    };
    let batches = || {
        let begun = Instant::now();
        for keys in keys.chunks(100) {
            let ops: Vec<_> = keys.iter().map(|key| op(key)).collect();
            writer.put_batch(&ops).expect("room");
        }
        begun.elapsed().as_nanos() as f64 / COUNT as f64
    };
    // The state that a put meets: a young generation, and its pages there.
    let settle = || {
        writer.compact().expect("room");
        std::thread::sleep(Duration::from_millis(150));
    };
    put();
    let (env, table) = lmdb::filled(folder.path(), &keys, LEN);
    let transactions = |each: usize| {
        let begun = Instant::now();
        for keys in keys.chunks(each) {
            let mut txn = env.write_txn().expect("the only writer");
            for key in keys {
                table.put(&mut txn, key, &data).expect("room");
            }
            txn.commit().expect("room");
        }
        begun.elapsed().as_nanos() as f64 / COUNT as f64
    };
    let server = Server::start(folder.path());
    let mut redis = server
        .as_ref()
        .map_err(String::clone)
        .and_then(|server| Redis::connect(&server.socket))
        .inspect_err(|error| println!("SKIPPED Redis: {error}"))
        .ok();
    let mut times = vec![Vec::new(); 6];
    for _ in 0..rounds {
        let mut parts = Parts::new();
        settle();
        times[0].push(parts.run(&keys, &data));
        settle();
        times[1].push(put());
        settle();
        times[2].push(batches());
        times[3].push(transactions(1));
        times[4].push(transactions(100));
        if let Some(redis) = &mut redis {
            let begun = Instant::now();
            keys[..COUNT / 10]
                .iter()
                .for_each(|key| redis.put(key, &data));
            times[5].push(begun.elapsed().as_nanos() as f64 / (COUNT / 10) as f64);
        }
    }
    let names = [
        "the parts of a put",
        "erlmcp-shm",
        "erlmcp-shm, batches of 100",
        "LMDB, a transaction each",
        "LMDB, batches of 100",
        "Redis, unix socket",
    ];
    for (i, name) in names.into_iter().enumerate() {
        if times[i].is_empty() {
            continue;
        }
        let ratios = times[i].iter().zip(&times[0]).map(|(of, parts)| of / parts);
        report(name, median(times[i].clone()), median(ratios.collect()));
    }
}

fn report(peer: &str, ns: f64, ratio: f64) {
    note(&Row {
        group: "writes".into(),
        peer: peer.into(),
        keys: COUNT,
        value: LEN,
        load: "idle".into(),
        ns,
        ratio,
        ..Row::default()
    });
}

/// Puts and lookups while rollovers follow each other with 64 MiB live, and beside them a run with none, in which
/// another thread is as busy.
pub fn rollovers() {
    let count = (64 << 20) / 1112;
    // The builder's share of a core in the first run, which somebody else has in the second.
    let mut share = 0.0;
    let keys: Vec<_> = (0..count).map(key).collect();
    let data = vec![7; LEN];
    for load in ["rollovers", "no rollovers"] {
        let folder = folder();
        let path = folder.path().join("store");
        let rolls = load == "rollovers";
        let size = if rolls { 160 << 20 } else { 2 << 30 };
        let options = Writer::options().size(size).max_size(4 << 30);
        let writer = options.open(&path).expect("room");
        for key in &keys {
            writer.put(Kind::Resource, key, &data, b"{}").expect("room");
        }
        if rolls {
            let begun = Instant::now();
            writer.compact().expect("room");
            let each = begun.elapsed().as_nanos() as f64 / 64.0;
            note(&Row {
                group: "rollover".into(),
                peer: "a rollover, for each live MiB".into(),
                keys: count,
                value: LEN,
                ns: each,
                ..Row::default()
            });
        }
        let reader = Reader::open(&path).expect("filled");
        let done = AtomicBool::new(false);
        let (begun, before) = (Instant::now(), builders_time());
        // Puts in one turn and lookups in another: with both measured at once, two cores have three busy threads,
        // and what is seen is how long the system lets one of them wait.
        let turn = |looks: bool| {
            done.store(false, Ordering::Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let period = Duration::from_millis(10);
                    while !rolls && !done.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        while begun.elapsed() < period.mul_f64(share) {
                            std::hint::spin_loop();
                        }
                        std::thread::sleep(period.saturating_sub(begun.elapsed()));
                    }
                });
                let looking = looks.then(|| scope.spawn(|| look(&reader, &keys, &done)));
                let mut spread = histogram();
                for i in 0..700_000 {
                    let begun = Instant::now();
                    let key = &keys[i * 31 % count];
                    writer.put(Kind::Resource, key, &data, b"{}").expect("room");
                    spread.saturating_record(begun.elapsed().as_nanos() as u64);
                    // A node that publishes 100,000 times a second is a busy one.
                    if looks && i % 100 == 0 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    while !looks && begun.elapsed() < Duration::from_micros(10) {
                        std::hint::spin_loop();
                    }
                }
                done.store(true, Ordering::Relaxed);
                match looking {
                    Some(looking) => looking.join().expect("every lookup succeeds"),
                    None => spread,
                }
            })
        };
        let (puts, lookups) = (turn(false), turn(true));
        if rolls {
            let took = builders_time().saturating_sub(before);
            share = (took.as_secs_f64() / begun.elapsed().as_secs_f64()).min(1.0);
        }
        println!(
            "{load}: {} generations, {share:.2} of a core",
            writer.stats().generation
        );
        for (what, spread) in [("put", puts), ("lookup", lookups)] {
            let row = Row {
                group: "rollover".into(),
                peer: what.into(),
                keys: count,
                value: LEN,
                load: load.into(),
                ns: spread.mean(),
                ..Row::default()
            };
            note(&row.spread(&spread));
        }
    }
}

/// Lookups without end, until it is.
fn look(reader: &Reader, keys: &[Vec<u8>], done: &AtomicBool) -> Histogram<u64> {
    let mut spread = histogram();
    let mut view = reader.view().expect("current");
    let mut at = 0;
    while !done.load(Ordering::Relaxed) {
        at = (at + 7919) % keys.len();
        let begun = Instant::now();
        view.refresh(reader).expect("current");
        let entry = view.get(Kind::Resource, &keys[at]).expect("readable");
        std::hint::black_box(touch(entry.expect("present").data()));
        spread.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    spread
}

/// What the writers' builder threads of this process have had of the processors.
fn builders_time() -> Duration {
    let of = |task: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let ticks = rest.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        // 100 a second on every Linux that there is.
        name.starts_with("erlmcp-shm-buil")
            .then(|| Duration::from_millis(10 * ticks))
    };
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    tasks.filter_map(of).sum()
}

/// What 2 MiB pages can give on this machine at all: reads of a byte, each at a place that hangs on the last.
pub fn pages() {
    for mib in [16usize, 64, 512] {
        let memory = |advice| {
            let mut memory = MmapMut::map_anon((mib + 2) << 20).expect("memory");
            let _ = memory.advise(advice);
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            memory
        };
        let both = [memory(Advice::NoHugePage), memory(Advice::HugePage)];
        let read = |memory: &MmapMut| {
            let begun = Instant::now();
            let mut random = 0x9e37_79b9_7f4a_7c15u64;
            let mut at = 0;
            for _ in 0..500_000 {
                // xorshift64*
                random ^= random >> 12;
                random ^= random << 25;
                random ^= random >> 27;
                let place = random.wrapping_mul(0x2545_f491_4f6c_dd1d) as usize;
                at = place.wrapping_add(at) & ((mib << 20) - 1);
                at = usize::from(memory[at]);
            }
            std::hint::black_box(at);
            begun.elapsed().as_nanos() as f64 / 500_000.0
        };
        let rounds: Vec<_> = (0..9).map(|_| [read(&both[0]), read(&both[1])]).collect();
        for (i, name) in ["4 KiB pages", "2 MiB pages"].into_iter().enumerate() {
            note(&Row {
                group: "pages".into(),
                peer: format!("a random byte of {mib} MiB"),
                load: name.into(),
                dependent: median(rounds.iter().map(|round| round[i]).collect()),
                dependent_ratio: median(rounds.iter().map(|round| round[i] / round[0]).collect()),
                ..Row::default()
            });
        }
    }
}
