//! The other process: fills a store of ours or of a peer, and then updates it as often a second as it is told.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use erlmcp_shm_benches::key;
use erlmcp_shm_reader::Kind;
use erlmcp_shm_writer::Writer;

use crate::{blackboard, lmdb, mmap_sync, server};

/// Puts the value of key number `i`.
type Put = Box<dyn FnMut(usize, Vec<u8>)>;

/// As fast as it goes.
pub const FLAT_OUT: u64 = u64::MAX;

/// What is fed, by the name it has in the tables, and where it is.
fn filled(peer: &str, place: &Path, count: usize, len: usize) -> Put {
    let keys: Vec<_> = (0..count).map(key).collect();
    let first = |i: usize| vec![i as u8; len];
    match peer {
        "LMDB, a transaction each" => {
            let (env, table) = lmdb::filled(place, &keys, len);
            Box::new(move |i, value| {
                let mut txn = env.write_txn().expect("the only writer");
                table.put(&mut txn, &keys[i], &value).expect("room");
                txn.commit().expect("room");
            })
        }
        "mmap-sync" => {
            let mut map: HashMap<_, _> = (0..count)
                .map(|i| (mmap_sync::text(&keys[i]).to_owned(), first(i)))
                .collect();
            let mut written = mmap_sync::Writer::new(place);
            written.write(&map);
            Box::new(move |i, value| {
                map.insert(mmap_sync::text(&keys[i]).to_owned(), value);
                written.write(&map);
            })
        }
        "iceoryx2 blackboard" => {
            let mut board = blackboard::Made::new(place, &keys).expect("it could be made before");
            Box::new(move |i, value| board.put(i, &value))
        }
        "Redis, unix socket" => {
            let mut redis = server::Redis::connect(place).expect("it runs");
            for (i, key) in keys.iter().enumerate() {
                redis.put(key, &first(i));
            }
            Box::new(move |i, value| redis.put(&keys[i], &value))
        }
        _ => {
            let size = (count * (len + 512)).next_multiple_of(2 << 20) as u64 * 2;
            let options = Writer::options().size(size).max_size(4 * size);
            let writer = options.open(place).expect("room");
            let put = move |writer: &Writer, i: usize, value: &[u8]| {
                writer
                    .put(Kind::Resource, &keys[i], value, b"{}")
                    .expect("room");
            };
            (0..count).for_each(|i| put(&writer, i, &first(i)));
            writer.compact().expect("room");
            // It gets its huge pages when nothing has happened for a moment.
            std::thread::sleep(Duration::from_millis(700));
            Box::new(move |i, value| put(&writer, i, &value))
        }
    }
}

/// What the process does: says when it has filled the store, and answers each rate that it is given with how often a
/// second it got to update the store at the rate before.
pub fn feed(peer: &str, place: &Path, count: usize, len: usize) {
    let mut put = filled(peer, place, count, len);
    println!("filled");
    // Relaxed, both: numbers that nothing else hangs on.
    let (rate, done) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut since = Instant::now();
            for line in std::io::stdin().lines() {
                let line = line.expect("text");
                rate.store(line.parse().expect("a number"), Ordering::Relaxed);
                let updates = done.swap(0, Ordering::Relaxed) as f64;
                println!("{}", updates / since.elapsed().as_secs_f64());
                since = Instant::now();
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
            put(i.wrapping_mul(7919) % count, vec![i as u8; len]);
            done.fetch_add(1, Ordering::Relaxed);
            if rate != FLAT_OUT {
                due += Duration::from_secs_f64(1.0 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
    });
}

/// The feeding process, ended when dropped.
pub struct Feeder {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// Where what it feeds is.
    pub place: PathBuf,
}

impl Feeder {
    /// Starts it, and waits until it has filled the store.
    pub fn new(peer: &str, place: PathBuf, count: usize, len: usize) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this program"))
            .args(["feed", peer])
            .arg(&place)
            .args([count.to_string(), len.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it can be run again");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut feeder = Self {
            process,
            input,
            output,
            place,
        };
        assert_eq!(feeder.line(), "filled");
        feeder
    }

    /// Updates this often a second from now on; how often it was until now.
    pub fn set(&mut self, rate: u64) -> f64 {
        writeln!(self.input, "{rate}").expect("it lives");
        let was = self.line().parse().expect("a number");
        // Until what it did before is over.
        std::thread::sleep(Duration::from_millis(20));
        was
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it lives");
        line.trim().to_owned()
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
