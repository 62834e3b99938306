//! Transports that break, and what becomes of the requests on them.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_client::config::TransportKind::{Http, Stdio, WebSocket};
use erlmcp_shm_client::*;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{Switch, World, route};

const URI: &str = "file:///a.txt";

struct Pair {
    world: Arc<World>,
    first: Arc<Switch>,
    second: Arc<Switch>,
    client: HybridClient,
}

/// Two transports to the same server, the first of a higher priority.
fn pair(options: Options) -> Pair {
    let world = World::new();
    world.set(URI, "x");
    let (one, first) = route(WebSocket, 10, &world, true);
    let (two, second) = route(Stdio, 6, &world, false);
    let client = HybridClient::new(None, vec![two, one], options);
    Pair {
        world,
        first,
        second,
        client,
    }
}

fn active(client: &HybridClient) -> Option<config::TransportKind> {
    let transports = client.transports();
    transports
        .iter()
        .find(|transport| transport.active)
        .map(|transport| transport.kind)
}

async fn read(client: &HybridClient) -> Result<(), ClientError> {
    let request = client.request().cache(CacheMode::Bypass);
    request.read_resource(URI).await.map(drop)
}

#[tokio::test]
async fn the_highest_priority_is_first_and_the_next_takes_over() {
    let Pair {
        first,
        second,
        client,
        ..
    } = pair(Options::default());
    read(&client).await.unwrap();
    assert_eq!(active(&client), Some(WebSocket));
    assert_eq!(
        (first.connections(), second.connections()),
        (1, 0),
        "the fallback is not started before"
    );
    first.kill();
    read(&client).await.unwrap();
    assert_eq!(active(&client), Some(Stdio));
    let metrics = client.metrics();
    assert_eq!(
        (metrics.failover_count, metrics.failover_success_rate),
        (1, 1.0)
    );
    assert_eq!(metrics.transport_type, Some(Stdio));
}

/// 1,000 requests with the active transport killed in their midst, again and again: every read is answered, and no
/// call is carried out twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_under_way_when_a_transport_dies() {
    let Pair {
        world,
        first,
        second,
        client,
    } = pair(Options::default());
    *world.delay.lock().unwrap() = Duration::from_millis(1);
    let killer = async {
        for _ in 0..20 {
            for switch in [&first, &second] {
                tokio::time::sleep(Duration::from_millis(15)).await;
                switch.cut();
            }
        }
    };
    let reads = async {
        for batch in 0..25 {
            let reads = (0..20).map(|_| read(&client));
            for read in futures_util::future::join_all(reads).await {
                read.unwrap_or_else(|error| panic!("batch {batch}: {error}"));
            }
        }
    };
    let calls = async {
        let (mut done, mut unknown) = (0, 0);
        for batch in 0..25 {
            let calls = (0..20).map(|n| {
                let arguments = json!({"n": batch * 20 + n}).as_object().cloned();
                client.call_tool("add", arguments)
            });
            for call in futures_util::future::join_all(calls).await {
                match call {
                    Ok(_) => done += 1,
                    Err(ClientError::Upstream(UpstreamError::Lost { .. })) => unknown += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        (done, unknown)
    };
    let ((), (), (done, unknown)) = tokio::join!(killer, reads, calls);
    let carried_out: Vec<_> = world
        .calls
        .lock()
        .unwrap()
        .iter()
        .map(|call| call["n"].as_u64())
        .collect();
    let distinct: HashSet<_> = carried_out.iter().collect();
    assert_eq!(
        distinct.len(),
        carried_out.len(),
        "a call was carried out twice"
    );
    assert!(carried_out.len() >= done && carried_out.len() <= done + unknown);
    assert_eq!(done + unknown, 500);
    println!(
        "500 reads, all answered; 500 calls: {done} answered, {unknown} of unknown fate, {} carried out, none twice",
        carried_out.len()
    );
}

#[tokio::test]
async fn a_call_that_cannot_have_been_sent_goes_to_the_next() {
    let Pair {
        world,
        first,
        client,
        ..
    } = pair(Options::default());
    first.kill();
    client.call_tool("add", None).await.unwrap();
    assert_eq!(world.calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_transport_that_says_nothing_leaves_time_for_the_next() {
    let Pair {
        first,
        second,
        client,
        ..
    } = pair(Options {
        upstream: UpstreamOptions {
            connect_timeout: Duration::from_millis(300),
            ..UpstreamOptions::default()
        },
        ..Options::default()
    });
    first
        .silent
        .store(true, std::sync::atomic::Ordering::SeqCst);
    read(&client).await.unwrap();
    assert_eq!(second.connections(), 1);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_a_typed_error() {
    let world = World::new();
    world.set(URI, "x");
    *world.delay.lock().unwrap() = Duration::from_secs(3600);
    let (route, _switch) = route(Http, 5, &world, true);
    let client = HybridClient::new(None, vec![route], Options::default());
    let within = Duration::from_millis(200);
    let started = Instant::now();
    let error = client
        .request()
        .timeout(within)
        .read_resource(URI)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::Timeout(_))),
        "{error}"
    );
    let error = client
        .request()
        .timeout(within)
        .call_tool("add", None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::Timeout(_))),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_breaker_opens_and_its_transport_is_left_alone() {
    let Pair {
        first,
        second,
        client,
        ..
    } = pair(Options::default());
    first.kill();
    second.kill();
    for _ in 0..6 {
        let error = read(&client).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Upstream(UpstreamError::Unavailable(_))),
            "{error}"
        );
    }
    let open = client
        .transports()
        .iter()
        .all(|transport| transport.breaker == BreakerState::Open);
    assert!(open, "{:?}", client.transports());
    first.revive();
    let error = read(&client).await.unwrap_err().to_string();
    assert!(error.contains("breaker is open"), "{error}");
}

#[tokio::test]
async fn a_transport_that_comes_back_has_to_prove_itself() {
    let Pair { first, client, .. } = pair(Options::default());
    read(&client).await.unwrap();
    first.kill();
    read(&client).await.unwrap();
    assert_eq!(active(&client), Some(Stdio));
    // Enough use to give the fallback its latency, and the first one a bad check.
    client.check_health().await;
    first.revive();
    client.check_health().await;
    assert_eq!(active(&client), Some(Stdio), "after one good check");
    for _ in 0..3 {
        client.check_health().await;
    }
    let scores: Vec<_> = client
        .transports()
        .iter()
        .map(|transport| (transport.kind, transport.score))
        .collect();
    let better = scores[0].1 >= scores[1].1 + FAIL_BACK_MARGIN;
    assert_eq!(active(&client) == Some(WebSocket), better, "{scores:?}");
    read(&client).await.unwrap();
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_is_cancelled_at_the_server() {
    let world = World::new();
    world.set(URI, "x");
    let (route, _switch) = route(Http, 5, &world, false);
    let client = HybridClient::new(None, vec![route], Options::default());
    read(&client).await.unwrap();
    *world.delay.lock().unwrap() = Duration::from_secs(3600);
    {
        let call = client.call_tool("add", None);
        let soon = Duration::from_millis(100);
        assert!(tokio::time::timeout(soon, call).await.is_err());
    }
    let patience = Instant::now() + Duration::from_secs(5);
    while world.cancelled.load(std::sync::atomic::Ordering::SeqCst) == 0 {
        assert!(Instant::now() < patience, "the server never heard of it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
