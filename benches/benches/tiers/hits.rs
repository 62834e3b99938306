//! A hit in the first tier, through the cache and through the client, beside a bare `HashMap` that knows nothing of
//! freshness. Keys in a uniform order, overlapped; every answer is touched. Rounds in turn.

use crate::setting::{LEN, Setting, contents, median, roomy, runtime, table, touched, uri};
use erlmcp_shm_client::Tier;
use erlmcp_shm_reader::Kind;
use erlmcp_shm_reader::l1::{Cache, CacheOptions};
use rmcp::model::{ReadResourceResult, ResourceContents};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const READS: usize = 1 << 18;
const ROUNDS: usize = 15;

/// What the client makes of an entry, without its metadata.
fn result(key: &[u8], data: &[u8]) -> ReadResourceResult {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    ReadResourceResult::new(vec![ResourceContents::text(text(data), text(key))])
}

pub fn run() {
    let mut rows = vec![];
    for count in [100, 10_000] {
        let setting = Setting::new(count, count);
        let order = setting.store.uniform(READS);
        let uris = &setting.uris;
        let values = uris.iter().enumerate().map(|(i, uri)| {
            let text = crate::setting::text(i, 0);
            (
                uri.clone(),
                Arc::new(result(uri.as_bytes(), text.as_bytes())),
            )
        });
        let map: HashMap<String, Arc<ReadResourceResult>> = values.collect();
        let options = CacheOptions::default().max_bytes(32 << 20);
        let cache = Cache::new(&setting.store.reader, options, |entry| {
            Ok(result(entry.key(), entry.data()))
        });
        let runtime = runtime();
        let client = runtime.block_on(async { setting.client(roomy()) });
        for (i, uri) in uris.iter().enumerate() {
            cache.get(Kind::Resource, uri).expect("readable");
            let read = runtime.block_on(client.read_resource(uri)).expect("there");
            assert_eq!(contents(&read), crate::setting::text(i, 0));
        }
        let timed = |read: &dyn Fn() -> usize| {
            let begun = Instant::now();
            black_box(read());
            begun.elapsed().as_nanos() as f64 / READS as f64
        };
        let ways: [(&str, &dyn Fn() -> usize); 4] = [
            ("HashMap<String, Arc<..>>, never fresh", &|| {
                let get = |i: usize| touched(&Arc::clone(&map[&uris[i]]));
                order.iter().map(|&i| get(i)).sum()
            }),
            ("the cache, Cache::get", &|| {
                let get = |i: usize| cache.get(Kind::Resource, &uris[i]);
                let get = |i: usize| touched(&get(i).expect("readable").expect("present"));
                order.iter().map(|&i| get(i)).sum()
            }),
            ("the client, try_read_resource", &|| {
                let get = |i: usize| client.try_read_resource(&uris[i]);
                let get = |i: usize| touched(&get(i).expect("present"));
                order.iter().map(|&i| get(i)).sum()
            }),
            ("the client, read_resource().await", &|| {
                runtime.block_on(async {
                    let mut sum = 0;
                    for &i in &order {
                        let answer = client.read_resource(&uris[i]).await.expect("present");
                        debug_assert_eq!(answer.tier(), Tier::L1);
                        sum += touched(&answer);
                    }
                    sum
                })
            }),
        ];
        let mut rounds = [const { vec![] }; 4];
        for _ in 0..ROUNDS {
            for (figures, (_, read)) in rounds.iter_mut().zip(&ways) {
                figures.push(timed(read));
            }
        }
        let floor = rounds[0].clone();
        for (figures, (name, _)) in rounds.into_iter().zip(&ways) {
            let ratios = figures.iter().zip(&floor).map(|(ours, floor)| ours / floor);
            let ratio = median(ratios.collect());
            let ns = median(figures);
            rows.push(vec![
                (*name).to_owned(),
                count.to_string(),
                format!("{ns:.1}"),
                format!("{ratio:.2}"),
            ]);
        }
    }
    let key = uri(0).len();
    table(
        &format!("hit of {LEN} B under keys of {key} B | keys | ns | x the HashMap"),
        &rows,
    );
}
