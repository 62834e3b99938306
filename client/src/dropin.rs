//! A transport of rmcp's around another one, that answers from shared memory what stands there.
//!
//! **Answered**: `resources/read` and `prompts/get` where the store has the entry, and the first page of
//! `resources/list`, `tools/list` and `prompts/list` where the store is said to have all of them. **Passed on**, in
//! both directions and as it is: everything else. So a request goes to the server whenever shared memory has not the
//! whole answer, and what only a server can say, such as that there is no such resource, is said by it.
//!
//! **Order.** rmcp sends and receives through `&mut self`: an answer is put down while a request is sent, and taken up
//! by the next receive. No lock, no task, and nothing to cancel.

use crate::object::{self, Json, Object};
use crate::published::{self, Lists, Pulse};
use erlmcp_shm_reader::{Kind, Reader, Scope};
use futures_util::FutureExt;
use futures_util::future::{Either, ready};
use rmcp::RoleClient;
use rmcp::model::*;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::{IntoTransport, Transport};
use std::collections::VecDeque;
use std::time::Duration;

/// A client transport around another one, for programs that use rmcp already: what stands in shared memory is
/// answered from there, everything else goes to the server as before. One line to adopt:
///
/// ```no_run
/// # use erlmcp_shm_client::ShmTransport;
/// # use erlmcp_shm_reader::Reader;
/// # use rmcp::ServiceExt;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = tokio::net::UnixStream::connect("/run/mcp.sock").await?;
/// let shm = Reader::options().allow_absent(true).open("/dev/shm/erlmcp_export.bin")?;
///
/// let server = ShmTransport::new(server, shm); // this one
///
/// let client = ().serve(server).await?;
/// let tools = client.list_all_tools().await?;
/// # Ok(())
/// # }
/// ```
///
/// # What is answered
///
/// | request | from shared memory if |
/// |---|---|
/// | `resources/read` | the resource is published |
/// | `prompts/get` | the prompt is published with its messages, and every required argument is given |
/// | `resources/list`, `tools/list`, `prompts/list` | the entry for that capability (`resources`, `tools`, `prompts`) has `"complete": true` in its metadata; a request with a cursor is the server's |
///
/// It is not answered while the writer is [silent](Self::ttl), nor from an entry that has expired, that is private, or
/// that MCP can make nothing of; a list with such an entry is the server's too. Nor before the exchange with the
/// server (`initialize` or `server/discover`) has gone by: it says which revision is spoken, and so whether results
/// have `resultType`, `ttlMs` and `cacheScope`, and whether the server has resources, tools or prompts at all.
///
/// # Consistency
///
/// Shared memory shows what was published at the moment of the request. Where the server publishes a change before it
/// answers the call that made it, or tells of it, a client that saw one of these sees the change.
///
/// # Limits
///
/// An answer is what the server's would be in so far as the store has what the server has. The store decides that a
/// list comes in one page and in the order of its keys, that the size of a resource is listed, and that a prompt comes
/// with its description; what a server adds to the `_meta` of every result is missing. Cancelling a request that was
/// answered from shared memory reaches the server, which does not know it, and has to ignore it.
#[derive(Debug)]
pub struct ShmTransport<T = ()> {
    inner: T,
    /// The inner transport has ended.
    ended: bool,
    reader: Reader,
    pulse: Pulse,
    lists: Lists,
    ttl: Duration,
    server: Server,
    /// Answers that wait to be received.
    answers: VecDeque<RxJsonRpcMessage<RoleClient>>,
    /// Whether the server is heard next, where both sides have something to say.
    servers_turn: bool,
}

/// What the server has said of itself.
#[derive(Debug)]
enum Server {
    Unknown,
    /// Every request is of this revision.
    Initialized(ProtocolVersion, ServerCapabilities),
    /// Each request says of which of these it is.
    Discovered(Vec<ProtocolVersion>, ServerCapabilities),
}

