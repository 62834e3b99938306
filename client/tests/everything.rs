//! The reference server of the MCP project, over the three transports it has. `scripts/everything.sh` installs
//! it; without it, or without node, these tests say SKIPPED.

mod wire;

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    path::PathBuf,
    process::{Child, Command, Stdio as Pipe},
    time::Duration,
};

use erlmcp_shm_client::config::TransportKind;
use erlmcp_shm_client::transport::{Http, Sse, Stdio, Transport};
use erlmcp_shm_client::{
    CacheMode, ClientError, HybridClient, Options, Route, Tier, UpstreamError, UpstreamOptions,
};
use rmcp::model::{
    CallToolRequestParams, ClientRequest, GetPromptRequestParams, JsonObject, PingRequest,
    ProtocolVersion, ReadResourceRequestParams,
};
use serde_json::json;
use wire::{proxy::Proxy, start, within};

fn installed() -> Option<PathBuf> {
    let root = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/everything/node_modules"
    );
    let script = PathBuf::from(root).join("@modelcontextprotocol/server-everything/dist/index.js");
    let node = Command::new("node").arg("--version").output().is_ok();
    if node && script.exists() {
        return Some(script);
    }
    println!("SKIPPED: scripts/everything.sh has not installed the server, or there is no node");
    None
}

/// The server on a port of its own, ended with the test.
struct Node(Child, u16);

