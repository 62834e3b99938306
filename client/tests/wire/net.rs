//! The small server on a port: `/mcp` Streamable HTTP, `/ws` WebSocket, `/sse` and `/message` HTTP+SSE.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::Response,
    routing::{any, get, post},
};
use futures_util::{SinkExt, StreamExt, sink, stream};
use rmcp::{
    ServiceExt,
    model::{ClientJsonRpcMessage, ServerJsonRpcMessage},
    transport::{
        StreamableHttpService,
        streamable_http_server::{StreamableHttpServerConfig, session::local::LocalSessionManager},
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use yawc::{Frame, IncomingUpgrade, OpCode, Options};

use super::server::Small;

pub const TOKEN: &str = "a-secret";

type Sessions = Arc<Mutex<HashMap<String, mpsc::Sender<ClientJsonRpcMessage>>>>;

/// Serves until the test's runtime ends; without the token every request gets 401.
pub async fn serve() -> SocketAddr {
    let mcp = StreamableHttpService::new(
        || Ok(Small),
        Arc::new(LocalSessionManager::default()),
        StreamableHttpServerConfig::default(),
    );
    let router = Router::new()
        .nest_service("/mcp", mcp)
        .route("/ws", any(websocket))
        .route("/sse", get(sse))
        .route("/message/{session}", post(message))
        .layer(middleware::from_fn(authorize))
        .with_state(Sessions::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn authorize(headers: HeaderMap, request: Request, next: Next) -> Response {
    if headers
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value == format!("Bearer {TOKEN}").as_str())
    {
        return next.run(request).await;
    }
    status(StatusCode::UNAUTHORIZED)
}

fn status(status: StatusCode) -> Response {
    Response::builder()
        .status(status)
        .body(Body::empty())
        .unwrap()
}

async fn websocket(upgrade: IncomingUpgrade) -> Response {
    let options = Options::default()
        .with_limits(64 << 20, 64 << 20)
        .with_balanced_compression();
    let (response, upgraded) = upgrade.upgrade(options).unwrap();
    tokio::spawn(async move {
        let (to_peer, from_peer) = upgraded.await.unwrap().split();
        let to_peer = to_peer.with(|message: ServerJsonRpcMessage| async move {
            Ok::<_, yawc::WebSocketError>(Frame::text(serde_json::to_string(&message).unwrap()))
        });
        let from_peer = from_peer.filter_map(|frame| async move {
            (frame.opcode() == OpCode::Text)
                .then(|| serde_json::from_slice(frame.payload()).unwrap())
        });
        if let Ok(running) = Small.serve((Box::pin(to_peer), Box::pin(from_peer))).await {
            let _ = running.waiting().await;
        }
    });
    response.map(|_| Body::empty())
}

async fn sse(State(sessions): State<Sessions>) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed).to_string();
    let (posted, incoming) = mpsc::channel(64);
    let (events, body) = mpsc::channel::<String>(64);
    events
        .send(format!("event: endpoint\ndata: /message/{id}\n\n"))
        .await
        .unwrap();
    sessions.lock().unwrap().insert(id, posted);
    let to_peer = sink::unfold(events, |events, message: ServerJsonRpcMessage| async move {
        let json = serde_json::to_string(&message).unwrap();
        let _ = events
            .send(format!("event: message\ndata: {json}\n\n"))
            .await;
        Ok::<_, std::io::Error>(events)
    });
    let from_peer = stream::unfold(incoming, |mut incoming| async {
        Some((incoming.recv().await?, incoming))
    });
    tokio::spawn(async move {
        if let Ok(running) = Small.serve((Box::pin(to_peer), Box::pin(from_peer))).await {
            let _ = running.waiting().await;
        }
    });
    let body = stream::unfold(body, |mut body| async {
        Some((Ok::<_, std::io::Error>(body.recv().await?), body))
    });
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream")
        .body(Body::from_stream(body))
        .unwrap()
}

async fn message(
    State(sessions): State<Sessions>,
    Path(session): Path<String>,
    body: Bytes,
) -> Response {
    let session = sessions.lock().unwrap().get(&session).cloned();
    let Some(session) = session else {
        return status(StatusCode::NOT_FOUND);
    };
    let _ = session.send(serde_json::from_slice(&body).unwrap()).await;
    status(StatusCode::ACCEPTED)
}
