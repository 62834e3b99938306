//! The three tiers together, with a real writer and a real server.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod support;

use erlmcp_shm_client::config::{Invalidate, Pattern, TransportKind};
use erlmcp_shm_client::*;
use erlmcp_shm_reader::Kind;
use erlmcp_shm_writer::{Attributes, Scope};
use rmcp::model::ResourceContents;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::tiers::{URI, options, read, said, store, text};
use support::{World, route};

#[tokio::test]
async fn a_read_is_answered_by_the_nearest_tier_and_never_by_an_old_value() {
    let store = store();
    let world = World::new();
    world.set(URI, "at the server");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    assert_eq!(read(&client, URI).await, said("at the server", Tier::L3));
    assert_eq!(read(&client, URI).await, said("at the server", Tier::L1));
    let version = store.put(Kind::Resource, URI, "one", r#"{"mime_type":"text/plain"}"#);
    let answer = client.read_resource(URI).await.unwrap();
    assert_eq!((text(&answer), answer.tier()), ("one", Tier::L2));
    assert_eq!(
        (answer.version(), answer.ttl_ms),
        (Some(version), Some(10_000))
    );
    assert_eq!(read(&client, URI).await, said("one", Tier::L1));
    store.put(Kind::Resource, URI, "two", "{}");
    assert_eq!(read(&client, URI).await, said("two", Tier::L2));
    store.writer.delete(Kind::Resource, URI.as_bytes()).unwrap();
    assert_eq!(read(&client, URI).await, said("at the server", Tier::L3));
    assert_eq!(world.reads(), 2);
}

#[tokio::test]
async fn who_cannot_wait_is_answered_from_nearby_or_not_at_all() {
    let store = store();
    let world = World::new();
    world.set(URI, "at the server");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let mut invalidate = Invalidate::default();
    invalidate.add("add", [Pattern::Key(URI.into())]);
    let options = Options {
        invalidate,
        ..options()
    };
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options);
    let near = || {
        let answer = client.try_read_resource(URI)?;
        Some((text(&answer).to_owned(), answer.tier()))
    };
    assert_eq!(near(), None);
    assert_eq!(world.reads(), 0, "the server was asked");
    assert_eq!(read(&client, URI).await, said("at the server", Tier::L3));
    assert_eq!(near(), Some(said("at the server", Tier::L1)));
    let version = store.put(Kind::Resource, URI, "published", "{}");
    assert_eq!(near(), Some(said("published", Tier::L2)));
    assert_eq!(near(), Some(said("published", Tier::L1)));
    let answer = client.try_read_resource(URI).unwrap();
    assert_eq!(answer.version(), Some(version));
    // Known to be old: only the server can say what is new.
    client.call_tool("add", None).await.unwrap();
    assert_eq!(near(), None);
    store.writer.delete(Kind::Resource, URI.as_bytes()).unwrap();
    assert_eq!(near(), None);

    assert!(client.try_tool_schema("search").is_none());
    client.list_tools().await.unwrap();
    let tool = client.try_tool_schema("search").unwrap();
    assert_eq!((&*tool.name, tool.tier()), ("search", Tier::L1));
    assert!(client.try_tool_schema("nothing").is_none());
    store.put(Kind::ToolSchema, "search", "{}", "{}");
    assert_eq!(client.try_tool_schema("search").unwrap().tier(), Tier::L2);
    assert!(client.try_capability("tools").is_none());
    store.put(Kind::Capability, "tools", "{}", "{}");
    assert_eq!(client.try_capability("tools").unwrap().tier(), Tier::L2);
}

