//! Puts of 1 KiB beside what they consist of and beside others; and what a rollover costs.

use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{folder, key, touch};
use erlmcp_shm_layout::{Attributes, Index, Record, key_hash};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{Op, Writer};
use memmap2::{Advice, MmapMut};

use crate::lmdb;
use crate::results::{Row, histogram, median, note};
use crate::server::Redis;

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
        let words = (32 << 10) * 8;
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
    let mut times = [vec![], vec![], vec![]];
    for _ in 0..rounds {
        times[0].push(Parts::new().run(&keys, &data));
        settle();
        times[1].push(put());
        settle();
        times[2].push(batches());
    }
    let names = [
        "the parts of a put",
        "erlmcp-shm",
        "erlmcp-shm, batches of 100",
    ];
    for (i, name) in names.into_iter().enumerate() {
        let ratios = times[i].iter().zip(&times[0]).map(|(of, parts)| of / parts);
        report(name, median(times[i].clone()), median(ratios.collect()));
    }
    let parts = median(times[0].clone());
    let (env, table) = lmdb::filled(folder.path(), &keys, LEN);
    let begun = Instant::now();
    for key in &keys {
        let mut txn = env.write_txn().expect("the only writer");
        table.put(&mut txn, key, &data).expect("room");
        txn.commit().expect("room");
    }
    let each = begun.elapsed().as_nanos() as f64 / COUNT as f64;
    report("LMDB, a transaction each", each, each / parts);
    let begun = Instant::now();
    for keys in keys.chunks(100) {
        let mut txn = env.write_txn().expect("the only writer");
        for key in keys {
            table.put(&mut txn, key, &data).expect("room");
        }
        txn.commit().expect("room");
    }
    let each = begun.elapsed().as_nanos() as f64 / COUNT as f64;
    report("LMDB, batches of 100", each, each / parts);
    match Redis::new(folder.path(), &keys, LEN) {
        Ok(mut redis) => {
            let begun = Instant::now();
            keys.iter().for_each(|key| redis.put(key, &data));
            let each = begun.elapsed().as_nanos() as f64 / COUNT as f64;
            report("Redis, unix socket", each, each / parts);
        }
        Err(error) => println!("SKIPPED Redis: {error}"),
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
        let (puts, lookups) = std::thread::scope(|scope| {
            let busy = || {
                while !rolls && !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            };
            scope.spawn(busy);
            let looking = scope.spawn(|| {
                let mut spread = histogram();
                let mut view = reader.view().expect("current");
                let mut at = 0;
                while !done.load(Ordering::Relaxed) {
                    at = (at + 7919) % count;
                    let begun = Instant::now();
                    view.refresh(&reader).expect("current");
                    let entry = view.get(Kind::Resource, &keys[at]).expect("readable");
                    std::hint::black_box(touch(entry.expect("present").data()));
                    spread.saturating_record(begun.elapsed().as_nanos() as u64);
                }
                spread
            });
            let mut spread = histogram();
            for i in 0..700_000 {
                let begun = Instant::now();
                let key = &keys[i * 31 % count];
                writer.put(Kind::Resource, key, &data, b"{}").expect("room");
                spread.saturating_record(begun.elapsed().as_nanos() as u64);
                // A node that publishes 100,000 times a second is a busy one.
                while begun.elapsed() < Duration::from_micros(10) {
                    std::hint::spin_loop();
                }
            }
            done.store(true, Ordering::Relaxed);
            (spread, looking.join().expect("every lookup succeeds"))
        });
        println!("{load}: {} generations", writer.stats().generation);
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
