//! Lookups while another process writes, and lookups of two threads at once: ours, and the peers that can do it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use erlmcp_shm_benches::{Floor, Pages, folder, key};
use erlmcp_shm_reader::Reader;

use crate::blackboard::{self, Blackboard};
use crate::feeder::{FLAT_OUT, Feeder};
use crate::lmdb::{self, Lmdb};
use crate::mmap_sync::MmapSync;
use crate::order::Order;
use crate::peer::{InProcess, Kept, Least, Peer};
use crate::reads::timed;
use crate::results::{Row, histogram, median, note};
use crate::server::{Redis, Server};

/// Makes a reader of its own for whatever thread asks.
type Open = Box<dyn Fn() -> Box<dyn Peer> + Sync>;

/// Somebody whose readers and writer are processes of their own.
struct Contender {
    open: Open,
    feeder: Feeder,
    /// Held for their drop, after the feeder's.
    _server: Option<Server>,
    _folder: tempfile::TempDir,
}

const OURS: &str = "erlmcp-shm";

impl Contender {
    /// Filled by its feeder; why not, where it cannot be had.
    fn new(name: &'static str, count: usize, len: usize) -> Result<Self, String> {
        let folder = folder();
        let mut server = None;
        let place = match name {
            "Redis, unix socket" => {
                let started = Server::start(folder.path())?;
                server.insert(started).socket.clone()
            }
            "iceoryx2 blackboard" => format!("erlmcp-shm-fed-{}", std::process::id()).into(),
            "LMDB, a transaction each" => folder.path().to_owned(),
            _ => folder.path().join("store"),
        };
        let feeder = Feeder::new(name, place.clone(), count, len);
        let open: Open = match name {
            OURS => {
                let reader = ours(&place);
                Box::new(move || Box::new(Kept::over(OURS, reader.clone())))
            }
            "LMDB, a transaction each" => {
                let (env, table) = lmdb::opened(&place);
                Box::new(move || Box::new(Lmdb(env.clone(), table)))
            }
            "mmap-sync" => Box::new(move || Box::new(MmapSync::over(&place))),
            "iceoryx2 blackboard" => {
                let keys: Vec<_> = (0..count).map(key).collect();
                Box::new(move || Box::new(Blackboard::over(&place, &keys).expect("it is there")))
            }
            _ => Box::new(move || Box::new(Redis::connect(&place).expect("it runs"))),
        };
        Ok(Self {
            open,
            feeder,
            _server: server,
            _folder: folder,
        })
    }
}

fn ours(path: &Path) -> Reader {
    let options = Reader::options().prefault(true);
    options.open(path).expect("filled")
}

/// Those of a process each, that hold values of this length.
fn names(len: usize) -> Vec<&'static str> {
    let mut names = vec![OURS, "LMDB, a transaction each", "mmap-sync"];
    if len == blackboard::VALUE {
        names.push("iceoryx2 blackboard");
    }
    names.push("Redis, unix socket");
    names
}

/// Lookups under each load in turn, round after round. The ratio is that of p99.9 over idle's in the same round.
pub fn run(count: usize, len: usize, rounds: usize) {
    for name in names(len) {
        match Contender::new(name, count, len) {
            Ok(mut contender) => loaded(name, &mut contender, count, len, rounds),
            Err(error) => println!("SKIPPED {name}: {error}"),
        }
    }
}

