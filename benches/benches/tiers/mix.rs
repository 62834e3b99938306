//! The expected mix of reads: 99 % from the process, 0.9 % from shared memory, 0.1 % from the server.
//!
//! It is made by what happens to the resources, not by asking a tier: 9,990 of 10,000 are published, and of a
//! thousand reads 9 find theirs published anew since it was last read; one is of a resource that only the server
//! has, whose answers may not be kept. All else has been read before. Every read is timed by itself.

use crate::setting::{Setting, contents, edition, histogram, roomy, runtime, table, text, time};
use erlmcp_shm_client::Tier;
use erlmcp_shm_client::metrics::{Counts, Metrics};
use erlmcp_shm_reader::Kind;
use std::time::Instant;

const KEYS: usize = 10_000;
const DYNAMIC: usize = 10;
const BLOCKS: usize = 5_000;
const BLOCK: usize = 1_000;
const CHANGED: usize = 9;

pub fn run() {
    let published = KEYS - DYNAMIC;
    let setting = Setting::new(KEYS, published);
    let runtime = runtime();
    let order = setting.store.uniform(BLOCKS * BLOCK);
    let mut editions = vec![0; KEYS];
    let mut tiers = [histogram(), histogram(), histogram()];
    runtime.block_on(async {
        let client = setting.client(roomy());
        for uri in &setting.uris {
            client.read_resource(uri).await.expect("one of them has it");
        }
        for (n, block) in order.chunks(BLOCK).enumerate() {
            let mut block = block.to_vec();
            block[BLOCK / 2] = published + n % DYNAMIC;
            for at in 0..CHANGED {
                // Spread over the block, and not where the server is asked.
                let i = block[at * (BLOCK / CHANGED) + 1];
                editions[i] = n + 1;
                let (key, data) = (&setting.store.keys[i], text(i, n + 1));
                let put = setting
                    .store
                    .writer
                    .put(Kind::Resource, key, data.as_bytes(), b"{}");
                put.expect("room");
            }
            for i in block {
                let begun = Instant::now();
                let answer = client.read_resource(&setting.uris[i]).await;
                let ns = begun.elapsed().as_nanos() as u64;
                let answer = answer.expect("one of them has it");
                let tier = match answer.tier() {
                    Tier::L1 => 0,
                    Tier::L2 => 1,
                    Tier::L3 => 2,
                };
                tiers[tier].saturating_record(ns);
                assert_eq!(edition(contents(&answer)), editions[i], "a stale answer");
            }
        }
    });
    let mut all = histogram();
    for tier in &tiers {
        all.add(tier).expect("the same bounds");
    }
    let metrics = Metrics::new(&Counts {
        reads_l1: tiers[0].len(),
        reads_l2: tiers[1].len(),
        reads_missed: tiers[2].len(),
        ..Counts::new(&all)
    });
    let shares = [
        metrics.cache_hit_rate_l1,
        metrics.cache_hit_rate_l2,
        metrics.cache_miss_rate,
        1.0,
    ];
    let names = [
        "L1, this process",
        "L2, shared memory",
        "L3, the server",
        "the mix",
    ];
    let rows = names.iter().zip(shares).zip(tiers.iter().chain([&all]));
    let rows = rows.map(|((name, share), times)| {
        let at = |q| time(times.value_at_quantile(q) as f64);
        let share = format!("{:.2} %", 100.0 * share);
        let times = [at(0.5), at(0.99), at(0.999), time(times.max() as f64)];
        [name.to_string(), share].into_iter().chain(times).collect()
    });
    let rows: Vec<Vec<String>> = rows.collect();
    let heading =
        "read_resource, 10,000 keys of 1 KiB | of all reads | p50 | p99 | p99.9 | longest";
    table(heading, &rows);
    let compliance = metrics.sona_compliance_pct;
    println!(
        "{compliance:.3} % of {} reads took less than 50 us.",
        all.len()
    );
    let store = setting.store.reader.stats().expect("it is there");
    println!(
        "The store's file has {:.0} MiB ({} entries), the first tier room for {} MiB: by default they begin with 10, \
         and stay at 10.\n",
        store.size as f64 / (1 << 20) as f64,
        store.entries,
        roomy().l1_bytes >> 20,
    );
}
