//! Puts of 1 KiB from Rust: one by one and in batches of 100, beside a copy of the same bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use erlmcp_shm_benches::{folder, key};
use erlmcp_shm_writer::{Kind, Op, Writer};

fn put(c: &mut Criterion) {
    let folder = folder();
    let writer = Writer::options()
        .size(64 << 20)
        .max_size(256 << 20)
        .open(folder.path().join("store"))
        .expect("room for the store");
    let keys: Vec<_> = (0..10_000).map(key).collect();
    let data = vec![7; 1 << 10];
    let mut next = (0..keys.len()).cycle();
    let mut group = c.benchmark_group("put/1024B");
    group.throughput(Throughput::Elements(1));
    group.bench_function("put", |b| {
        b.iter(|| {
            let key = &keys[next.next().expect("endless")];
            writer.put(Kind::Resource, key, &data, b"{}").expect("room")
        })
    });
    let mut copies = vec![0; keys.len() << 10];
    group.bench_function("copy", |b| {
        b.iter(|| {
            let at = next.next().expect("endless") << 10;
            copies[at..at + (1 << 10)].copy_from_slice(&data);
        })
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("batch of 100", |b| {
        b.iter(|| {
            let op = |i: usize| Op::Put {
                kind: Kind::Resource,
                key: &keys[i],
                data: &data,
                metadata: b"{}",
                attributes: Default::default(),
            };
            let ops: Vec<_> = (0..100)
                .map(|_| op(next.next().expect("endless")))
                .collect();
            writer.put_batch(&ops).expect("room")
        })
    });
    group.finish();
}

criterion_group!(benches, put);
criterion_main!(benches);
