//! Many threads read while a writer publishes as fast as it can: never a torn value, never an older
//! one than what had been published when the lookup began.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support {
    pub mod payload;
}

use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::payload::{number, payload};

const KEYS: u64 = 50;

fn key(n: u64) -> Vec<u8> {
    format!("resource/{}", n % KEYS).into_bytes()
}

#[test]
fn no_lookup_is_torn_or_stale() {
    let folder = tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap();
    let path = folder.path().join("store.bin");
    let writer = Writer::options()
        .size(256 << 10)
        .max_size(64 << 20)
        .open(&path)
        .unwrap();
    let shm = Reader::open(&path).unwrap();
    let pread = Reader::options().pread(true).open(&path).unwrap();
    let newest: Vec<AtomicU64> = (0..KEYS).map(|_| AtomicU64::new(0)).collect();
    let (stop, start) = (AtomicBool::new(false), Barrier::new(6));

    std::thread::scope(|scope| {
        let reader = |kind: u64| {
            let (newest, stop, start) = (&newest, &stop, &start);
            let shm = if kind == 4 { &pread } else { &shm };
            move || {
                start.wait();
                let mut lookups = 0u64;
                let mut view = shm.view().unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let n = lookups.wrapping_mul(0x9e37_79b9) >> 7;
                    let key = key(n);
                    let at_least = newest[(n % KEYS) as usize].load(Ordering::Acquire);
                    let check = |value: Option<&[u8]>| {
                        let found = value.map_or(0, |value| number(&key, value));
                        assert!(found >= at_least, "{found} after {at_least}");
                    };
                    match kind {
                        0 => {
                            view.refresh(shm).unwrap();
                            check(
                                view.get(Kind::Resource, &key)
                                    .unwrap()
                                    .map(|e| e.into_data())
                                    .as_deref(),
                            );
                        }
                        1 => check(shm.get_bytes(Kind::Resource, &key).unwrap().as_deref()),
                        2 => {
                            let view = shm.view().unwrap();
                            let found = view.get_many(&[(Kind::Resource, &key); 20]);
                            for entry in found {
                                check(entry.unwrap().as_ref().map(|e| e.data()));
                            }
                        }
                        3 => {
                            let view = shm.view().unwrap();
                            for entry in &view {
                                number(entry.key(), entry.data());
                            }
                        }
                        _ => check(shm.get_bytes(Kind::Resource, &key).unwrap().as_deref()),
                    }
                    lookups += 1;
                }
                lookups
            }
        };
        let readers: Vec<_> = (0..5).map(|kind| scope.spawn(reader(kind))).collect();
        start.wait();
        let began = Instant::now();
        let mut n = 0;
        while began.elapsed() < Duration::from_secs(3) {
            n += 1;
            let key = key(n);
            writer
                .put(Kind::Resource, &key, &payload(&key, n), b"{}")
                .unwrap();
            newest[(n % KEYS) as usize].store(n, Ordering::Release);
        }
        stop.store(true, Ordering::Relaxed);
        let lookups: Vec<u64> = readers.into_iter().map(|r| r.join().unwrap()).collect();
        let rollovers = shm.stats().unwrap().rollovers;
        println!("{n} puts, {rollovers} rollovers, lookups by thread: {lookups:?}");
        assert!(rollovers > 0, "no rollover happened");
        assert!(lookups.iter().all(|n| *n > 0));
    });
}
