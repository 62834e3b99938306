//! A server of rmcp's whose resources, tools and prompts can be published as well: written down once, and told by the
//! server in MCP's words and by the store in entries. What the one says is made without the code that reads the other.

use base64::prelude::{BASE64_STANDARD, Engine};
use erlmcp_shm_reader::Kind;
use erlmcp_shm_writer::{Attributes, Writer};
use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

pub type Json = Map<String, Value>;

/// The `ttlMs` of lists.
pub const LIST_TTL: u64 = 7_000;

/// A resource, tool or prompt.
#[derive(Clone, Debug)]
pub struct Thing {
    pub kind: Kind,
    pub key: String,
    /// The content, the schema, or the prompt's arguments and messages.
    pub data: Vec<u8>,
    /// Whether a resource's content is text.
    pub text: bool,
    /// What is listed of it, in MCP's spelling.
    pub fields: Json,
    /// What MCP knows nothing of.
    pub meta: Json,
    pub ttl_ms: Option<u64>,
}

impl Thing {
    pub fn put(&self, writer: &Writer, attributes: Attributes) {
        let mut metadata = self.fields.clone();
        metadata.extend(self.meta.clone());
        if let Some(ttl) = self.ttl_ms {
            metadata.insert("ttl_ms".into(), ttl.into());
        }
        let metadata = Value::Object(metadata).to_string();
        let key = self.key.as_bytes();
        let put = writer.put_with(self.kind, key, &self.data, metadata.as_bytes(), attributes);
        put.unwrap();
    }

    fn data(&self) -> Value {
        serde_json::from_slice(&self.data).unwrap()
    }

    fn with_meta(&self, object: Value) -> Value {
        let mut object = object;
        if !self.meta.is_empty() {
            object["_meta"] = Value::Object(self.meta.clone());
        }
        object
    }

    fn listed(&self) -> Value {
        let mut object = match self.kind {
            Kind::Resource => json!({"uri": self.key, "name": self.key.rsplit('/').next()}),
            Kind::ToolSchema => json!({"name": self.key, "inputSchema": self.data()}),
            _ => json!({"name": self.key, "arguments": self.data()["arguments"]}),
        };
        let fields = self.fields.clone();
        object.as_object_mut().unwrap().extend(fields);
        self.with_meta(object)
    }

    fn contents(&self) -> Value {
        let mut content = json!({"uri": self.key});
        if let Some(mime) = self.fields.get("mimeType") {
            content["mimeType"] = mime.clone();
        }
        match self.text {
            true => content["text"] = String::from_utf8(self.data.clone()).unwrap().into(),
            false => content["blob"] = BASE64_STANDARD.encode(&self.data).into(),
        }
        self.with_meta(content)
    }

