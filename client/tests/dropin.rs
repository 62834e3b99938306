//! The transport that answers from shared memory, beside a client that asks the server for everything.

#[path = "dropin/differential.rs"]
mod differential;
#[path = "dropin/everything.rs"]
mod everything;
#[path = "support/mirror.rs"]
mod mirror;
#[path = "dropin/passing.rs"]
mod passing;
#[path = "../../reader/tests/support/property.rs"]
mod property;

use erlmcp_shm_client::ShmTransport;
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::Writer;
use mirror::Mirror;
use rmcp::model::*;
use rmcp::service::{ClientLifecycleMode, ClientServiceExt, RunningService, ServiceError};
use rmcp::{ClientHandler, RoleClient, ServiceExt};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(600);

struct Store {
    folder: tempfile::TempDir,
    writer: Writer,
}

impl Store {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.bin");
        let writer = Writer::options().size(1 << 20).open(path).unwrap();
        writer.heartbeat().unwrap();
        Self { folder, writer }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("store.bin")
    }

    fn reader(&self) -> Reader {
        let interval = Duration::from_millis(5);
        let options = Reader::options().refresh_interval(interval);
        options.open(self.path()).unwrap()
    }
}

type Client<H = ()> = RunningService<RoleClient, H>;

fn lifecycle(stateless: bool) -> ClientLifecycleMode {
    match stateless {
        true => ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
        false => ClientLifecycleMode::Initialize,
    }
}

/// A client at the other end of a pipe, and before it shared memory if there is a reader of it.
async fn connect<H: ClientHandler>(
    server: &Mirror,
    shm: Option<Reader>,
    ttl: Duration,
    handler: H,
) -> Client<H> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (server, lifecycle) = (server.clone(), lifecycle(server.stateless));
    tokio::spawn(async move {
        if let Ok(running) = server.serve(theirs).await {
            let _ = running.waiting().await;
        }
    });
    let client = match shm {
        Some(shm) => {
            let transport = ShmTransport::new(ours, shm).ttl(ttl);
            handler.serve_with_lifecycle(transport, lifecycle).await
        }
        None => handler.serve_with_lifecycle(ours, lifecycle).await,
    };
    client.unwrap()
}

/// What a client is told: the whole result or the whole error, and what it was taken for.
async fn ask(client: &Client, request: ClientRequest) -> Value {
    match client.send_request(request).await {
        Ok(result) => {
            let variant = format!("{result:?}");
            let variant = variant.split(['(', ' ']).next();
            json!({"variant": variant, "result": result})
        }
        Err(ServiceError::McpError(error)) => json!({ "error": error }),
        Err(error) => panic!("{error}"),
    }
}

fn read(uri: &str) -> ClientRequest {
    ReadResourceRequest::new(ReadResourceRequestParams::new(uri)).into()
}

fn get(name: &str, arguments: Option<JsonObject>) -> ClientRequest {
    let mut params = GetPromptRequestParams::new(name);
    params.arguments = arguments;
    GetPromptRequest::new(params).into()
}

macro_rules! list {
    ($request:ident, $cursor:expr) => {{
        let cursor: Option<String> = $cursor;
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        ClientRequest::from($request::with_param(page))
    }};
}
pub(crate) use list;

/// The median time of a request.
async fn median(client: &Client, request: ClientRequest, times: usize) -> Duration {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let started = Instant::now();
        client.send_request(request.clone()).await.unwrap();
        took.push(started.elapsed());
    }
    took.sort();
    took[times / 2]
}