impl Node {
    async fn start(script: &PathBuf, transport: &str) -> Self {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut command = Command::new("node");
        command
            .arg(script)
            .arg(transport)
            .env("PORT", port.to_string())
            .stdout(Pipe::null())
            .stderr(Pipe::null());
        let node = Self(command.spawn().unwrap(), port);
        within(async {
            while tokio::net::TcpStream::connect(("localhost", port))
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        node
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn every_method(transport: Transport) {
    let name = transport.name();
    let (client, _) = within(start(&transport)).await;
    assert_eq!(
        client.peer_info().unwrap().protocol_version,
        ProtocolVersion::V_2025_11_25,
        "{name}"
    );
    within(async {
        client
            .send_request(ClientRequest::PingRequest(PingRequest::default()))
            .await
            .unwrap();
        let tools = client.list_all_tools().await.unwrap();
        assert!(tools.iter().any(|tool| tool.name == "echo"), "{name}");
        for n in 0..20 {
            let arguments =
                JsonObject::from_iter([("message".into(), format!("hello {n}").into())]);
            let echo = client
                .call_tool(CallToolRequestParams::new("echo").with_arguments(arguments))
                .await
                .unwrap();
            assert_eq!(
                echo.content[0].as_text().unwrap().text,
                format!("Echo: hello {n}"),
                "{name}"
            );
        }
        let resources = client.list_all_resources().await.unwrap();
        let read = client
            .read_resource(ReadResourceRequestParams::new(&*resources[0].uri))
            .await
            .unwrap();
        assert!(!read.contents.is_empty(), "{name}");
        let prompts = client.list_all_prompts().await.unwrap();
        assert!(
            prompts.iter().any(|prompt| prompt.name == "simple-prompt"),
            "{name}"
        );
        let prompt = client
            .get_prompt(GetPromptRequestParams::new("simple-prompt"))
            .await
            .unwrap();
        assert!(!prompt.messages.is_empty(), "{name}");
        client.cancel().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn over_stdio() {
    let Some(script) = installed() else { return };
    every_method(
        Stdio::new("node")
            .args([script.to_str().unwrap(), "stdio"])
            .into(),
    )
    .await;
}

#[tokio::test]
async fn over_streamable_http() {
    let Some(script) = installed() else { return };
    let node = Node::start(&script, "streamableHttp").await;
    every_method(Http::new(format!("http://localhost:{}/mcp", node.1)).into()).await;
}

#[tokio::test]
async fn over_http_and_sse() {
    let Some(script) = installed() else { return };
    let node = Node::start(&script, "sse").await;
    every_method(Sse::new(format!("http://localhost:{}/sse", node.1)).into()).await;
}

/// A transport as a client's way to its server.
fn route(kind: TransportKind, priority: u8, transport: Transport) -> Route {
    Route {
        kind,
        connect: Box::new(transport),
        priority,
    }
}

/// Time for node to start, on a machine that has other things to do.
fn patient() -> Options {
    Options {
        request_timeout: Duration::from_secs(20),
        upstream: UpstreamOptions {
            connect_timeout: Duration::from_secs(15),
            ..UpstreamOptions::default()
        },
        ..Options::default()
    }
}

fn arguments(value: serde_json::Value) -> Option<JsonObject> {
    value.as_object().cloned()
}

/// Every method of the client's that asks a server, without shared memory.
async fn every_method_of_the_client(route: Route) {
    let client = HybridClient::new(None, vec![route], patient());
    let resources = client.list_resources().await.unwrap();
    let uri = resources[0].uri.as_str();
    assert!(client.try_read_resource(uri).is_none());
    let read = client.read_resource(uri).await.unwrap();
    assert!(!read.contents.is_empty() && read.tier() == Tier::L3);
    // It says nothing of how long its answers hold, so ours is the bound.
    let again = client.try_read_resource(uri).expect("kept");
    assert_eq!((again.tier(), &*again), (Tier::L1, &*read));
    let fresh = client.request().cache(CacheMode::Refresh);
    assert_eq!(fresh.read_resource(uri).await.unwrap().tier(), Tier::L3);
    let templates = client.request().list_resource_templates().await.unwrap();
    assert!(!templates.is_empty());
    let error = client.read_resource("no-such:thing").await.unwrap_err();
    assert!(
        matches!(error, ClientError::Upstream(UpstreamError::Refused(_))),
        "{error}"
    );

    let tools = client.list_tools().await.unwrap();
    let echo = client.tool_schema("echo").await.unwrap();
    assert!(tools.contains(&echo));
    assert_eq!(echo.input_schema["type"], "object");
    let error = client.tool_schema("no such tool").await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");
    let sum = client.call_tool("get-sum", arguments(json!({"a": 2, "b": 3})));
    let sum = sum.await.unwrap();
    assert!(
        sum.content[0].as_text().unwrap().text.contains('5'),
        "{sum:?}"
    );

    let prompts = client.list_prompts().await.unwrap();
    assert!(prompts.iter().any(|prompt| prompt.name == "simple-prompt"));
    let prompt = client.get_prompt("simple-prompt", None).await.unwrap();
    assert!(!prompt.messages.is_empty());
    let city = arguments(json!({"city": "Springfield"}));
    let prompt = client.get_prompt("args-prompt", city).await.unwrap();
    let said = serde_json::to_string(&*prompt).unwrap();
    assert!(said.contains("Springfield"), "{said}");

    assert!(client.capability("tools").await.unwrap().is_object());
    let server = client.capability("server_info").await.unwrap();
    assert!(server["name"].is_string() && server.tier() == Tier::L3);
    let error = client.capability("no such").await.unwrap_err();
    assert!(matches!(error, ClientError::NotFound { .. }), "{error}");

    client.subscribe(uri);
    let changes = client.changes();
    client.refresh();
    assert!(client.try_read_resource(uri).is_none(), "asked anew");
    drop(changes);
    client.unsubscribe(uri);
    assert!(client.probe().await[0].1.is_ok());
    assert!(client.metrics().cache_miss_rate > 0.0);
    client.close().await;
}

#[tokio::test]
async fn the_client_over_stdio() {
    let Some(script) = installed() else { return };
    let stdio = Stdio::new("node").args([script.to_str().unwrap(), "stdio"]);
    let route = route(TransportKind::Stdio, 6, stdio.into());
    within(every_method_of_the_client(route)).await;
}

#[tokio::test]
async fn the_client_over_streamable_http() {
    let Some(script) = installed() else { return };
    let node = Node::start(&script, "streamableHttp").await;
    let http = Http::new(format!("http://localhost:{}/mcp", node.1));
    let route = route(TransportKind::Http, 8, http.into());
    within(every_method_of_the_client(route)).await;
}

/// The server as a child that writes down what it is sent, and its process id.
fn recorded(script: &Path, folder: &Path) -> Stdio {
    let (log, pid) = (folder.join("log"), folder.join("pid"));
    let command = format!(
        "echo $$ > {}; tee -a {} | node {} stdio",
        pid.display(),
        log.display(),
        script.display()
    );
    Stdio::new("sh").args(["-c", &command])
}

/// 1,000 requests over HTTP with a child process to fall back on: the HTTP server is killed in their midst, and then
/// the child. Every read is answered; of the calls none is sent twice, and each is answered or said to be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killing_the_active_transport_loses_nothing() {
    let Some(script) = installed() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::start(&script, "streamableHttp").await;
    let address = tokio::net::lookup_host(("localhost", node.1))
        .await
        .unwrap();
    let mut reachable = None;
    for address in address {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            reachable = Some(address);
        }
    }
    let proxy = Proxy::plain(reachable.unwrap()).await;
    let http = Http::new(format!("http://localhost:{}/mcp", proxy.address.port()));
    let stdio = recorded(&script, folder.path());
    let routes = vec![
        route(TransportKind::Http, 8, http.into()),
        route(TransportKind::Stdio, 6, stdio.into()),
    ];
    let client = HybridClient::new(None, routes, patient());
    let uri = client.list_resources().await.unwrap()[0].uri.to_string();
    let (mut answered, mut lost) = (0, 0);
    for batch in 0..50 {
        let kill = async {
            if batch == 15 {
                node.0.kill().unwrap();
            } else if batch == 35 {
                let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
                let pid = rustix::process::Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
                rustix::process::kill_process_group(pid, rustix::process::Signal::KILL).unwrap();
            }
        };
        let reads = (0..10).map(|_| {
            client
                .request()
                .cache(CacheMode::Bypass)
                .read_resource(&uri)
        });
        let calls = (0..10).map(|n| {
            let message = format!("call {}.", batch * 10 + n);
            client.call_tool("echo", arguments(json!({ "message": message })))
        });
        let reads = futures_util::future::join_all(reads);
        let calls = futures_util::future::join_all(calls);
        let all = async { tokio::join!(reads, calls, kill) };
        let (reads, calls, ()) = within(all).await;
        for read in reads {
            assert!(!read.unwrap().contents.is_empty());
        }
        for (n, call) in calls.into_iter().enumerate() {
            match call {
                Ok(echo) => {
                    let said = &echo.content[0].as_text().unwrap().text;
                    assert_eq!(*said, format!("Echo: call {}.", batch * 10 + n));
                    answered += 1;
                }
                Err(ClientError::Upstream(UpstreamError::Lost { .. })) => lost += 1,
                Err(error) => panic!("batch {batch}: {error}"),
            }
        }
    }
    let mut sent = proxy.sent();
    sent.push(std::fs::read_to_string(folder.path().join("log")).unwrap());
    let mut times = BTreeMap::new();
    for text in &sent {
        for call in text.split("\"message\":\"call ").skip(1) {
            let number = call.split('.').next().unwrap().to_owned();
            *times.entry(number).or_insert(0) += 1;
        }
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "sent twice: {twice:?}");
    assert_eq!(answered + lost, 500);
    assert!(times.len() >= answered && lost <= 20, "{lost} calls lost");
    println!(
        "500 reads, all answered; 500 calls: {answered} answered, {lost} of unknown fate, {} sent, none twice",
        times.len()
    );
}
