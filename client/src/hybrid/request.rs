//! One request: through the tiers.

use super::flights::What;
use super::{CacheMode, HybridClient, Inner, Local};
use crate::ClientError;
use crate::answer::{Answer, Part, Passed, Tier};
use crate::object::{self, Json, Object};
use crate::upstream::{Repeat, UpstreamError};
use erlmcp_shm_reader::Kind;
use rmcp::model::*;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// A request with other than the usual ways: see [`HybridClient::request`].
///
/// ```no_run
/// # async fn example(client: erlmcp_shm_client::HybridClient) -> Result<(), erlmcp_shm_client::ClientError> {
/// use erlmcp_shm_client::CacheMode;
/// use std::time::Duration;
/// let request = client.request().cache(CacheMode::Refresh).timeout(Duration::from_millis(200));
/// let answer = request.read_resource("file:///hello.txt").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "ask it something"]
pub struct Request<'a> {
    client: &'a HybridClient,
    mode: CacheMode,
    timeout: Option<Duration>,
}

impl<'a> Request<'a> {
    pub(super) fn new(client: &'a HybridClient) -> Self {
        Self {
            client,
            mode: CacheMode::Use,
            timeout: None,
        }
    }

    /// Which tiers may answer.
    pub fn cache(mut self, mode: CacheMode) -> Self {
        self.mode = mode;
        self
    }