    /// The names of the arguments that cannot be left out.
    pub fn required(&self) -> Vec<String> {
        let data = self.data();
        let arguments = data["arguments"].as_array().unwrap().iter();
        let required = arguments.filter(|argument| argument["required"] == true);
        required
            .map(|argument| argument["name"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// What there is, for all connections.
pub type Things = Arc<Mutex<BTreeMap<(Kind, String), Thing>>>;

#[derive(Clone)]
pub struct Mirror {
    pub things: Things,
    pub stateless: bool,
    /// Requests that came to it, of whatever kind.
    pub asked: Arc<AtomicU64>,
    pub cancelled: Arc<AtomicU64>,
}

type Result<T> = std::result::Result<T, ErrorData>;

impl Mirror {
    pub fn new(things: &Things, stateless: bool) -> Self {
        Self {
            things: things.clone(),
            stateless,
            asked: Arc::default(),
            cancelled: Arc::default(),
        }
    }

    fn ask(&self) {
        self.asked.fetch_add(1, Ordering::SeqCst);
    }

    fn find(&self, kind: Kind, key: &str) -> Option<Thing> {
        self.ask();
        let things = self.things.lock().unwrap();
        things.get(&(kind, key.to_owned())).cloned()
    }

    /// With the hints about caching that belong to the stateless revision.
    fn hinted<T: serde::de::DeserializeOwned>(&self, mut result: Value, ttl_ms: u64) -> T {
        if self.stateless {
            result["ttlMs"] = ttl_ms.into();
            result["cacheScope"] = "public".into();
        }
        result["resultType"] = "complete".into();
        serde_json::from_value(result).unwrap()
    }

    fn list<T: serde::de::DeserializeOwned>(
        &self,
        kind: Kind,
        name: &str,
        page: Option<PaginatedRequestParams>,
    ) -> Result<T> {
        self.ask();
        if page.is_some_and(|page| page.cursor.is_some()) {
            return Err(ErrorData::invalid_params("no such page", None));
        }
        let things = self.things.lock().unwrap();
        let listed = things.values().filter(|thing| thing.kind == kind);
        let listed: Vec<Value> = listed.map(Thing::listed).collect();
        Ok(self.hinted(json!({ name: listed }), LIST_TTL))
    }
}

impl ServerHandler for Mirror {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources();
        ServerConfig::new(capabilities.build())
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
        let Some(thing) = self.find(Kind::Resource, &request.uri) else {
            let uri = json!({"uri": request.uri});
            return Err(ErrorData::resource_not_found("no such resource", Some(uri)));
        };
        let result = json!({"contents": [thing.contents()]});
        let result: ReadResourceResult = self.hinted(result, thing.ttl_ms.unwrap_or(10_000));
        Ok(result.into())
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse> {
        let Some(thing) = self.find(Kind::Prompt, &request.name) else {
            return Err(ErrorData::invalid_params("no such prompt", None));
        };
        let data = thing.data();
        let given = request.arguments.unwrap_or_default();
        if let Some(missing) = thing
            .required()
            .iter()
            .find(|name| !given.contains_key(*name))
        {
            let message = format!("{missing} is missing");
            return Err(ErrorData::invalid_params(message, None));
        }
        let mut messages = data["messages"].to_string();
        for (name, value) in &given {
            messages = messages.replace(&format!("{{{{{name}}}}}"), value.as_str().unwrap());
        }
        for argument in data["arguments"].as_array().unwrap() {
            let hole = format!("{{{{{}}}}}", argument["name"].as_str().unwrap());
            messages = messages.replace(&hole, "");
        }
        let messages: Value = serde_json::from_str(&messages).unwrap();
        let mut result = json!({"messages": messages, "resultType": "complete"});
        if let Some(description) = thing.fields.get("description") {
            result["description"] = description.clone();
        }
        let result: GetPromptResult = serde_json::from_value(result).unwrap();
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult> {
        self.list(Kind::Resource, "resources", page)
    }

    async fn list_tools(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult> {
        self.list(Kind::ToolSchema, "tools", page)
    }

    async fn list_prompts(
        &self,
        page: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult> {
        self.list(Kind::Prompt, "prompts", page)
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult> {
        self.ask();
        let template = ResourceTemplate::new("file:///{name}", "any file");
        let list = ListResourceTemplatesResult::with_all_items(vec![template]);
        Ok(list)
    }

    /// `hang` until it is cancelled; else tells that the tools have changed, and what it was called with.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse> {
        self.ask();
        if request.name == "hang" {
            context.ct.cancelled().await;
            self.cancelled.fetch_add(1, Ordering::SeqCst);
        } else if request.name == "tell" {
            context.peer.notify_tool_list_changed().await.unwrap();
            // A request from this side, which the client has to answer.
            let ping = ServerRequest::PingRequest(PingRequest::default());
            context.peer.send_request(ping).await.unwrap();
        }
        let said = Value::Object(request.arguments.unwrap_or_default()).to_string();
        Ok(CallToolResult::success(vec![ContentBlock::text(said)]).into())
    }
}