#[tokio::test]
async fn both_revisions_of_mcp_are_spoken() {
    for stateless in [true, false] {
        let world = World::new();
        world.set(URI, "x");
        let (route, switch) = route(TransportKind::Stdio, 5, &world, stateless);
        let client = HybridClient::new(None, vec![route], options());
        assert_eq!(read(&client, URI).await.0, "x");
        let tools = client.list_tools().await.unwrap();
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        assert_eq!(names, ["add", "search"], "all pages");
        let called = client.call_tool("add", None).await.unwrap();
        assert_eq!(called.is_error, Some(false));
        let prompt = client.get_prompt("greet", None).await.unwrap();
        assert_eq!(prompt.messages.len(), 1);
        assert_eq!(client.tool_schema("search").await.unwrap().name, "search");
        let error = client.tool_schema("nothing").await.unwrap_err();
        assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
        let error = client.read_resource("file:///nothing").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Upstream(UpstreamError::Refused(_))),
            "{error}"
        );
        assert_eq!(switch.connections(), 1);
        assert!(client.probe().await[0].1.is_ok());
    }
}

#[tokio::test]
async fn tools_and_prompts_are_answered_from_shared_memory() {
    let store = store();
    let schema = r#"{"type":"object"}"#;
    let metadata = r#"{"description":"finds things","output_schema":{"type":"array"},"vendor":7}"#;
    store.put(Kind::ToolSchema, "find", schema, metadata);
    let template = json!({
        "arguments": [{"name": "who", "required": true}, {"name": "how"}],
        "messages": [{"role": "user", "content": {"type": "text", "text": "Hello {{who}}{{how}}, {{when}}"}}],
    });
    store.put(
        Kind::Prompt,
        "greet",
        &template.to_string(),
        r#"{"title":"Greeting"}"#,
    );
    store.put(Kind::Capability, "tools", r#"{"listChanged":true}"#, "{}");
    let client = HybridClient::new(Some(store.shm.clone()), vec![], options());

    let tool = client.tool_schema("find").await.unwrap();
    assert_eq!(tool.tier(), Tier::L2);
    let expected = json!({"name": "find", "description": "finds things", "inputSchema": {"type": "object"},
        "outputSchema": {"type": "array"}, "_meta": {"vendor": 7}});
    assert_eq!(serde_json::to_value(&*tool).unwrap(), expected);
    let tools = client.list_tools().await.unwrap();
    assert_eq!(
        (tools.len(), tools.tier(), tools.is_partial()),
        (1, Tier::L2, false)
    );

    let error = client.get_prompt("greet", None).await.unwrap_err();
    assert!(matches!(error, ClientError::MissingArgument(name) if name == "who"));
    let who = json!({"who": "{{how}}"}).as_object().cloned();
    let prompt = client.get_prompt("greet", who).await.unwrap();
    let message = serde_json::to_value(&prompt.messages[0]).unwrap();
    assert_eq!(message["content"]["text"], "Hello {{how}}, {{when}}");
    assert_eq!(
        client.list_prompts().await.unwrap()[0].title.as_deref(),
        Some("Greeting")
    );

    let tools = client.capability("tools").await.unwrap();
    assert_eq!(*tools, json!({"listChanged": true}));
    let error = client.capability("nothing").await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }));
}

