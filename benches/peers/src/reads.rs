//! Lookups: every peer in turn, round after round, so that a noisy neighbour meets them all.

use std::any::Any;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{Filled, Floor, Pages, folder};
use hdrhistogram::Histogram;

use crate::blackboard::{self, Blackboard};
use crate::lmdb::{self, Lmdb, LmdbKept};
use crate::mmap_sync::MmapSync;
use crate::order::Order;
use crate::peer::{Fresh, InProcess, Kept, Least, Many, Owned, Peer};
use crate::results::{Row, histogram, median, note};
use crate::server::{Redis, Server};

/// How long one peer is measured in one round, about.
const TURN: Duration = Duration::from_millis(4);
const FLOOR: &str = "the floor";

/// Times lookups one by one.
pub fn timed(peer: &mut dyn Peer, keys: &[Vec<u8>], order: &[usize], into: &mut Histogram<u64>) {
    for &i in order {
        let begun = Instant::now();
        std::hint::black_box(peer.get(&keys[i]));
        into.saturating_record(begun.elapsed().as_nanos() as u64);
    }
}

/// Every peer at this many keys; with `others` also those that are not ours.
pub fn run(count: usize, len: usize, order: Order, rounds: usize, others: bool) {
    let filled = Filled::new(count, len);
    let keys = &filled.keys;
    let scratch = folder();
    // What the readers read from, held for its drop.
    let mut held: Vec<Box<dyn Any>> = Vec::new();
    let mut peers: Vec<Box<dyn Peer>> = vec![
        Box::new(Least(FLOOR, Floor::new(&filled.path, Pages::Small))),
        Box::new(Least(
            "the floor on 2 MiB pages",
            Floor::new(&filled.path, Pages::Huge),
        )),
        Box::new(Kept::new(&filled)),
        Box::new(Many(filled.reader.clone())),
        Box::new(Fresh(filled.reader.clone())),
        Box::new(Owned(filled.reader.clone())),
    ];
    if let Some(small) = Kept::on_small_pages(&filled) {
        peers.insert(2, Box::new(small));
    }
    if others {
        peers.push(Box::new(InProcess::new(keys, len)));
        let (env, table) = lmdb::filled(scratch.path(), keys, len);
        peers.push(Box::new(Lmdb(env.clone(), table)));
        let kept = env.static_read_txn().expect("a reader's slot");
        peers.push(Box::new(LmdbKept(kept, table)));
        peers.push(Box::new(MmapSync::new(scratch.path(), keys, len)));
        // Each of its handles is searched for, some 20 us among as many.
        if len == blackboard::VALUE && count <= 10_000 {
            let name = PathBuf::from(format!("erlmcp-shm-bench-{}", std::process::id()));
            let made = blackboard::Made::new(&name, keys);
            match made.and_then(|made| Ok((Blackboard::over(&name, keys)?, made))) {
                Ok((board, made)) => {
                    peers.push(Box::new(board));
                    held.push(Box::new(made));
                }
                Err(error) => println!("SKIPPED iceoryx2 blackboard: {error}"),
            }
        }
        let started = Server::start(scratch.path());
        match started.and_then(|server| Ok((Redis::connect(&server.socket)?, server))) {
            Ok((mut redis, server)) => {
                for (i, key) in keys.iter().enumerate() {
                    redis.put(key, &vec![i as u8; len]);
                }
                peers.push(Box::new(redis));
                held.push(Box::new(server));
            }
            Err(error) => println!("SKIPPED Redis: {error}"),
        }
    }
    let asked = order;
    let order = asked.positions(count, 64 << 10);
    // How many lookups a turn holds, by a first try of each.
    let turns: Vec<_> = peers
        .iter_mut()
        .map(|peer| {
            peer.overlapped(keys, &order[..200]);
            let each = peer.overlapped(keys, &order[..200]);
            ((TURN.as_nanos() as f64 / each) as usize).clamp(200, order.len())
        })
        .collect();
    let mut times = vec![(Vec::new(), Vec::new()); peers.len()];
    let mut spreads: Vec<_> = peers.iter().map(|_| histogram()).collect();
    for round in 0..rounds {
        for (i, peer) in peers.iter_mut().enumerate() {
            let part = &order[round * 977 % (order.len() - turns[i] + 1)..][..turns[i]];
            // The last one's turn left other things in the caches.
            peer.overlapped(keys, part);
            times[i].0.push(peer.overlapped(keys, part));
            times[i].1.push(peer.dependent(keys, part));
            timed(&mut **peer, keys, part, &mut spreads[i]);
        }
    }
    // By now the reader has touched what it will.
    let huge = filled.reader.stats().expect("current").huge_page_bytes;
    println!("{count} x {len}: {huge:?} bytes of the reader's mapping on 2 MiB pages");
    let ratios = |of: &[f64], floor: &[f64]| {
        median(of.iter().zip(floor).map(|(of, floor)| of / floor).collect())
    };
    for (i, peer) in peers.iter().enumerate() {
        let (overlapped, dependent) = &times[i];
        let row = Row {
            group: "reads".into(),
            peer: peer.name().into(),
            keys: count,
            value: len,
            order: asked,
            load: "idle".into(),
            ns: median(overlapped.clone()),
            ratio: ratios(overlapped, &times[0].0),
            dependent: median(dependent.clone()),
            dependent_ratio: ratios(dependent, &times[0].1),
            ..Row::default()
        };
        note(&row.spread(&spreads[i]));
    }
}

/// What a clock costs that is asked twice: it is part of every lookup timed by itself.
pub fn timer() {
    let mut spread = histogram();
    for _ in 0..100_000 {
        let begun = Instant::now();
        spread.saturating_record(begun.elapsed().as_nanos() as u64);
    }
    let row = Row {
        group: "timer".into(),
        peer: "the timer itself".into(),
        ..Row::default()
    };
    note(&row.spread(&spread));
}
