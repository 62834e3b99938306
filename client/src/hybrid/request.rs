//! One request: through the tiers.

use super::flights::{Fetched, What};
use super::{CacheMode, HybridClient, Inner, Listed, Local};
use crate::ClientError;
use crate::answer::{Answer, Part, Passed, Tier};
use crate::object::{Json, Object};
use crate::published;
use crate::upstream::{Repeat, UpstreamError};
use erlmcp_shm_reader::Kind;
use erlmcp_shm_reader::l1::Upstream as Origin;
use rmcp::model::*;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More pages than this of one list are a server that does not end.
const MAX_PAGES: usize = 1000;

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

/// What is known when a request goes to the server.
struct Asking {
    /// Shared memory's change counter, from before the request.
    seen: Option<u64>,
    epoch: u64,
    /// Versions up to this are older than what the server will say.
    over: u64,
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
        match self.nearest(Kind::Capability, name) {
            Ok(found) => found,
            Err((_, error)) => Err(error.unwrap_or_else(|| not_found(Kind::Capability, name))),
        }
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
    #[allow(clippy::type_complexity)]
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

fn expected<T>(answer: Option<T>, what: &'static str) -> Result<T, ClientError> {
    answer.ok_or_else(|| UpstreamError::Unexpected(what).into())
}

fn with_version<T>(mut answer: Answer<T>, version: Option<u64>) -> Answer<T> {
    answer.version = version;
    answer
}

impl What {
    /// The kind of entry that such a list lists, or such a request is for.
    fn kind(&self) -> Option<Kind> {
        match self {
            What::Resource(_) | What::Resources => Some(Kind::Resource),
            What::Prompt(_) | What::Prompts => Some(Kind::Prompt),
            What::Tools => Some(Kind::ToolSchema),
            What::ResourceTemplates => None,
        }
    }
}

impl Inner {
    async fn ask(
        &self,
        request: ClientRequest,
        repeat: Repeat,
        within: Duration,
    ) -> Result<ServerResult, ClientError> {
        let started = Instant::now();
        let result = self.upstream.request(request, repeat, within).await;
        tracing::trace!(took = ?started.elapsed(), ok = result.is_ok(), "asked the server");
        Ok(result?)
    }

    /// The highest version in shared memory; 0 if there is none to read.
    fn newest_version(&self) -> u64 {
        let stats = self
            .shared
            .as_ref()
            .map(|shared| shared.cache.reader().stats());
        stats.and_then(Result::ok).map_or(0, |stats| stats.version)
    }

    /// Asks the server, together with whoever asks for the same at the same time, and keeps the answer if it may be
    /// kept.
    async fn fetch(self: &Arc<Self>, what: What, mode: CacheMode, within: Duration) -> Fetched {
        let started = Instant::now();
        let fetched = self.fetch_untimed(what, mode, within).await;
        self.figures
            .missed(fetched.is_ok().then(|| started.elapsed()));
        fetched
    }

    async fn fetch_untimed(
        self: &Arc<Self>,
        what: What,
        mode: CacheMode,
        within: Duration,
    ) -> Fetched {
        let key = match &what {
            What::Resource(key) | What::Prompt(key) => key.as_str(),
            _ => "",
        };
        let shared = self.shared.as_ref();
        let asking = Asking {
            epoch: self.epoch(),
            seen: shared.and_then(|shared| shared.cache.reader().changes().ok()),
            over: self.holds.over(key),
        };
        let epoch = asking.epoch;
        let (client, for_whom) = (Arc::clone(self), what.clone());
        let keep = mode != CacheMode::Bypass;
        let fetch = move || -> futures_util::future::BoxFuture<'static, Fetched> {
            Box::pin(async move {
                let (object, ttl_ms) = client.request_object(&for_whom, within).await?;
                let object = Arc::new(object);
                if keep {
                    client.keep(&for_whom, &object, ttl_ms, &asking);
                }
                Ok(object)
            })
        };
        // Who wants to go by the caches wants no other's answer either.
        if mode != CacheMode::Use {
            return fetch().await;
        }
        match tokio::time::timeout(within, self.flights.join((what, epoch), fetch)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(UpstreamError::Timeout(within).into()),
        }
    }

    /// The object, and how long it may be treated as fresh if the server says so.
    async fn request_object(
        &self,
        what: &What,
        within: Duration,
    ) -> Result<(Object, Option<u64>), ClientError> {
        match what {
            What::Resource(uri) => {
                let params = ReadResourceRequestParams::new(uri.clone());
                let request = ClientRequest::ReadResourceRequest(ReadResourceRequest::new(params));
                match self.ask(request, Repeat::Harmless, within).await? {
                    ServerResult::ReadResourceResult(result) => {
                        let ttl_ms = result.ttl_ms;
                        Ok((Object::Resource(result), ttl_ms))
                    }
                    _ => Err(UpstreamError::Unexpected("resources/read").into()),
                }
            }
            What::Prompt(name) => {
                let params = GetPromptRequestParams::new(name.clone());
                let request = ClientRequest::GetPromptRequest(GetPromptRequest::new(params));
                match self.ask(request, Repeat::Harmless, within).await? {
                    ServerResult::GetPromptResult(result) => Ok((Object::Prompt(result), None)),
                    _ => Err(UpstreamError::Unexpected("prompts/get").into()),
                }
            }
            list => self.request_list(list, within).await,
        }
    }

