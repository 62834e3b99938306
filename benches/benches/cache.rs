//! A hit in the cache of decoded values, beside what else could hold them: a bare `HashMap`, and the two
//! crates that were candidates to build the cache on. None of the others knows whether its value is stale.
//!
//! Keys in a uniform order, overlapped; every hit hands out an `Arc` of the value, and touches it.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use erlmcp_shm_benches::{Filled, touch};
use erlmcp_shm_reader::Kind;
use erlmcp_shm_reader::l1::{Cache, CacheOptions};
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

/// Reads of one iteration.
const READS: usize = 16 << 10;
const LEN: usize = 1 << 10;

type Value = Arc<Vec<u8>>;

fn cache(c: &mut Criterion) {
    for count in [100, 10_000] {
        let filled = Filled::new(count, LEN);
        let order = filled.uniform(READS);
        let keys = &filled.keys;
        let values = keys
            .iter()
            .map(|key| (key.clone(), Arc::new(key.repeat(26))));

        let options = CacheOptions::default().max_bytes(1 << 30);
        let ours = Cache::new(&filled.reader, options, |entry| Ok(entry.data().to_vec()));
        let map: HashMap<Vec<u8>, Value> = values.clone().collect();
        let papaya: papaya::HashMap<Vec<u8>, Value> = values.clone().collect();
        // With the hasher that the other two have by default.
        let quick = quick_cache::sync::Cache::<Vec<u8>, Value, _, RandomState>::with(
            2 * count,
            2 * count as u64,
            quick_cache::UnitWeighter,
            RandomState::new(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        values.for_each(|(key, value)| quick.insert(key, value));

        let mut ours = |key: &[u8]| {
            let cached = ours.get(Kind::Resource, key).expect("idle");
            touch(&cached.expect("present"))
        };
        let mut map = |key: &[u8]| touch(&Value::clone(&map[key]));
        let mut papaya = |key: &[u8]| {
            let value = papaya.pin().get(key).map(Value::clone);
            touch(&value.expect("present"))
        };
        let mut quick = |key: &[u8]| touch(&quick.get(key).expect("present"));
        let mut decoding = |key: &[u8]| {
            let view = filled.reader.view().expect("current");
            let entry = view.get(Kind::Resource, key).expect("idle");
            touch(&Arc::new(entry.expect("present").data().to_vec()))
        };

        let mut group = c.benchmark_group(format!("cache/{count}x{LEN}B"));
        group.throughput(Throughput::Elements(READS as u64));
        for (name, get) in [
            (
                "HashMap, never fresh",
                &mut map as &mut dyn FnMut(&[u8]) -> usize,
            ),
            ("papaya, never fresh", &mut papaya),
            ("quick_cache, never fresh", &mut quick),
            ("hit", &mut ours),
            ("no cache: lookup and copy", &mut decoding),
        ] {
            group.bench_function(name, |b| {
                b.iter(|| order.iter().fold(0, |sum, &i| sum + get(&keys[i])))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, cache);
criterion_main!(benches);
