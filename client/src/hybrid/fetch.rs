//! Asking the server: one request for all who want the same, and what of its answer is kept.

use super::flights::{Fetched, What};
use super::request::expected;
use super::{CacheMode, Inner, Listed};
use crate::ClientError;
use crate::answer::{Answer, Part, Tier};
use crate::object::Object;
use crate::published;
use crate::upstream::{Repeat, UpstreamError};
use erlmcp_shm_reader::l1::Upstream as Origin;
use erlmcp_shm_reader::{Kind, Reader};
use rmcp::model::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// More pages than this of one list are a server that does not end.
const MAX_PAGES: usize = 1000;

/// What is known when a request goes to the server.
struct Asking {
    /// Shared memory's change counter, from before the request.
    seen: Option<u64>,
    epoch: u64,
    /// Versions up to this are older than what the server will say.
    over: u64,
}

impl What {
    /// The kind of entry that such a list lists, or such a request is for.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self {
            What::Resource(_) | What::Resources => Some(Kind::Resource),
            What::Prompt(_) | What::Prompts => Some(Kind::Prompt),
            What::Tools => Some(Kind::ToolSchema),
            What::ResourceTemplates => None,
        }
    }
}

impl Inner {
    pub(super) async fn ask(
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
    pub(super) fn newest_version(&self) -> u64 {
        let stats = self.near.reader().map(Reader::stats);
        stats.and_then(Result::ok).map_or(0, |stats| stats.version)
    }

    /// Asks the server, together with whoever asks for the same at the same time, and keeps the answer if it may be
    /// kept.
    pub(super) async fn fetch(
        self: &Arc<Self>,
        what: What,
        mode: CacheMode,
        within: Duration,
    ) -> Fetched {
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
        let asking = Asking {
            epoch: self.epoch(),
            seen: self.near.reader().and_then(|shm| shm.changes().ok()),
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
        if ttl.is_zero() || self.options.l1_bytes == 0 {
            return;
        }
        // Asked under the locks that invalidations take: each either is seen here or finds what was put in.
        let still = || self.epoch() == asking.epoch;
        match what {
            What::Resource(key) | What::Prompt(key) => {
                let Some(kind) = what.kind() else { return };
                let origin = Origin {
                    seen: asking.seen,
                    ttl,
                    weight: weight(object),
                    over: asking.over,
                };
                let object = Arc::clone(object);
                let cache = &self.near.cache;
                cache.insert_upstream_if(kind, key, object, origin, still);
            }
            list => {
                let mut lists = self.lists.lock();
                if still() {
                    let (object, until) = (Arc::clone(object), Instant::now() + ttl);
                    lists.insert(list.clone(), Listed { object, until });
                }
            }
        }
    }

    /// A list that the server gave a moment ago.
    pub(super) fn listed(&self, what: &What) -> Option<Arc<Object>> {
        let lists = self.lists.lock();
        let listed = lists
            .get(what)
            .filter(|listed| Instant::now() < listed.until);
        listed.map(|listed| Arc::clone(&listed.object))
    }

    /// Whether shared memory has every resource, tool or prompt of the server.
    pub(super) fn is_complete(&self, kind: Kind) -> bool {
        let Some(shm) = self.near.reader() else {
            return false;
        };
        if self.near.silent(self.options.l2_ttl).is_some() {
            return false;
        }
        shm.view()
            .is_ok_and(|view| published::complete(&view, kind).is_some())
    }

    /// What shared memory lists, by key.
    pub(super) fn published<T>(&self, kind: Kind) -> Result<Answer<Vec<T>>, ClientError>
    where
        Vec<T>: Part,
    {
        let Some(shm) = self.near.reader() else {
            return Err(UpstreamError::NoTransport.into());
        };
        if let Some(silent) = self.near.silent(self.options.l2_ttl) {
            return Err(ClientError::Silent(silent));
        }
        let list = self.near.lists.get(shm, kind);
        let list = list.map_err(ClientError::Shared)?;
        expected(Answer::new(Arc::clone(&list.object), Tier::L2), "a list")
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
