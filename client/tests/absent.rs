//! Tiers that are off, not there yet, or gone: who answers instead, and with which error nobody does.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_client::config::{Config, Invalidate, Pattern, TransportKind};
use erlmcp_shm_client::*;
use erlmcp_shm_reader::{Kind, ReadError, Reader};
use erlmcp_shm_writer::Writer;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};
use support::tiers::{URI, options, read, said, store, text};
use support::{World, route};

/// A reader of a file that is not there.
fn absent(path: &Path) -> Reader {
    let options = Reader::options().allow_absent(true);
    let options = options.refresh_interval(Duration::from_millis(10));
    options.open(path).unwrap()
}

#[tokio::test]
async fn without_shared_memory_what_the_server_says_is_kept() {
    for stateless in [true, false] {
        let world = World::new();
        world.set(URI, "one");
        let (route, _switch) = route(TransportKind::Stdio, 5, &world, stateless);
        let mut invalidate = Invalidate::default();
        invalidate.add("write", [Pattern::Key(URI.into())]);
        let options = Options {
            invalidate,
            ..options()
        };
        let client = HybridClient::new(None, vec![route], options);
        assert_eq!(read(&client, URI).await, said("one", Tier::L3));
        assert_eq!(read(&client, URI).await, said("one", Tier::L1));
        let prompt = async || client.get_prompt("greet", None).await.unwrap().tier();
        assert_eq!((prompt().await, prompt().await), (Tier::L3, Tier::L1));
        let metrics = client.metrics();
        assert_eq!(
            (metrics.cache_hit_rate_l1, metrics.cache_hit_rate_l2),
            (0.5, 0.0)
        );
        // What a call changes goes, and what the client is told to ask anew.
        let arguments = json!({"uri": URI, "text": "two"}).as_object().cloned();
        client.call_tool("write", arguments).await.unwrap();
        assert_eq!(read(&client, URI).await, said("two", Tier::L3));
        assert_eq!(read(&client, URI).await, said("two", Tier::L1));
        client.refresh();
        assert_eq!(read(&client, URI).await, said("two", Tier::L3));
    }
}

#[tokio::test]
async fn without_shared_memory_the_server_is_heard() {
    for stateless in [true, false] {
        let world = World::new();
        world.set(URI, "1");
        let (route, _switch) = route(TransportKind::Stdio, 5, &world, stateless);
        let client = HybridClient::new(None, vec![route], options());
        client.subscribe(URI);
        assert_eq!(read(&client, URI).await.0, "1");
        assert_eq!(read(&client, URI).await, said("1", Tier::L1));
        world.set(URI, "2");
        let patience = Instant::now() + Duration::from_secs(10);
        while read(&client, URI).await.0 == "1" {
            assert!(Instant::now() < patience, "never heard of it");
            // Again and again: the subscription may not have arrived yet.
            world.updated.notify_waiters();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test]
async fn without_shared_memory_answers_are_kept_for_as_long_as_they_may_be() {
    // The server's bound, and ours: whichever is less.
    for (ttl_ms, l1_ttl) in [
        (50, Duration::from_secs(600)),
        (60_000, Duration::from_millis(50)),
    ] {
        let world = World::new();
        world.set(URI, "1");
        *world.ttl_ms.lock().unwrap() = Some(ttl_ms);
        let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
        let options = Options {
            l1_ttl,
            ..options()
        };
        let client = HybridClient::new(None, vec![route], options);
        assert_eq!(read(&client, URI).await, said("1", Tier::L3));
        world.set(URI, "2");
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert_eq!(read(&client, URI).await, said("2", Tier::L3));
    }
    let world = World::new();
    world.set(URI, "1");
    *world.ttl_ms.lock().unwrap() = Some(0);
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(None, vec![route], options());
    for _ in 0..2 {
        assert_eq!(read(&client, URI).await, said("1", Tier::L3));
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_yet_is_taken_up_when_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.bin");
    let world = World::new();
    world.set(URI, "at the server");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(absent(&path)), vec![route], options());
    let answer = client.read_resource(URI).await.unwrap();
    assert_eq!((text(&answer), answer.tier()), ("at the server", Tier::L3));
    assert!(
        matches!(answer.passed(), Some(Passed::Unreadable(_))),
        "{:?}",
        answer.passed()
    );
    // Kept, although there is no shared memory to say whether it stands.
    assert_eq!(read(&client, URI).await, said("at the server", Tier::L1));
    assert_eq!(client.list_tools().await.unwrap().tier(), Tier::L3);

    let writer = Writer::options().size(1 << 20).open(&path).unwrap();
    writer.heartbeat().unwrap();
    writer
        .put(Kind::Resource, URI.as_bytes(), b"published", b"{}")
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(10);
    while read(&client, URI).await != said("published", Tier::L1) {
        assert!(Instant::now() < patience, "the file was never taken up");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // From then on nothing is older than what is published.
    writer
        .put(Kind::Resource, URI.as_bytes(), b"again", b"{}")
        .unwrap();
    assert_eq!(read(&client, URI).await, said("again", Tier::L2));
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn without_a_server_there_is_what_is_published() {
    let store = store();
    store.put(Kind::Resource, URI, "published", "{}");
    let world = World::new();
    world.set("file:///other", "at the server");
    let (route, switch) = route(TransportKind::Stdio, 5, &world, true);
    switch.kill();
    let none = HybridClient::new(Some(store.shm.clone()), vec![], options());
    let dead = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    for client in [&none, &dead] {
        assert_eq!(read(client, URI).await, said("published", Tier::L2));
        assert_eq!(read(client, URI).await, said("published", Tier::L1));
        let resources = client.list_resources().await.unwrap();
        assert_eq!((resources.len(), resources.tier()), (1, Tier::L2));
    }
    // Where there is no server that is everything; where there should be one, only a part.
    assert!(!none.list_resources().await.unwrap().is_partial());
    assert!(dead.list_resources().await.unwrap().is_partial());
    let error = none.read_resource("file:///other").await.unwrap_err();
    assert!(
        matches!(&error, ClientError::NotFound { kind: Kind::Resource, key } if key == "file:///other"),
        "{error}"
    );
    let error = none.call_tool("add", None).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::NoTransport)),
        "{error}"
    );
    let error = dead.read_resource("file:///other").await.unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::Unavailable(_))),
        "{error}"
    );
    // It comes back.
    switch.revive();
    assert_eq!(
        read(&dead, "file:///other").await,
        said("at the server", Tier::L3)
    );
}