impl ShmTransport {
    /// The transport `inner`, with what `reader` reads before it.
    #[allow(clippy::new_ret_no_self, reason = "it is one, of another parameter")]
    pub fn new<I, E, A>(
        inner: I,
        reader: Reader,
    ) -> ShmTransport<impl Transport<RoleClient, Error = E> + 'static>
    where
        I: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
        A: 'static,
    {
        ShmTransport {
            inner: inner.into_transport(),
            ended: false,
            pulse: Pulse::of(&reader),
            lists: Lists::new(None),
            reader,
            ttl: Duration::from_secs(10),
            server: Server::Unknown,
            answers: VecDeque::new(),
            servers_turn: false,
        }
    }
}

impl<T> ShmTransport<T> {
    /// How long shared memory is trusted after the writer's last heartbeat; 10 s if it is not said.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for ShmTransport<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        if let JsonRpcMessage::Request(request) = &item
            && let Some(result) = self.answer(&request.request)
        {
            tracing::trace!(id = %request.id, "answered from shared memory");
            let answer = JsonRpcMessage::response(result, request.id.clone());
            self.answers.push_back(answer);
            return Either::Left(ready(Ok(())));
        }
        Either::Right(self.inner.send(item))
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        if self.answers.is_empty() && !self.ended {
            return self.hear().await;
        }
        // In turns, so that a client with many requests to shared memory hears from the server all the same.
        self.servers_turn = !self.servers_turn;
        if self.servers_turn && !self.ended {
            match self.hear().now_or_never() {
                Some(None) => self.ended = true,
                Some(message) => return message,
                None => {}
            }
        }
        self.answers.pop_front()
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.inner.close().await
    }
}

impl<T: Transport<RoleClient>> ShmTransport<T> {
    /// The server's next message. As safe to cancel as the inner transport's `receive`.
    async fn hear(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        let message = self.inner.receive().await?;
        if let JsonRpcMessage::Response(response) = &message {
            match &response.result {
                ServerResult::InitializeResult(said) => {
                    let capabilities = said.capabilities.clone();
                    self.server = Server::Initialized(said.protocol_version.clone(), capabilities);
                }
                ServerResult::DiscoverResult(said) => {
                    let capabilities = said.capabilities.clone();
                    self.server = Server::Discovered(said.supported_versions.clone(), capabilities);
                }
                _ => {}
            }
        }
        Some(message)
    }
}

impl<T> ShmTransport<T> {
    /// The answer from shared memory, if it has the whole of it.
    fn answer(&self, request: &ClientRequest) -> Option<ServerResult> {
        let first_page = |params: &Option<PaginatedRequestParams>| {
            let cursor = params.as_ref().and_then(|params| params.cursor.as_ref());
            cursor.is_none()
        };
        let kind = match request {
            ClientRequest::ReadResourceRequest(_) => Kind::Resource,
            ClientRequest::GetPromptRequest(_) => Kind::Prompt,
            ClientRequest::ListResourcesRequest(list) if first_page(&list.params) => Kind::Resource,
            ClientRequest::ListToolsRequest(list) if first_page(&list.params) => Kind::ToolSchema,
            ClientRequest::ListPromptsRequest(list) if first_page(&list.params) => Kind::Prompt,
            _ => return None,
        };
        let revision = self.server.revision_of(request, kind)?;
        if self.pulse.silent(&self.reader, self.ttl).is_some() {
            return None;
        }
        let result = match request {
            ClientRequest::ReadResourceRequest(read) => self.read(&read.params),
            ClientRequest::GetPromptRequest(get) => self.prompt(&get.params),
            _ => self.list(kind),
        };
        Some(shaped(result?, &revision))
    }

    /// What is published under a key, for everybody.
    fn published(&self, kind: Kind, key: &str) -> Option<Object> {
        let view = self.reader.view().ok()?;
        let entry = view.get(kind, key).ok()??;
        if entry.is_expired() || entry.scope() == Scope::Private {
            return None;
        }
        let object = object::decode(&entry, "");
        object
            .inspect_err(
                |error| tracing::warn!(key, %error, "an entry that MCP cannot make anything of"),
            )
            .ok()
    }

