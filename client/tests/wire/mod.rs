//! What the transport tests share.

#![allow(dead_code, reason = "each test program uses its part")]

pub mod net;
pub mod proxy;
pub mod scripted;
pub mod server;

use std::{path::PathBuf, time::Duration};

use erlmcp_shm_client::transport::{End, Http, Sse, Stdio, Tls, Transport, WebSocket};
use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, CallToolResult, JsonObject},
    service::{ClientServiceExt, RunningService, ServiceError},
};

pub type Client = RunningService<RoleClient, ()>;

/// Ends a test that would hang: what must never be silent shows as a failure.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The example server, which cargo builds beside the tests.
pub fn small_server() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples/small_server")
}

pub fn stdio(args: &[&str]) -> Stdio {
    Stdio::new(small_server().to_str().unwrap()).args(args.iter().copied())
}

/// Every transport that uses the network, to the same server.
pub fn networked(host: &str, secure: bool, tls: &Tls) -> [Transport; 3] {
    let s = if secure { "s" } else { "" };
    let mut http = Http::new(format!("http{s}://{host}/mcp")).token(net::TOKEN);
    let mut sse = Sse::new(format!("http{s}://{host}/sse")).token(net::TOKEN);
    let mut websocket = WebSocket::new(format!("ws{s}://{host}/ws")).token(net::TOKEN);
    (http.tls, sse.tls, websocket.tls) = (tls.clone(), tls.clone(), tls.clone());
    [http.into(), sse.into(), websocket.into()]
}

pub async fn start(transport: &Transport) -> (Client, End) {
    let connected = transport.connect().await.unwrap();
    let end = connected.end();
    let client = ().serve_with_lifecycle(connected, transport.lifecycle()).await.unwrap();
    (client, end)
}

pub async fn call(
    client: &Client,
    tool: &'static str,
    text: &str,
) -> Result<CallToolResult, ServiceError> {
    let arguments = JsonObject::from_iter([("text".into(), text.into())]);
    client
        .call_tool(CallToolRequestParams::new(tool).with_arguments(arguments))
        .await
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(LIMIT, future).await.expect("silence")
}
