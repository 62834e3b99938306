//! A server of rmcp's at the other end of a pipe, which counts what it is asked and can be broken.

pub mod tiers;

use erlmcp_shm_client::config::TransportKind;
use erlmcp_shm_client::{Connect, ConnectError, Listener, Revision, Route, Session};
use futures_util::future::BoxFuture;
use rmcp::model::*;
use rmcp::service::{RequestContext, RunningService, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What the server serves, and how: shared by all of its connections, over whatever transport.
#[derive(Default)]
pub struct World {
    pub resources: Mutex<BTreeMap<String, String>>,
    pub ttl_ms: Mutex<Option<u64>>,
    pub reads: AtomicU64,
    pub lists: AtomicU64,
    pub gets: AtomicU64,
    /// The arguments of every call that was carried out.
    pub calls: Mutex<Vec<JsonObject>>,
    /// How long a read or a call takes.
    pub delay: Mutex<Duration>,
    pub cancelled: AtomicU64,
    /// Wakes the streams of changes.
    pub updated: Notify,
    /// Ends the streams of changes.
    pub ended: Notify,
}

impl World {
    /// Whose answers may be kept for a minute. (On the stateless revision rmcp's server says 0 where none is given.)
    pub fn new() -> Arc<Self> {
        let world = Self::default();
        *world.ttl_ms.lock().unwrap() = Some(60_000);
        Arc::new(world)
    }

    pub fn set(&self, uri: &str, text: &str) {
        self.resources
            .lock()
            .unwrap()
            .insert(uri.into(), text.into());
    }

    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    async fn take_time(&self) {
        let delay = *self.delay.lock().unwrap();
        tokio::time::sleep(delay).await;
    }
}

#[derive(Clone)]
pub struct Server {
    pub world: Arc<World>,
    pub stateless: bool,
}

type Result<T> = std::result::Result<T, rmcp::ErrorData>;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_tool_list_changed()
            .enable_prompts()
            .enable_resources()
            .enable_resources_list_changed()
            .enable_resources_subscribe()
            .build();
        ServerConfig::new(capabilities)
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        match self.stateless {
            true => Cow::Borrowed(ProtocolVersion::KNOWN_VERSIONS),
            false => Cow::Owned(vec![ProtocolVersion::V_2025_11_25]),
        }
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse> {
        self.world.reads.fetch_add(1, Ordering::SeqCst);
        let text = self
            .world
            .resources
            .lock()
            .unwrap()
            .get(&request.uri)
            .cloned();
        self.world.take_time().await;
        let Some(text) = text else {
            return Err(rmcp::ErrorData::resource_not_found(
                "no such resource",
                None,
            ));
        };
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(text, request.uri)]);
        result.ttl_ms = *self.world.ttl_ms.lock().unwrap();
        Ok(result.into())
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult> {
        self.world.lists.fetch_add(1, Ordering::SeqCst);
        // Two pages.
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let schema = schema.as_object().unwrap().clone();
        let tool = |name: &'static str| Tool::new(name, "a tool", schema.clone());
        let second = request.is_some_and(|request| request.cursor.is_some());
        let mut result = ListToolsResult::with_all_items(match second {
            false => vec![tool("add")],
            true => vec![tool("search")],
        });
        result.next_cursor = (!second).then(|| "2".to_owned());
        result.ttl_ms = *self.world.ttl_ms.lock().unwrap();
        Ok(result)
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult> {
        self.world.lists.fetch_add(1, Ordering::SeqCst);
        let resources = self.world.resources.lock().unwrap();
        let items = resources
            .keys()
            .map(|uri| Resource::new(uri.clone(), uri.clone()));
        Ok(ListResourcesResult::with_all_items(items.collect()))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse> {
        self.world.gets.fetch_add(1, Ordering::SeqCst);
        let text = format!("{}: {:?}", request.name, request.arguments);
        let message = PromptMessage::new_text(Role::User, text);
        Ok(GetPromptResult::new(vec![message]).into())
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        let arguments = request.arguments.unwrap_or_default();
        if let (Some(uri), Some(text)) = (arguments.get("uri"), arguments.get("text")) {
            self.world
                .set(uri.as_str().unwrap(), text.as_str().unwrap());
        }
        self.world.calls.lock().unwrap().push(arguments.clone());
        self.world.take_time().await;
        let text = serde_json::Value::Object(arguments).to_string();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    async fn on_cancelled(
        &self,
        _: CancelledNotificationParam,
        _: rmcp::service::NotificationContext<RoleServer>,
    ) {
        self.world.cancelled.fetch_add(1, Ordering::SeqCst);
    }

    fn accepted_subscription_filter(
        &self,
        requested: &SubscriptionFilter,
    ) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<()> {
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                () = self.world.ended.notified() => return Ok(()),
                () = self.world.updated.notified() => {
                    for uri in context.accepted().resource_subscriptions.iter().flatten() {
                        let _ = context.sink().notify_resource_updated(uri.clone()).await;
                    }
                    let _ = context.sink().notify_tool_list_changed().await;
                }
            }
        }
    }

    #[allow(deprecated)]
    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<()> {
        let (world, peer) = (self.world.clone(), context.peer.clone());
        tokio::spawn(async move {
            loop {
                world.updated.notified().await;
                let params = ResourceUpdatedNotificationParam::new(request.uri.clone());
                if peer.notify_resource_updated(params).await.is_err() {
                    return;
                }
            }
        });
        Ok(())
    }
}