/// The server of the transports' tests as a child process, and a store: what `config.toml` turns off stays off.
#[tokio::test]
async fn tiers_that_the_configuration_turns_off() {
    const URI: &str = "file:///test.txt";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.bin");
    let writer = Writer::options().size(1 << 20).open(&path).unwrap();
    writer.heartbeat().unwrap();
    writer
        .put(Kind::Resource, URI.as_bytes(), b"published", b"{}")
        .unwrap();
    let mut server = std::env::current_exe().unwrap();
    server.pop();
    server.pop();
    server.push("examples/small_server");
    let client = |more: &str| {
        let text = format!(
            "mcp.erlmcp.stdio.command = {server:?}\nmcp.erlmcp.stdio.args = []\n\
             mcp.erlmcp.shared_memory.path = {path:?}\ncache.l1.ttl = \"10m\"\n{more}"
        );
        HybridClient::from_config(&Config::parse(&text).unwrap()).unwrap()
    };
    let (l1, l2, l3) = (Tier::L1, Tier::L2, Tier::L3);
    for (off, tiers, content) in [
        ("", [l2, l1], "published"),
        ("cache.l1.enabled = false", [l2, l2], "published"),
        ("cache.l2.enabled = false", [l3, l1], "test content"),
        (
            "cache.l1.enabled = false\ncache.l2.enabled = false",
            [l3, l3],
            "test content",
        ),
        (
            "mcp.transport = \"shared_memory\"\ncache.l1.enabled = false",
            [l2, l2],
            "published",
        ),
    ] {
        let client = client(off);
        for tier in tiers {
            assert_eq!(read(&client, URI).await, said(content, tier), "{off}");
        }
        client.close().await;
    }
    let nothing = client("mcp.transport = \"shared_memory\"\ncache.l2.enabled = false");
    let error = nothing.read_resource(URI).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
}

#[tokio::test]
async fn with_everything_down_the_error_says_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("absent.bin");
    let (world, server) = (World::new(), World::new());
    world.set(URI, "x");
    let (first, switch) = route(TransportKind::Http, 8, &world, true);
    let (second, other) = route(TransportKind::Stdio, 6, &server, true);
    let options = Options {
        stale_on_error: true,
        ..options()
    };
    let routes = vec![first, second];
    let client = HybridClient::new(Some(absent(&path)), routes, options);
    assert_eq!(read(&client, URI).await, said("x", Tier::L3));
    switch.kill();
    other.kill();
    client.refresh();
    // An old answer is better than none, and says that it is one.
    let answer = client.read_resource(URI).await.unwrap();
    assert_eq!((text(&answer), answer.is_stale()), ("x", true));
    let unavailable = |error: ClientError| match error {
        ClientError::Upstream(UpstreamError::Unavailable(tried)) => {
            let names = tried.into_iter().map(|(transport, _)| transport);
            let mut names: Vec<_> = names.collect();
            names.sort();
            names.dedup();
            names
        }
        other => panic!("{other}"),
    };
    let both = ["http", "stdio"];
    let error = client.read_resource("file:///b").await.unwrap_err();
    assert_eq!(unavailable(error), both);
    let error = client.list_tools().await.unwrap_err();
    assert_eq!(unavailable(error), both);
    let error = client.call_tool("add", None).await.unwrap_err();
    assert_eq!(unavailable(error), both);
}

#[tokio::test]
async fn a_client_of_nothing_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let shm = absent(&folder.path().join("absent.bin"));
    let client = HybridClient::new(Some(shm), vec![], options());
    let error = client.read_resource(URI).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Shared(ReadError::NotFound)),
        "{error}"
    );
    let error = client.list_tools().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Shared(ReadError::NotFound)),
        "{error}"
    );
    let client = HybridClient::new(None, vec![], options());
    let error = client.read_resource(URI).await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
    let error = client.list_tools().await.unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::NoTransport)),
        "{error}"
    );
}
