//! The reference server of the MCP project, over the three transports it has. `scripts/everything.sh` installs
//! it; without it, or without node, these tests say SKIPPED.

mod wire;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::{Child, Command, Stdio as Pipe},
    time::Duration,
};

use erlmcp_shm_client::transport::{Http, Sse, Stdio, Transport};
use rmcp::model::{
    CallToolRequestParams, ClientRequest, GetPromptRequestParams, JsonObject, PingRequest,
    ProtocolVersion, ReadResourceRequestParams,
};
use wire::{start, within};

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
