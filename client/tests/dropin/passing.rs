//! What goes by: the server's own messages, cancellations, and everything while shared memory is not to be trusted.

use super::*;
use crate::mirror::Things;
use erlmcp_shm_reader::Kind;
use rmcp::service::{NotificationContext, PeerRequestOptions, RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::mpsc;

const URI: &str = "file:///a";

fn store() -> Store {
    let store = Store::new();
    let put = store
        .writer
        .put(Kind::Resource, URI.as_bytes(), b"published", b"{}");
    put.unwrap();
    store
}

/// Waits for what comes soon; the bound is for a test that fails.
async fn soon(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap();
}

struct Hears(Arc<AtomicU64>);

impl ClientHandler for Hears {
    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn the_servers_own_messages_and_cancellations_go_by() {
    let store = store();
    let server = Mirror::new(&Things::default(), false);
    let heard = Arc::new(AtomicU64::new(0));
    let client = connect(&server, Some(store.reader()), LONG, Hears(heard.clone())).await;
    // Answered only after the client has answered a request of the server's.
    let told = client.call_tool(CallToolRequestParams::new("tell")).await;
    assert_eq!(told.unwrap().content.len(), 1);
    soon(|| heard.load(Ordering::SeqCst) == 1).await;

    let hang = CallToolRequest::new(CallToolRequestParams::new("hang")).into();
    let options = PeerRequestOptions::no_options();
    let hanging = client.send_cancellable_request(hang, options).await;
    soon(|| server.asked.load(Ordering::SeqCst) == 2).await;
    // What is answered from shared memory overtakes what is under way.
    let params = ReadResourceRequestParams::new(URI);
    assert_eq!(
        client.read_resource(params).await.unwrap().contents.len(),
        1
    );
    assert_eq!(server.cancelled.load(Ordering::SeqCst), 0);
    hanging.unwrap().cancel(None).await.unwrap();
    soon(|| server.cancelled.load(Ordering::SeqCst) == 1).await;
    assert_eq!(server.asked.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_silent_writer_is_not_believed() {
    let Store { folder, writer } = store();
    let path = folder.path().join("store.bin");
    let interval = Duration::from_millis(5);
    let shm = Reader::options().refresh_interval(interval).open(path);
    let server = Mirror::new(&Things::default(), true);
    let client = connect(&server, Some(shm.unwrap()), Duration::from_secs(2), ()).await;
    writer.heartbeat().unwrap();
    let answer = ask(&client, read(URI)).await;
    assert_eq!(answer["result"]["contents"][0]["text"], "published");
    // The server does not have it.
    let silent = async {
        while ask(&client, read(URI)).await.get("error").is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), silent)
        .await
        .unwrap();
    writer.heartbeat().unwrap();
    let alive = async {
        while ask(&client, read(URI)).await.get("error").is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), alive)
        .await
        .unwrap();
}

#[tokio::test]
async fn without_a_store_the_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let options = Reader::options().allow_absent(true);
    let shm = options.open(folder.path().join("store.bin")).unwrap();
    let server = Mirror::new(&Things::default(), true);
    let client = connect(&server, Some(shm), LONG, ()).await;
    let tools = client.list_all_tools().await.unwrap();
    assert_eq!((tools.len(), server.asked.load(Ordering::SeqCst)), (0, 1));
    let answer = ask(&client, read(URI)).await;
    assert_eq!(answer["error"]["message"], "no such resource");
}

/// An inner transport in the test's own hands.
struct Wire {
    sent: Arc<Mutex<Vec<Value>>>,
    coming: mpsc::UnboundedReceiver<RxJsonRpcMessage<RoleClient>>,
}

impl Transport<RoleClient> for Wire {
    type Error = std::io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = std::io::Result<()>> + Send + 'static {
        let item = serde_json::to_value(&item).unwrap();
        self.sent.lock().unwrap().push(item);
        std::future::ready(Ok(()))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.coming.recv().await
    }

    async fn close(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The transport, what it passed on, and the server's side of it.
struct Bench<T> {
    transport: T,
    sent: Arc<Mutex<Vec<Value>>>,
    server: mpsc::UnboundedSender<RxJsonRpcMessage<RoleClient>>,
}

fn bench(store: &Store) -> Bench<impl Transport<RoleClient>> {
    let (server, coming) = mpsc::unbounded_channel();
    let sent = Arc::default();
    let wire = Wire {
        sent: Arc::clone(&sent),
        coming,
    };
    Bench {
        transport: ShmTransport::new(wire, store.reader()).ttl(LONG),
        sent,
        server,
    }
}

impl<T: Transport<RoleClient>> Bench<T> {
    async fn send(&mut self, message: Value) {
        let message = serde_json::from_value(message).unwrap();
        assert!(self.transport.send(message).await.is_ok());
    }

    async fn receive(&mut self) -> Option<Value> {
        let message = self.transport.receive().await?;
        Some(serde_json::to_value(message).unwrap())
    }

    /// What the server says, which has to come through as it is.
    async fn say(&mut self, result: Value) {
        let message = json!({"jsonrpc": "2.0", "id": 0, "result": result});
        let said = serde_json::from_value(message.clone()).unwrap();
        self.server.send(said).unwrap();
        assert_eq!(self.receive().await.unwrap(), message);
    }

    /// Whether such a request is answered here; else it has to be passed on as it is.
    async fn answers(&mut self, id: Value, params: Value) -> bool {
        let request =
            json!({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": params});
        let before = self.sent.lock().unwrap().len();
        self.send(request.clone()).await;
        let passed = self.sent.lock().unwrap()[before..].to_vec();
        if passed.is_empty() {
            let answer = self.receive().await.unwrap();
            assert_eq!(answer["id"], id);
            assert_eq!(answer["result"]["contents"][0]["text"], "published");
            return true;
        }
        assert_eq!(passed, [request]);
        false
    }
}

fn initialized(capabilities: Value) -> Value {
    json!({"protocolVersion": "2025-06-18", "capabilities": capabilities,
        "serverInfo": {"name": "s", "version": "1"}})
}

#[tokio::test]
async fn nothing_is_answered_before_the_server_has_said_what_it_speaks() {
    let store = store();
    let mut bench = bench(&store);
    let resources = json!({"resources": {}});
    assert!(!bench.answers(json!(1), json!({"uri": URI})).await);
    bench.say(initialized(json!({}))).await;
    assert!(!bench.answers(json!(2), json!({"uri": URI})).await);
    bench.say(initialized(resources.clone())).await;
    assert!(bench.answers(json!("a string"), json!({"uri": URI})).await);
    // An answer to what the server asked is its own.
    let more = json!({"uri": URI, "requestState": "s"});
    assert!(!bench.answers(json!(3), more).await);

    let discovered = json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
        "capabilities": resources, "ttlMs": 0, "cacheScope": "private"});
    bench.say(discovered).await;
    assert!(!bench.answers(json!(4), json!({"uri": URI})).await);
    let meta = |version: &str, capabilities: Option<Value>| {
        let mut meta = json!({"io.modelcontextprotocol/protocolVersion": version});
        if let Some(capabilities) = capabilities {
            meta["io.modelcontextprotocol/clientCapabilities"] = capabilities;
        }
        json!({"uri": URI, "_meta": meta})
    };
    assert!(!bench.answers(json!(5), meta("2026-07-28", None)).await);
    let other = meta("2027-01-01", Some(json!({})));
    assert!(!bench.answers(json!(6), other).await);
    let whole = meta("2026-07-28", Some(json!({})));
    assert!(bench.answers(json!(7), whole).await);
}

#[tokio::test]
async fn neither_side_starves_the_other_and_nothing_is_lost_at_the_end() {
    let store = store();
    let mut bench = bench(&store);
    bench.say(initialized(json!({"resources": {}}))).await;
    for id in 0..20 {
        let params = json!({"uri": URI});
        let read =
            json!({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": params});
        bench.send(read).await;
    }
    for _ in 0..10 {
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let changed = serde_json::from_value(changed).unwrap();
        bench.server.send(changed).unwrap();
    }
    let (server, _) = mpsc::unbounded_channel();
    drop(std::mem::replace(&mut bench.server, server));
    let mut heard = vec![];
    while let Some(message) = bench.receive().await {
        heard.push(message.get("id").is_none());
    }
    assert_eq!(heard.len(), 30);
    let of_server = heard[..20].iter().filter(|server| **server).count();
    assert_eq!(of_server, 10, "in turns");
    assert!(bench.receive().await.is_none());
}