    /// Every page of a list. It may be treated as fresh for as long as each of them.
    async fn request_list(
        &self,
        what: &What,
        within: Duration,
    ) -> Result<(Object, Option<u64>), ClientError> {
        let deadline = Instant::now() + within;
        let (mut tools, mut prompts, mut resources, mut templates) =
            (vec![], vec![], vec![], vec![]);
        let mut ttl: Option<u64> = None;
        let mut cursor: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let page = cursor
                .take()
                .map(|cursor| PaginatedRequestParams::default().with_cursor(Some(cursor)));
            let request = list_request(what, page);
            let left = deadline.saturating_duration_since(Instant::now());
            let (next, ttl_ms) = match self.ask(request, Repeat::Harmless, left).await? {
                ServerResult::ListToolsResult(page) => {
                    tools.extend(page.tools);
                    (page.next_cursor, page.ttl_ms)
                }
                ServerResult::ListPromptsResult(page) => {
                    prompts.extend(page.prompts);
                    (page.next_cursor, page.ttl_ms)
                }
                ServerResult::ListResourcesResult(page) => {
                    resources.extend(page.resources);
                    (page.next_cursor, page.ttl_ms)
                }
                ServerResult::ListResourceTemplatesResult(page) => {
                    templates.extend(page.resource_templates);
                    (page.next_cursor, page.ttl_ms)
                }
                _ => return Err(UpstreamError::Unexpected("a list").into()),
            };
            ttl = match (ttl, ttl_ms) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            };
            if next.is_none() {
                let object = match what {
                    What::Tools => Object::Tools(tools),
                    What::Prompts => Object::Prompts(prompts),
                    What::Resources => Object::Resources(resources),
                    _ => Object::ResourceTemplates(templates),
                };
                return Ok((object, ttl));
            }
            cursor = next;
        }
        Err(UpstreamError::Unexpected("a list, page after page without end").into())
    }

    /// Keeps an answer of the server's, unless something was invalidated since it was asked for.
    fn keep(&self, what: &What, object: &Arc<Object>, ttl_ms: Option<u64>, asking: &Asking) {
        let said = ttl_ms.map_or(Duration::MAX, Duration::from_millis);
        let ttl = said.min(self.options.l1_ttl);
        if ttl.is_zero() || self.epoch() != asking.epoch || self.options.l1_bytes == 0 {
            return;
        }
        match what {
            What::Resource(key) | What::Prompt(key) => {
                let (Some(shared), Some(kind)) = (&self.shared, what.kind()) else {
                    return;
                };
                let origin = Origin {
                    seen: asking.seen,
                    ttl,
                    weight: weight(object),
                    over: asking.over,
                };
                shared
                    .cache
                    .insert_upstream(kind, key, Arc::clone(object), origin);
                // An invalidation that came in between found nothing to remove.
                if self.epoch() != asking.epoch {
                    shared.cache.remove(kind, key);
                }
            }
            list => {
                let mut lists = self.lists.lock();
                // Under the lock, so that an invalidation either is seen here or finds the list.
                if self.epoch() == asking.epoch {
                    let (object, until) = (Arc::clone(object), Instant::now() + ttl);
                    lists.insert(list.clone(), Listed { object, until });
                }
            }
        }
    }

    /// A list that the server gave a moment ago.
    fn listed(&self, what: &What) -> Option<Arc<Object>> {
        let lists = self.lists.lock();
        let listed = lists
            .get(what)
            .filter(|listed| Instant::now() < listed.until);
        listed.map(|listed| Arc::clone(&listed.object))
    }

    /// Whether shared memory has every resource, tool or prompt of the server.
    fn is_complete(&self, kind: Kind) -> bool {
        let Some(shared) = &self.shared else {
            return false;
        };
        if shared.silent(self.options.l2_ttl).is_some() {
            return false;
        }
        let view = shared.cache.reader().view();
        view.is_ok_and(|view| published::complete(&view, kind).is_some())
    }

    /// What shared memory lists, by key.
    fn published<T>(&self, kind: Kind) -> Result<Answer<Vec<T>>, ClientError>
    where
        Vec<T>: Part,
    {
        let Some(shared) = &self.shared else {
            return Err(UpstreamError::NoTransport.into());
        };
        if let Some(silent) = shared.silent(self.options.l2_ttl) {
            return Err(ClientError::Silent(silent));
        }
        let view = shared.cache.reader().view().map_err(ClientError::Shared)?;
        let list = published::list(&view, kind, Some(&self.options.partition));
        expected(Answer::new(Arc::new(list.object), Tier::L2), "a list")
    }
}

fn list_request(what: &What, page: Option<PaginatedRequestParams>) -> ClientRequest {
    macro_rules! list {
        ($request:ident) => {
            ClientRequest::$request($request {
                method: Default::default(),
                params: page,
                extensions: Default::default(),
            })
        };
    }
    match what {
        What::Tools => list!(ListToolsRequest),
        What::Prompts => list!(ListPromptsRequest),
        What::Resources => list!(ListResourcesRequest),
        _ => list!(ListResourceTemplatesRequest),
    }
}

/// Bytes that an object takes, roughly: those of its text.
fn weight(object: &Object) -> usize {
    match object {
        Object::Resource(result) => {
            let contents = result.contents.iter().map(|content| match content {
                ResourceContents::TextResourceContents { text, .. } => text.len(),
                ResourceContents::BlobResourceContents { blob, .. } => blob.len(),
                _ => 0,
            });
            256 + contents.sum::<usize>()
        }
        Object::Prompt(result) => serde_json::to_vec(result).map_or(1024, |text| text.len()),
        _ => 1024,
    }
}
