//! A lookup beside the floor, in one run: overlapped (independent keys) and dependent (the next key
//! hangs on the last value), with the value touched.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use erlmcp_shm_benches::{Filled, Floor, Pages, touch};
use erlmcp_shm_reader::Kind;

/// Lookups of one iteration: enough that the order of keys does not repeat in the caches.
const LOOKUPS: usize = 16 << 10;

fn lookup(c: &mut Criterion) {
    for (count, len) in [(100, 1 << 10), (10_000, 1 << 10), (200_000, 1 << 10)] {
        let filled = Filled::new(count, len);
        let order = filled.uniform(LOOKUPS);
        let floor = Floor::new(&filled.path, Pages::Small);
        let huge = Floor::new(&filled.path, Pages::Huge);
        let keys = &filled.keys;
        let mut group = c.benchmark_group(format!("lookup/{count}x{len}B"));
        group.throughput(Throughput::Elements(LOOKUPS as u64));
        let mut ours = |key: &[u8]| {
            let view = filled.reader.view().expect("current");
            let entry = view.get(Kind::Resource, key).expect("idle");
            touch(entry.expect("present").data())
        };
        // As a loop does it: one view, refreshed before each lookup, which is as fresh as a new one.
        let mut loops = filled.reader.view().expect("current");
        let mut kept = |key: &[u8]| {
            loops.refresh(&filled.reader).expect("current");
            let entry = loops.get(Kind::Resource, key).expect("idle");
            touch(entry.expect("present").data())
        };
        let mut least = |key: &[u8]| touch(floor.get(key).expect("present"));
        let mut least_huge = |key: &[u8]| touch(huge.get(key).expect("present"));
        for (name, get) in [
            ("floor", &mut least as &mut dyn FnMut(&[u8]) -> usize),
            ("floor on 2 MiB pages", &mut least_huge),
            ("get", &mut kept),
            ("view and get", &mut ours),
        ] {
            // One indirect call for both, so that neither is inlined into the loop.
            group.bench_function(BenchmarkId::new(name, "overlapped"), |b| {
                b.iter(|| order.iter().fold(0, |sum, &i| sum + get(&keys[i])))
            });
            group.bench_function(BenchmarkId::new(name, "dependent"), |b| {
                b.iter(|| {
                    order.iter().fold(0, |last, &i| {
                        // Always 0, and only the value can tell.
                        let nothing = black_box(last) >> 32;
                        get(&keys[i ^ nothing])
                    })
                })
            });
        }
        group.bench_function("get_many of 16/overlapped", |b| {
            b.iter(|| {
                let mut sum = 0;
                for batch in order.chunks(16) {
                    let batch: Vec<_> = batch.iter().map(|&i| (Kind::Resource, &keys[i])).collect();
                    let view = filled.reader.view().expect("current");
                    for entry in view.get_many(&batch) {
                        sum += touch(entry.expect("idle").expect("present").data());
                    }
                }
                sum
            })
        });
        group.bench_function("get_bytes/overlapped", |b| {
            b.iter(|| {
                order.iter().fold(0, |sum, &i| {
                    let bytes = filled.reader.get_bytes(Kind::Resource, &keys[i]);
                    sum + touch(&bytes.expect("idle").expect("present"))
                })
            })
        });
        group.finish();
    }
}

criterion_group!(benches, lookup);
criterion_main!(benches);