#[tokio::test]
async fn a_prompt_without_messages_is_listed_and_made_by_the_server() {
    let store = store();
    store.put(Kind::Prompt, "greet", r#"{"arguments":[]}"#, "{}");
    let world = World::new();
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    for arguments in [None, json!({"who": "me"}).as_object().cloned()] {
        let prompt = client.get_prompt("greet", arguments).await.unwrap();
        assert_eq!((prompt.messages.len(), prompt.tier()), (1, Tier::L3));
    }
    let alone = HybridClient::new(Some(store.shm.clone()), vec![], options());
    assert_eq!(alone.list_prompts().await.unwrap()[0].name, "greet");
    assert!(alone.get_prompt("greet", None).await.is_err());
}

#[tokio::test]
async fn a_capability_that_is_not_published_the_server_has_told() {
    for stateless in [true, false] {
        let store = store();
        let world = World::new();
        let (route, switch) = route(TransportKind::Stdio, 5, &world, stateless);
        let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
        let tools = client.capability("tools").await.unwrap();
        assert_eq!(
            (&*tools, tools.tier()),
            (&json!({"listChanged": true}), Tier::L3)
        );
        let server = client.capability("server_info").await.unwrap();
        assert!(server["name"].is_string(), "{server:?}");
        let error = client.capability("nothing").await.unwrap_err();
        assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
        store.put(Kind::Capability, "tools", "{}", "{}");
        assert_eq!(client.capability("tools").await.unwrap().tier(), Tier::L2);
        switch.kill();
        client.close().await;
        let error = client.capability("prompts").await.unwrap_err();
        assert!(
            matches!(error, ClientError::Upstream(UpstreamError::Unavailable(_))),
            "{error}"
        );
    }
}

#[tokio::test]
async fn content_is_text_or_a_blob_by_its_type() {
    let store = store();
    let client = HybridClient::new(Some(store.shm.clone()), vec![], options());
    let cases: [(&str, &[u8], bool); 6] = [
        (r#"{"mime_type":"text/plain"}"#, b"x", true),
        (r#"{"mimeType":"application/json"}"#, b"{}", true),
        (r#"{"mime_type":"text/plain"}"#, b"\xff", false),
        (r#"{"mime_type":"image/png"}"#, b"looks like text", false),
        ("{}", b"text of no type", true),
        ("", b"\xfe", false),
    ];
    for (metadata, data, is_text) in cases {
        let put = store
            .writer
            .put(Kind::Resource, URI.as_bytes(), data, metadata.as_bytes());
        put.unwrap();
        let answer = client.read_resource(URI).await.unwrap();
        let text = matches!(
            answer.contents[0],
            ResourceContents::TextResourceContents { .. }
        );
        assert_eq!(text, is_text, "{metadata} {data:?}");
    }
}

#[tokio::test]
async fn a_private_entry_is_for_its_partition() {
    let store = store();
    let attributes = Attributes {
        scope: Scope::Private,
        ..Attributes::default()
    };
    let metadata = br#"{"partition":["ann","bob"],"cache_scope":"private"}"#;
    let put = store
        .writer
        .put_with(Kind::Resource, URI.as_bytes(), b"x", metadata, attributes);
    put.unwrap();
    for (partition, may) in [("ann", true), ("bob", true), ("eve", false), ("", false)] {
        let options = Options {
            partition: partition.into(),
            ..options()
        };
        let client = HybridClient::new(Some(store.shm.clone()), vec![], options);
        // Twice: what was found not to be for us stays so in the first tier.
        for _ in 0..2 {
            assert_eq!(client.read_resource(URI).await.is_ok(), may, "{partition}");
        }
        assert_eq!(
            client.list_resources().await.unwrap().len(),
            usize::from(may)
        );
    }
}

#[tokio::test]
async fn a_node_that_was_started_anew_is_asked_before_the_breakers_timeout() {
    let store = store();
    let world = World::new();
    world.set(URI, "x");
    let (route, switch) = route(TransportKind::WebSocket, 10, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    let ask = || {
        let request = client.request().cache(CacheMode::Bypass);
        request.read_resource(URI)
    };
    ask().await.unwrap();
    switch.kill();
    while client.transports()[0].breaker != BreakerState::Open {
        ask().await.unwrap_err();
    }
    switch.revive();
    let error = ask().await.unwrap_err().to_string();
    assert!(error.contains("breaker is open"), "{error}");
    // A writer that starts begins a generation.
    store.writer.compact().unwrap();
    let again = async {
        while ask().await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again)
        .await
        .unwrap();
}

#[tokio::test]
async fn misses_at_the_same_time_make_one_request() {
    let world = World::new();
    world.set(URI, "x");
    *world.delay.lock().unwrap() = Duration::from_millis(50);
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let store = store();
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    let reads = (0..50).map(|_| client.read_resource(URI));
    for answer in futures_util::future::join_all(reads).await {
        assert_eq!(text(&answer.unwrap()), "x");
    }
    assert_eq!(world.reads(), 1);
}

#[tokio::test]
async fn an_answer_older_than_an_invalidation_is_given_and_not_kept() {
    let world = World::new();
    world.set(URI, "old");
    *world.delay.lock().unwrap() = Duration::from_millis(200);
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let store = store();
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    client.list_tools().await.unwrap();
    let (answer, ()) = tokio::join!(client.read_resource(URI), async {
        // The server has looked the text up by now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        world.set(URI, "new");
        client.refresh();
        // And whoever asks from now on joins no request that is older.
        assert_eq!(read(&client, URI).await, said("new", Tier::L3));
    });
    assert_eq!(text(&answer.unwrap()), "old");
    assert_eq!(read(&client, URI).await, said("new", Tier::L1));
}

#[tokio::test]
async fn what_a_call_invalidates_is_read_from_the_server_until_shared_memory_is_newer() {
    let store = store();
    store.put(Kind::Resource, URI, "published before", "{}");
    store.put(Kind::Resource, "file:///b", "published before", "{}");
    let world = World::new();
    world.set(URI, "at the server");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let mut invalidate = Invalidate::default();
    invalidate.add("write", [Pattern::Prefix("file:///a".into())]);
    let options = Options {
        invalidate,
        ..options()
    };
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options);
    assert_eq!(read(&client, URI).await.0, "published before");
    // Another tool changes nothing here.
    client.call_tool("add", None).await.unwrap();
    assert_eq!(read(&client, URI).await, said("published before", Tier::L1));
    let arguments = json!({"uri": URI, "text": "written"}).as_object().cloned();
    client.call_tool("write", arguments).await.unwrap();
    let answer = client.read_resource(URI).await.unwrap();
    assert_eq!((text(&answer), answer.tier()), ("written", Tier::L3));
    assert_eq!(answer.passed(), Some(&Passed::Invalidated));
    assert_eq!(read(&client, URI).await, said("written", Tier::L1));
    assert_eq!(read(&client, "file:///b").await.0, "published before");
    store.put(Kind::Resource, URI, "published after", "{}");
    assert_eq!(read(&client, URI).await, said("published after", Tier::L2));
}

#[tokio::test]
async fn after_a_call_that_invalidates_the_servers_lists_are_asked_for_anew() {
    let world = World::new();
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, false);
    let mut invalidate = Invalidate::default();
    invalidate.add("write", [Pattern::Prefix("file:///".into())]);
    let options = Options {
        invalidate,
        ..options()
    };
    let client = HybridClient::new(None, vec![route], options);
    let listed = async || client.list_resources().await.unwrap().len();
    let call = async |tool, uri| {
        let arguments = json!({"uri": uri, "text": "x"}).as_object().cloned();
        client.call_tool(tool, arguments).await.unwrap()
    };
    assert_eq!(listed().await, 0);
    // This one is said to change nothing.
    call("add", "file:///a").await;
    assert_eq!(listed().await, 0);
    call("write", "file:///b").await;
    assert_eq!(listed().await, 2);
}

#[tokio::test]
async fn a_silent_writer_is_not_trusted_for_longer_than_it_may_be() {
    let store = store();
    store.put(Kind::Resource, URI, "published", "{}");
    let world = World::new();
    world.set(URI, "at the server");
    // Or else the server's answer would be served for as long as that allows.
    *world.ttl_ms.lock().unwrap() = Some(0);
    let ttl = Duration::from_millis(300);
    let with_routes = |routes| {
        let options = Options {
            l2_ttl: ttl,
            ..options()
        };
        HybridClient::new(Some(store.shm.clone()), routes, options)
    };
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let (client, alone) = (with_routes(vec![route]), with_routes(vec![]));
    store.writer.heartbeat().unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(read(&client, URI).await, said("published", Tier::L2));
    tokio::time::sleep(2 * ttl).await;
    let answer = client.read_resource(URI).await.unwrap();
    assert_eq!(
        (text(&answer), answer.passed()),
        ("at the server", Some(&Passed::Silent))
    );
    let error = alone.read_resource(URI).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Silent(age) if age > ttl),
        "{error}"
    );
    store.writer.heartbeat().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(read(&client, URI).await.0, "published");
}

#[tokio::test]
async fn stale_on_error_is_asked_for() {
    for stale_on_error in [false, true] {
        let store = store();
        let world = World::new();
        world.set(URI, "x");
        *world.ttl_ms.lock().unwrap() = Some(50);
        let (route, switch) = route(TransportKind::Stdio, 5, &world, true);
        let options = Options {
            stale_on_error,
            ..options()
        };
        let client = HybridClient::new(Some(store.shm.clone()), vec![route], options);
        assert_eq!(read(&client, URI).await, said("x", Tier::L3));
        tokio::time::sleep(Duration::from_millis(100)).await;
        switch.kill();
        // The connection ends with whatever else the loss of one brings about.
        match client.read_resource(URI).await {
            Ok(answer) => assert!(stale_on_error && answer.is_stale() && text(&answer) == "x"),
            Err(error) => assert!(!stale_on_error, "{error}"),
        }
    }
}

#[tokio::test]
async fn the_three_modes_of_a_request() {
    let store = store();
    store.put(Kind::Resource, URI, "published", "{}");
    let world = World::new();
    world.set(URI, "at the server");
    world.set("dynamic://x", "1");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    let ask = async |mode, uri: &str| {
        let answer = client
            .request()
            .cache(mode)
            .read_resource(uri)
            .await
            .unwrap();
        (text(&answer).to_owned(), answer.tier())
    };
    assert_eq!(ask(CacheMode::Use, URI).await, said("published", Tier::L2));
    assert_eq!(
        ask(CacheMode::Bypass, URI).await,
        said("at the server", Tier::L3)
    );
    assert_eq!(
        ask(CacheMode::Bypass, "dynamic://x").await,
        said("1", Tier::L3)
    );
    world.set("dynamic://x", "2");
    assert_eq!(
        ask(CacheMode::Use, "dynamic://x").await,
        said("2", Tier::L3)
    );
    world.set("dynamic://x", "3");
    assert_eq!(
        ask(CacheMode::Use, "dynamic://x").await,
        said("2", Tier::L1)
    );
    assert_eq!(
        ask(CacheMode::Refresh, "dynamic://x").await,
        said("3", Tier::L3)
    );
    assert_eq!(
        ask(CacheMode::Use, "dynamic://x").await,
        said("3", Tier::L1)
    );
}

#[tokio::test]
async fn a_server_says_that_a_resource_has_changed() {
    for stateless in [true, false] {
        let store = store();
        let world = World::new();
        world.set(URI, "1");
        let (route, _switch) = route(TransportKind::Stdio, 5, &world, stateless);
        let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
        let mut changes = client.changes();
        client.subscribe(URI);
        assert_eq!(read(&client, URI).await.0, "1");
        let updated = Notice::ResourceUpdated(URI.into());
        heard(&mut changes, updated, || {
            world.set(URI, "2");
            world.updated.notify_waiters();
        })
        .await;
        assert_eq!(read(&client, URI).await.0, "2");
    }
}

/// Waits for a change, with `ask` done again and again until it comes.
async fn heard(changes: &mut Changes, wanted: Notice, ask: impl Fn()) {
    let wanted = Some(Change::Server(wanted));
    let wait = async {
        loop {
            ask();
            let soon = Duration::from_millis(100);
            if tokio::time::timeout(soon, changes.next()).await.as_ref() == Ok(&wanted) {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), wait).await;
    waited.unwrap_or_else(|_| panic!("never heard of {wanted:?}"));
}

#[tokio::test]
async fn what_changed_between_two_streams_is_not_missed() {
    let store = store();
    let world = World::new();
    world.set(URI, "1");
    let (route, _switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    let mut changes = client.changes();
    client.subscribe(URI);
    assert_eq!(read(&client, URI).await.0, "1");
    let updated = Notice::ResourceUpdated(URI.into());
    heard(&mut changes, updated, || world.updated.notify_waiters()).await;
    // The stream ends, and its successor is not there yet.
    heard(&mut changes, Notice::Gap, || world.ended.notify_waiters()).await;
    assert_eq!(read(&client, URI).await, said("1", Tier::L3));
    world.set(URI, "2");
    let patience = Instant::now() + Duration::from_secs(10);
    while read(&client, URI).await.0 == "1" {
        assert!(Instant::now() < patience, "never asked again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another subscription is another stream.
    while tokio::time::timeout(Duration::from_millis(200), changes.next())
        .await
        .is_ok()
    {}
    client.subscribe("file:///b");
    heard(&mut changes, Notice::Gap, || {}).await;
}

#[tokio::test]
async fn news_of_shared_memory_arrive_in_the_same_stream() {
    let store = store();
    let client = HybridClient::new(Some(store.shm.clone()), vec![], options());
    // Those who listened before and do not any more leave nothing behind.
    for _ in 0..5 {
        drop(client.changes());
    }
    let mut changes = client.changes();
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.put(Kind::Resource, URI, "x", "{}");
    store.writer.flush().unwrap();
    let mut next = async |patience| tokio::time::timeout(patience, changes.next()).await;
    let change = next(Duration::from_secs(5)).await.unwrap();
    assert!(matches!(change, Some(Change::Shared(_))), "{change:?}");
    assert!(next(Duration::from_secs(1)).await.is_err(), "told twice");
}

#[tokio::test]
async fn the_first_tier_can_be_off() {
    let store = store();
    store.put(Kind::Resource, URI, "x", "{}");
    let options = Options {
        l1_bytes: 0,
        ..options()
    };
    let client = HybridClient::new(Some(store.shm.clone()), vec![], options);
    assert_eq!(read(&client, URI).await, said("x", Tier::L2));
    assert_eq!(read(&client, URI).await, said("x", Tier::L2));
}

#[tokio::test]
async fn a_list_is_what_is_published_if_that_is_said_to_be_complete() {
    let store = store();
    store.put(Kind::ToolSchema, "only", r#"{"type":"object"}"#, "{}");
    let world = World::new();
    let (route, switch) = route(TransportKind::Stdio, 5, &world, true);
    let client = HybridClient::new(Some(store.shm.clone()), vec![route], options());
    assert_eq!(client.list_tools().await.unwrap().len(), 2);
    store.put(Kind::Capability, "tools", "{}", r#"{"complete":true}"#);
    let tools = client.list_tools().await.unwrap();
    assert_eq!(
        (tools.len(), tools.tier(), tools.is_partial()),
        (1, Tier::L2, false)
    );
    // A claim can expire, as everything can.
    let expired = Attributes {
        expires_at: 1,
        ..Attributes::default()
    };
    let claim = store.writer.put_with(
        Kind::Capability,
        b"tools",
        b"{}",
        br#"{"complete":true}"#,
        expired,
    );
    claim.unwrap();
    client.refresh();
    assert_eq!(client.list_tools().await.unwrap().tier(), Tier::L3);
    store.put(Kind::Capability, "tools", "{}", "{}");
    switch.kill();
    client.refresh();
    let tools = client.list_tools().await.unwrap();
    assert_eq!(
        (tools.len(), tools.tier(), tools.is_partial()),
        (1, Tier::L2, true)
    );
    assert!(world.lists.load(Ordering::SeqCst) > 0);
}