    fn read(&self, params: &ReadResourceRequestParams) -> Option<ServerResult> {
        if params.input_responses.is_some() || params.request_state.is_some() {
            return None;
        }
        match self.published(Kind::Resource, &params.uri)? {
            Object::Resource(result) => Some(ServerResult::ReadResourceResult(result)),
            _ => None,
        }
    }

    fn prompt(&self, params: &GetPromptRequestParams) -> Option<ServerResult> {
        if params.input_responses.is_some() || params.request_state.is_some() {
            return None;
        }
        let Object::Template(template) = self.published(Kind::Prompt, &params.name)? else {
            return None;
        };
        if !template.is_whole() {
            return None;
        }
        let nothing = Json::new();
        let rendered = template.render(params.arguments.as_ref().unwrap_or(&nothing));
        // Which argument is missing, the server says.
        let result = rendered.ok()?.ok()?;
        Some(ServerResult::GetPromptResult(result))
    }

    fn list(&self, kind: Kind) -> Option<ServerResult> {
        let ttl_ms = published::complete(&self.reader.view().ok()?, kind)?;
        let list = self.lists.get(&self.reader, kind).ok()?;
        if !list.whole {
            return None;
        }
        macro_rules! all {
            ($result:ident, $items:expr) => {{
                let result = $result::with_all_items($items).with_ttl_ms(ttl_ms);
                ServerResult::$result(result.with_cache_scope(CacheScope::Public))
            }};
        }
        Some(match &*list.object {
            Object::Resources(resources) => all!(ListResourcesResult, resources.clone()),
            Object::Tools(tools) => all!(ListToolsResult, tools.clone()),
            Object::Prompts(prompts) => all!(ListPromptsResult, prompts.clone()),
            _ => return None,
        })
    }
}

impl Server {
    /// The revision of a request that may be answered in the server's place.
    fn revision_of(&self, request: &ClientRequest, kind: Kind) -> Option<ProtocolVersion> {
        let meta = request.get_meta();
        let said = meta.protocol_version();
        let (revision, capabilities) = match self {
            Server::Unknown => return None,
            Server::Initialized(negotiated, capabilities) => {
                let other = said.is_some_and(|said| said != *negotiated);
                ((!other).then(|| negotiated.clone())?, capabilities)
            }
            Server::Discovered(supported, capabilities) => {
                // What is missing from such a request, the server says.
                let whole = meta.missing_required_keys(&ProtocolVersion::V_2026_07_28);
                let said = said.filter(|said| supported.contains(said) && whole.is_empty());
                (said?, capabilities)
            }
        };
        let able = match kind {
            Kind::Resource => capabilities.resources.is_some(),
            Kind::ToolSchema => capabilities.tools.is_some(),
            Kind::Prompt => capabilities.prompts.is_some(),
            Kind::Capability => false,
        };
        able.then_some(revision)
    }
}

/// The result as a server has to send it on this revision.
fn shaped(mut result: ServerResult, revision: &ProtocolVersion) -> ServerResult {
    if revision.as_str() >= ProtocolVersion::V_2026_07_28.as_str() {
        return result;
    }
    result.strip_result_type_for_legacy_peer();
    result.strip_non_object_output_for_legacy_peer();
    let hints = match &mut result {
        ServerResult::ReadResourceResult(result) => (&mut result.ttl_ms, &mut result.cache_scope),
        ServerResult::ListResourcesResult(result) => (&mut result.ttl_ms, &mut result.cache_scope),
        ServerResult::ListToolsResult(result) => (&mut result.ttl_ms, &mut result.cache_scope),
        ServerResult::ListPromptsResult(result) => (&mut result.ttl_ms, &mut result.cache_scope),
        _ => return result,
    };
    (*hints.0, *hints.1) = (None, None);
    result
}
