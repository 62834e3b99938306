//! The MCP server that all of them ask: rmcp's, over TCP on loopback, in threads of its own.

use erlmcp_shm_client::{Connect, ConnectError, Listener, Revision, Route, Session};
use futures_util::future::BoxFuture;
use rmcp::model::*;
use rmcp::service::{
    ClientLifecycleMode, RequestContext, RunningService, SubscriptionContext,
    serve_client_with_lifecycle,
};
use rmcp::{RoleClient, RoleServer, ServerHandler, ServiceExt};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;

/// What the server serves.
pub struct World {
    pub resources: Mutex<HashMap<String, String>>,
    /// How long its answers may be kept.
    pub ttl: Mutex<Duration>,
    updates: broadcast::Sender<String>,
}

/// The server, for as long as this is held.
pub struct Server {
    pub world: Arc<World>,
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    pub fn start(resources: HashMap<String, String>) -> Self {
        let world = Arc::new(World {
            resources: Mutex::new(resources),
            ttl: Mutex::new(Duration::ZERO),
            updates: broadcast::Sender::new(64),
        });
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let address = listener.local_addr().expect("bound");
        let served = Arc::clone(&world);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let handler = Handler(Arc::clone(&served));
                tokio::spawn(async move {
                    stream.set_nodelay(true).expect("a socket");
                    if let Ok(running) = handler.serve(stream).await {
                        let _ = running.waiting().await;
                    }
                });
            }
        });
        Self {
            world,
            address,
            _runtime: runtime,
        }
    }

    /// The way to it, for a client of the tiers.
    pub fn route(&self, revision: Revision) -> Route {
        let address = self.address;
        Route {
            kind: erlmcp_shm_client::config::TransportKind::Http,
            connect: Box::new(Tcp { address, revision }),
            priority: 5,
        }
    }
}

impl World {
    /// Another text, and whoever subscribed to it is told.
    pub fn update(&self, uri: &str, text: String) {
        let mut resources = self.resources.lock().expect("not poisoned");
        resources.insert(uri.to_owned(), text);
        drop(resources);
        let _ = self.updates.send(uri.to_owned());
    }
}

pub struct Tcp {
    pub address: SocketAddr,
    pub revision: Revision,
}

async fn dial(address: SocketAddr) -> Result<TcpStream, std::io::Error> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Connect for Tcp {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Session, ConnectError>> {
        let dial = || async { Ok(dial(self.address).await?) };
        Box::pin(self.revision.negotiate(listener, within, dial))
    }
}

/// A client of rmcp's and nothing else.
pub async fn bare(address: SocketAddr) -> RunningService<RoleClient, ()> {
    let stream = dial(address).await.expect("it listens");
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    let mode = ClientLifecycleMode::Discover { preferred_versions };
    let served = serve_client_with_lifecycle((), stream, mode).await;
    served.expect("it speaks the revision")
}

struct Handler(Arc<World>);

type Result<T, E = rmcp::ErrorData> = std::result::Result<T, E>;

impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse> {
        let text = {
            let resources = self.0.resources.lock().expect("not poisoned");
            resources.get(&request.uri).cloned()
        };
        let text = text.ok_or_else(|| rmcp::ErrorData::resource_not_found("no such", None))?;
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]);
        result.ttl_ms = Some(self.0.ttl.lock().expect("not poisoned").as_millis() as u64);
        result.cache_scope = Some(CacheScope::Public);
        Ok(result.into())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let text = format!("{:?}", request.arguments);
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<()> {
        let mut updates = self.0.updates.subscribe();
        loop {
            let uri = tokio::select! {
                () = context.cancelled() => return Ok(()),
                uri = updates.recv() => uri,
            };
            let Ok(uri) = uri else { continue };
            let wanted = context.accepted().resource_subscriptions.iter().flatten();
            if wanted.into_iter().any(|wanted| *wanted == uri) {
                let _ = context.sink().notify_resource_updated(uri).await;
            }
        }
    }
}