fn loaded(name: &str, contender: &mut Contender, count: usize, len: usize, rounds: usize) {
    let loads = [("idle", 0), ("10,000/s", 10_000), ("flat out", FLAT_OUT)];
    let keys: Vec<_> = (0..count).map(key).collect();
    let mut peer = (contender.open)();
    let order = Order::Uniform.positions(count, 50_000);
    // Not more than a tenth of a second.
    let each = peer.overlapped(&keys, &order[..200]);
    let part = &order[..((1e8 / each) as usize).min(order.len())];
    let mut spreads = loads.map(|_| histogram());
    let mut means = loads.map(|_| Vec::new());
    let mut tails = loads.map(|_| Vec::new());
    let mut rates = loads.map(|_| Vec::new());
    for _ in 0..rounds {
        for (i, (_, rate)) in loads.into_iter().enumerate() {
            contender.feeder.set(rate);
            if rate == 0 {
                // Until the writer has tidied up after its puts: idle is when nothing happens.
                std::thread::sleep(Duration::from_millis(800));
            }
            // What the turn before left in the other core's caches is not this one's.
            peer.overlapped(&keys, &part[..part.len() / 5]);
            let mut spread = histogram();
            timed(&mut *peer, &keys, part, &mut spread);
            means[i].push(spread.mean());
            tails[i].push(spread.value_at_quantile(0.999) as f64);
            spreads[i].add(&spread).expect("equal bounds");
            rates[i].push(contender.feeder.set(rate));
        }
    }
    for (i, (load, _)) in loads.into_iter().enumerate() {
        let ratios = tails[i].iter().zip(&tails[0]).map(|(of, idle)| of / idle);
        let row = Row {
            group: "load".into(),
            peer: name.into(),
            keys: count,
            value: len,
            load: load.into(),
            ns: median(means[i].clone()),
            ratio: median(ratios.collect()),
            rate: median(rates[i].clone()),
            ..Row::default()
        };
        note(&row.spread(&spreads[i]));
    }
}

/// Lookups of two threads together beside those of one, in ns each.
pub fn threads(count: usize, len: usize, rounds: usize) {
    for name in names(len) {
        match Contender::new(name, count, len) {
            Ok(contender) => threaded(name, &contender.open, count, len, rounds),
            Err(error) => println!("SKIPPED {name}: {error}"),
        }
    }
    // And those that are of this process alone, or have no writer.
    let keys: Vec<_> = (0..count).map(key).collect();
    let map = Arc::new(InProcess::table(&keys, len));
    let open: Open = Box::new(move || Box::new(InProcess(Arc::clone(&map))));
    threaded("HashMap, in the process", &open, count, len, rounds);
    let ours = Contender::new(OURS, count, len).expect("it could be had before");
    let place = ours.feeder.place.clone();
    let open: Open =
        Box::new(move || Box::new(Least("the floor", Floor::new(&place, Pages::Small))));
    threaded("the floor", &open, count, len, rounds);
}

fn threaded(name: &str, open: &Open, count: usize, len: usize, rounds: usize) {
    let keys: Vec<_> = (0..count).map(key).collect();
    let order = Order::Uniform.positions(count, 1 << 20);
    // In warm caches, so that a part takes its 50 ms: in a short one the start of the second thread would count.
    let mut first = open();
    first.overlapped(&keys, &order[..2000]);
    let each = first.overlapped(&keys, &order[2000..4000]);
    drop(first);
    let part = &order[..((5e7 / each) as usize).min(order.len())];
    let measure = |threads: usize| {
        let ready = std::sync::Barrier::new(threads + 1);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    let mut peer = open();
                    peer.overlapped(&keys, part);
                    ready.wait();
                    peer.overlapped(&keys, part);
                    ready.wait();
                });
            }
            ready.wait();
            let begun = Instant::now();
            ready.wait();
            begun.elapsed().as_nanos() as f64 / (part.len() * threads) as f64
        })
    };
    let in_turn = |round| match round % 2 {
        0 => (measure(1), measure(2)),
        _ => {
            let two = measure(2);
            (measure(1), two)
        }
    };
    let pairs: Vec<_> = (0..rounds).map(in_turn).collect();
    for (i, load) in ["one thread", "two threads"].into_iter().enumerate() {
        note(&Row {
            group: "threads".into(),
            peer: name.into(),
            keys: count,
            value: len,
            load: load.into(),
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