/// A pipe to the server, which can be cut.
pub struct Pipe {
    pub world: Arc<World>,
    pub stateless: bool,
    pub switch: Arc<Switch>,
}

/// What a test does to a pipe.
#[derive(Default)]
pub struct Switch {
    /// New connections fail.
    pub refuses: AtomicBool,
    /// New connections say nothing.
    pub silent: AtomicBool,
    pub connections: AtomicU64,
    running: Mutex<Vec<RunningService<RoleServer, Server>>>,
}

impl Switch {
    /// Ends every connection at once, with whatever is under way.
    pub fn cut(&self) {
        self.running.lock().unwrap().clear();
    }

    /// The same, and no new ones.
    pub fn kill(&self) {
        self.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    pub fn revive(&self) {
        self.refuses.store(false, Ordering::SeqCst);
    }

    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Connect for Pipe {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, std::result::Result<Session, ConnectError>> {
        let dial = move || async move {
            if self.switch.refuses.load(Ordering::SeqCst) {
                return Err("connection refused".into());
            }
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let (server, switch) = (
                Server {
                    world: self.world.clone(),
                    stateless: self.stateless,
                },
                self.switch.clone(),
            );
            if self.switch.silent.load(Ordering::SeqCst) {
                tokio::spawn(async move {
                    let _held = theirs;
                    std::future::pending::<()>().await;
                });
            } else {
                tokio::spawn(async move {
                    if let Ok(running) = server.serve(theirs).await {
                        switch.running.lock().unwrap().push(running);
                    }
                });
            }
            self.switch.connections.fetch_add(1, Ordering::SeqCst);
            Ok(ours)
        };
        Box::pin(async move {
            let revision = if self.stateless {
                Revision::Auto
            } else {
                Revision::Initialize
            };
            revision.negotiate(listener, within, dial).await
        })
    }
}

pub fn route(
    kind: TransportKind,
    priority: u8,
    world: &Arc<World>,
    stateless: bool,
) -> (Route, Arc<Switch>) {
    let switch = Arc::new(Switch::default());
    let pipe = Pipe {
        world: world.clone(),
        stateless,
        switch: switch.clone(),
    };
    let route = Route {
        kind,
        connect: Box::new(pipe),
        priority,
    };
    (route, switch)
}
