//! What the client costs on the way to the server: a call of a tool and a read that goes by the caches, beside
//! rmcp's own peer without a cache; same server, a TCP connection each, one after the other in turns.
//!
//! And how long it takes from nothing to the first answer.

use crate::server::bare;
use crate::setting::{Setting, histogram, median, runtime, table, time, touched};
use erlmcp_shm_client::{CacheMode, HybridClient, Options, Revision};
use hdrhistogram::Histogram;
use rmcp::model::{CallToolRequestParams, JsonObject, ReadResourceRequestParams};
use rmcp::service::ClientCacheConfig;
use std::future::Future;
use std::time::Instant;

const ROUNDS: usize = 21;
/// Requests of each in a round.
const REQUESTS: usize = 400;
const CONNECTIONS: usize = 100;

pub fn run() {
    let setting = Setting::new(100, 100);
    runtime().block_on(async {
        overhead(&setting).await;
        negotiation(&setting).await;
    });
}

/// Both in turns: times of each, and the medians over the rounds of their means and of the ratio of these.
async fn in_turns<A: Future<Output = ()>, B: Future<Output = ()>>(
    bare: impl Fn(usize) -> A,
    ours: impl Fn(usize) -> B,
) -> ([Histogram<u64>; 2], [f64; 3]) {
    async fn timed(times: &mut Histogram<u64>, request: impl Future<Output = ()>) -> f64 {
        let begun = Instant::now();
        request.await;
        let ns = begun.elapsed().as_nanos() as u64;
        times.saturating_record(ns);
        ns as f64
    }
    let mut times = [histogram(), histogram()];
    let mut figures = [vec![], vec![], vec![]];
    for _ in 0..ROUNDS {
        let mut sums = [0.0; 2];
        for n in 0..REQUESTS {
            sums[0] += timed(&mut times[0], bare(n)).await;
            sums[1] += timed(&mut times[1], ours(n)).await;
        }
        figures[0].push(sums[0] / REQUESTS as f64);
        figures[1].push(sums[1] / REQUESTS as f64);
        figures[2].push(sums[1] / sums[0]);
    }
    (times, figures.map(median))
}

async fn overhead(setting: &Setting) {
    let client = setting.client(Options::default());
    let bare = bare(setting.server.address).await;
    let peer = bare.peer();
    let cacheless = ClientCacheConfig::disabled();
    peer.set_response_cache_config(cacheless).await;
    let uris = &setting.uris;
    let uri = |n: usize| uris[n % uris.len()].as_str();
    let arguments = || {
        let mut arguments = JsonObject::new();
        arguments.insert("n".to_owned(), 1.into());
        arguments
    };
    let calls = in_turns(
        |_| async {
            let params = CallToolRequestParams::new("add").with_arguments(arguments());
            peer.call_tool(params).await.expect("it works");
        },
        |_| async {
            let called = client.call_tool("add", Some(arguments())).await;
            called.expect("it works");
        },
    );
    let reads = in_turns(
        |n| async move {
            let params = ReadResourceRequestParams::new(uri(n));
            let read = peer.read_resource(params).await;
            touched(&read.expect("it is there"));
        },
        |n| {
            let request = client.request().cache(CacheMode::Bypass);
            async move {
                let read = request.read_resource(uri(n)).await;
                touched(&read.expect("it is there"));
            }
        },
    );
    let mut rows = vec![];
    for (what, (times, [bare, ours, ratio])) in
        [("tools/call", calls.await), ("resources/read", reads.await)]
    {
        for (who, mean, ratio, times) in [
            ("rmcp's peer", bare, 1.0, &times[0]),
            ("the client", ours, ratio, &times[1]),
        ] {
            let at = |q| time(times.value_at_quantile(q) as f64);
            let (mean, ratio) = (time(mean), format!("{ratio:.3}"));
            rows.push(vec![
                format!("{what}, {who}"),
                mean,
                ratio,
                at(0.5),
                at(0.99),
            ]);
        }
    }
    table("through to the server | mean | x rmcp | p50 | p99", &rows);
}

async fn negotiation(setting: &Setting) {
    let mut rows = vec![];
    for (name, revision) in [
        ("2026-07-28, server/discover", Revision::Stateless),
        ("2025-11-25, initialize", Revision::Initialize),
        ("whichever the server speaks", Revision::Auto),
    ] {
        let mut times = histogram();
        for _ in 0..CONNECTIONS {
            let begun = Instant::now();
            let route = setting.server.route(revision);
            let client = HybridClient::new(None, vec![route], Options::default());
            let read = client.read_resource(&setting.uris[0]).await;
            touched(&read.expect("it is there"));
            times.saturating_record(begun.elapsed().as_nanos() as u64);
            client.close().await;
        }
        let at = |q| time(times.value_at_quantile(q) as f64);
        let longest = time(times.max() as f64);
        rows.push(vec![name.to_owned(), at(0.5), at(0.99), longest]);
    }
    table(
        "from nothing to the first answer, TCP | p50 | p99 | longest",
        &rows,
    );
}
