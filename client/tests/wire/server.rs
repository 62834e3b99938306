//! The server of all transport tests: one tool a behaviour, one resource, one prompt.

use std::{sync::Arc, time::Duration};

use rmcp::{ErrorData, RoleServer, ServerHandler, model::*, service::RequestContext};

#[derive(Clone)]
pub struct Small;

pub const URI: &str = "file:///test.txt";
pub const CONTENT: &str = "test content";

/// How far `count` counts.
pub const COUNT: u32 = 40;

/// Tells of its progress, step by step.
async fn count(context: &RequestContext<RoleServer>) {
    let token = context.meta.get_progress_token();
    let token = token.expect("a client asks for progress");
    for n in 1..=COUNT {
        let step = ProgressNotificationParam::new(token.clone(), f64::from(n));
        // Nobody may be listening now; the step is kept for when somebody is again.
        let _ = context.peer.notify_progress(step).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl ServerHandler for Small {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .enable_prompts()
            .build();
        ServerConfig::new(capabilities).with_instructions("small")
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = Arc::new(JsonObject::from_iter([("type".into(), "object".into())]));
        let tools = ["echo", "slow", "count", "never", "exit"]
            .map(|name| Tool::new(name, "a behaviour", schema.clone()));
        Ok(ListToolsResult::with_all_items(tools.into()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match &*request.name {
            "echo" => {}
            "slow" => tokio::time::sleep(Duration::from_millis(300)).await,
            "count" => count(&context).await,
            "never" => std::future::pending().await,
            "exit" => std::process::exit(7),
            name => return Err(ErrorData::invalid_params(format!("no tool {name}"), None)),
        }
        let text = request
            .arguments
            .unwrap_or_default()
            .remove("text")
            .unwrap_or_default();
        let text = text.as_str().unwrap_or_default();
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }

    async fn list_resources(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(vec![Resource::new(
            URI, "test",
        )]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != URI {
            return Err(ErrorData::resource_not_found("no such resource", None));
        }
        let mut result = ReadResourceResult::new(vec![ResourceContents::text(CONTENT, URI)]);
        // On the stateless revision rmcp's server says 0 where nothing is said.
        result.ttl_ms = Some(60_000);
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(vec![Prompt::new(
            "greet",
            Some("greets"),
            None,
        )]))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let text = format!("Hello from {}", request.name);
        Ok(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)]).into())
    }
}