    /// How long it may take.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    fn inner(&self) -> &'a Arc<Inner> {
        &self.client.inner
    }

    fn within(&self) -> Duration {
        self.timeout.unwrap_or(self.inner().options.request_timeout)
    }

    /// See [`HybridClient::read_resource`].
    pub async fn read_resource(self, uri: &str) -> Result<Answer<ReadResourceResult>, ClientError> {
        self.object(Kind::Resource, uri, What::Resource).await
    }

    /// See [`HybridClient::tool_schema`].
    pub async fn tool_schema(self, name: &str) -> Result<Answer<Tool>, ClientError> {
        let (passed, error) = match self.nearest(Kind::ToolSchema, name) {
            Ok(found) => return found,
            Err(passed) => passed,
        };
        // MCP has no request for one tool.
        let tools = match self.clone().upstream_list::<Tool>(What::Tools).await {
            Ok(tools) => tools,
            Err(failed) => return self.instead(Kind::ToolSchema, name, passed, error, failed),
        };
        let tool = tools.iter().find(|tool| tool.name == name);
        let object = tool.map(|tool| Arc::new(Object::Tool(tool.clone())));
        let Some(mut answer) = object.and_then(|object| Answer::new(object, tools.tier)) else {
            return Err(not_found(Kind::ToolSchema, name));
        };
        answer.passed = passed;
        Ok(answer)
    }

    /// See [`HybridClient::capability`].
    pub async fn capability(self, name: &str) -> Result<Answer<Value>, ClientError> {
        let (passed, error) = match self.nearest(Kind::Capability, name) {
            Ok(found) => return found,
            Err(passed) => passed,
        };
        let server = match self.inner().upstream.server(self.within()).await {
            Ok(server) => server,
            Err(failed) => {
                return self.instead(Kind::Capability, name, passed, error, failed.into());
            }
        };
        let said = object::said_of_itself(&server, name);
        let object = said.map(|value| Arc::new(Object::Capability(value)));
        let Some(mut answer) = object.and_then(|object| Answer::new(object, Tier::L3)) else {
            return Err(not_found(Kind::Capability, name));
        };
        answer.passed = passed;
        Ok(answer)
    }

    /// See [`HybridClient::get_prompt`].
    pub async fn get_prompt(
        self,
        name: &str,
        arguments: Option<Json>,
    ) -> Result<Answer<GetPromptResult>, ClientError> {
        let arguments = arguments.unwrap_or_default();
        let local = match self.mode {
            CacheMode::Use => self.inner().local(Kind::Prompt, name),
            CacheMode::Refresh | CacheMode::Bypass => Local::Nothing,
        };
        if let Local::Found(object, tier, version) = &local {
            if let Object::Template(template) = &**object {
                let rendered = template.render(&arguments);
                let rendered =
                    rendered.map_err(|error| ClientError::Undecodable(error.to_string()))?;
                let rendered =
                    rendered.map_err(|missing| ClientError::MissingArgument(missing.0))?;
                let answer = Answer::new(Arc::new(Object::Prompt(rendered)), *tier);
                return Ok(with_version(expected(answer, "prompts/get")?, *version));
            }
            // The server's own, of no arguments.
            if arguments.is_empty()
                && let Some(answer) = Answer::new(Arc::clone(object), *tier)
            {
                return Ok(answer);
            }
        }
        if arguments.is_empty() {
            return self.object(Kind::Prompt, name, What::Prompt).await;
        }
        // With arguments it is for one caller, once.
        let passed = match local {
            Local::Passed(passed, _) => Some(passed),
            _ => None,
        };
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
        let result = self
            .inner()
            .ask(request, Repeat::Harmless, self.within())
            .await?;
        let ServerResult::GetPromptResult(result) = result else {
            return Err(UpstreamError::Unexpected("prompts/get").into());
        };
        let answer = Answer::new(Arc::new(Object::Prompt(result)), Tier::L3);
        let mut answer = expected(answer, "prompts/get")?;
        answer.passed = passed;
        Ok(answer)
    }

    /// See [`HybridClient::list_tools`].
    pub async fn list_tools(self) -> Result<Answer<Vec<Tool>>, ClientError> {
        self.list(What::Tools).await
    }

    /// See [`HybridClient::list_resources`].
    pub async fn list_resources(self) -> Result<Answer<Vec<Resource>>, ClientError> {
        self.list(What::Resources).await
    }

    /// Every template of resources that the server has; none are published in shared memory.
    pub async fn list_resource_templates(
        self,
    ) -> Result<Answer<Vec<ResourceTemplate>>, ClientError> {
        self.list(What::ResourceTemplates).await
    }

    /// See [`HybridClient::list_prompts`].
    pub async fn list_prompts(self) -> Result<Answer<Vec<Prompt>>, ClientError> {
        self.list(What::Prompts).await
    }

    /// See [`HybridClient::call_tool`].
    pub async fn call_tool(
        self,
        name: &str,
        arguments: Option<Json>,
    ) -> Result<CallToolResult, ClientError> {
        let inner = self.inner();
        let patterns = inner.invalidated_by(name);
        // From before the call: what is published while it runs may be what it did.
        let over = match patterns.is_empty() {
            true => 0,
            false => inner.newest_version(),
        };
        let mut params = CallToolRequestParams::new(name.to_owned());
        params.arguments = arguments;
        let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
        let within = self.timeout.unwrap_or(inner.options.call_timeout);
        let result = inner.ask(request, Repeat::Never, within).await;
        // A call that failed may have done something all the same, unless the server refused it.
        let refused = matches!(
            result,
            Err(ClientError::Upstream(UpstreamError::Refused(_)))
        );
        if !refused {
            inner.invalidate(&patterns, over);
        }
        match result? {
            ServerResult::CallToolResult(result) => Ok(result),
            _ => Err(UpstreamError::Unexpected("tools/call").into()),
        }
    }

    /// The first two tiers, if they may answer and do; else why not.
    #[allow(
        clippy::type_complexity,
        reason = "an alias would only hide what the two sides are"
    )]
    fn nearest<T: Part>(
        &self,
        kind: Kind,
        key: &str,
    ) -> Result<Result<Answer<T>, ClientError>, (Option<Passed>, Option<ClientError>)> {
        if self.mode != CacheMode::Use {
            return Err((None, None));
        }
        match self.inner().local(kind, key) {
            Local::Found(object, tier, version) => match Answer::new(object, tier) {
                Some(answer) => Ok(Ok(with_version(answer, version))),
                None => Err((None, None)),
            },
            Local::Nothing => Err((None, None)),
            Local::Passed(passed, error) => Err((Some(passed), Some(error))),
        }
    }

    async fn object<T: Part>(
        self,
        kind: Kind,
        key: &str,
        what: fn(String) -> What,
    ) -> Result<Answer<T>, ClientError> {
        let (passed, error) = match self.nearest(kind, key) {
            Ok(found) => return found,
            Err(passed) => passed,
        };
        let (what, within) = (what(key.to_owned()), self.within());
        match self.inner().fetch(what, self.mode, within).await {
            Ok(object) => {
                let mut answer = expected(Answer::new(object, Tier::L3), "a request")?;
                answer.passed = passed;
                Ok(answer)
            }
            Err(failed) => self.instead(kind, key, passed, error, failed),
        }
    }

    /// What to say where the server gave no answer: an old answer, if that is wanted; else why, the reason in
    /// shared memory first if there is no server at all.
    fn instead<T: Part>(
        &self,
        kind: Kind,
        key: &str,
        passed: Option<Passed>,
        local: Option<ClientError>,
        failed: ClientError,
    ) -> Result<Answer<T>, ClientError> {
        let inner = self.inner();
        let refused = matches!(failed, ClientError::Upstream(UpstreamError::Refused(_)));
        if inner.options.stale_on_error
            && !refused
            && self.mode == CacheMode::Use
            && let Some(shared) = &inner.shared
            && let Some(old) = shared.cache.stale(kind, key)
        {
            let version = (!old.is_upstream()).then_some(old.version());
            if let Some(answer) = Answer::new(old.into_value(), Tier::L1) {
                let mut answer = with_version(answer, version);
                answer.stale = true;
                answer.passed = passed;
                return Ok(answer);
            }
        }
        Err(match failed {
            ClientError::Upstream(UpstreamError::NoTransport) => {
                local.unwrap_or_else(|| not_found(kind, key))
            }
            failed => failed,
        })
    }

    async fn list<T: Clone + 'static>(self, what: What) -> Result<Answer<Vec<T>>, ClientError>
    where
        Vec<T>: Part,
    {
        let inner = self.inner();
        let kind = what.kind();
        let complete = kind.is_some_and(|kind| inner.is_complete(kind));
        if let Some(kind) = kind.filter(|_| complete && self.mode == CacheMode::Use) {
            return inner.published(kind);
        }
        match self.clone().upstream_list(what.clone()).await {
            // Better what is published than nothing; and where there is no server, that is all there is.
            Err(failed @ ClientError::Upstream(_)) if inner.shared.is_some() => {
                let Some(kind) = kind else {
                    return Err(failed);
                };
                let no_server = matches!(failed, ClientError::Upstream(UpstreamError::NoTransport));
                match inner.published(kind) {
                    Ok(mut published) => {
                        published.partial = !no_server && !complete;
                        Ok(published)
                    }
                    Err(error) if no_server => Err(error),
                    Err(_) => Err(failed),
                }
            }
            result => result,
        }
    }

    async fn upstream_list<T>(self, what: What) -> Result<Answer<Vec<T>>, ClientError>
    where
        Vec<T>: Part,
    {
        let inner = self.inner();
        if self.mode == CacheMode::Use
            && let Some(listed) = inner.listed(&what)
        {
            return expected(Answer::new(listed, Tier::L1), "a list");
        }
        let object = inner.fetch(what, self.mode, self.within()).await?;
        expected(Answer::new(object, Tier::L3), "a list")
    }
}

fn not_found(kind: Kind, key: &str) -> ClientError {
    let key = key.to_owned();
    ClientError::NotFound { kind, key }
}

pub(super) fn expected<T>(answer: Option<T>, what: &'static str) -> Result<T, ClientError> {
    answer.ok_or_else(|| UpstreamError::Unexpected(what).into())
}

fn with_version<T>(mut answer: Answer<T>, version: Option<u64>) -> Answer<T> {
    answer.version = version;
    answer
}
