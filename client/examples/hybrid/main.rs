//! A client of all three tiers that does what it is told, for tests of a node: `hybrid CONFIG [initialize]`.
//!
//! Each line of its input is a JSON object with what to `do`; each line of its output is what came of it: `ok` with the
//! `tier` and `version` where it has them, or `error` with the error's name. With `initialize` a conversation starts as
//! until 2025-11-25, without asking for a newer revision first.
//!
//! Two orders take their time, and say more than one line: to read while the node is killed again and again (`kills`),
//! and to be very many clients at once (`crowd`).

mod crowd;
mod kills;

use erlmcp_shm_client::config::{Endpoint, TransportConfig};
use erlmcp_shm_client::transport::{self, Http, Stdio, Transport, WebSocket};
use erlmcp_shm_client::{
    Answer, CacheMode, Change, Changes, ClientError, Config, Connect, ConnectError, HybridClient,
    Listener, Notice, Options, Part, Request, Revision, Route, Session,
};
use erlmcp_shm_reader::Reader;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::Write;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;

/// A transport on which no newer revision is asked for.
struct Old(Transport);

impl Connect for Old {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Session, ConnectError>> {
        let dial = || async { Ok(self.0.connect().await?) };
        Box::pin(async move {
            let old = Revision::Initialize;
            old.negotiate(listener, within, dial).await
        })
    }
}

fn old(config: &TransportConfig) -> Route {
    let transport = match &config.endpoint {
        Endpoint::Stdio { command, args } => Transport::from(Stdio::new(command).args(args)),
        Endpoint::Http { url } => Transport::from(Http::new(url)),
        Endpoint::WebSocket { url, .. } => Transport::from(WebSocket::new(url)),
        // Starts in that way whatever it is told.
        Endpoint::Sse { .. } => return transport::route(config),
    };
    Route {
        kind: config.endpoint.kind(),
        connect: Box::new(Old(transport)),
        priority: config.priority,
    }
}

fn client(config: &Config, initialize: bool) -> Result<HybridClient, Box<dyn Error>> {
    if !initialize {
        return Ok(HybridClient::from_config(config)?);
    }
    let reader = match &config.l2 {
        Some(l2) => Some(Reader::options().allow_absent(true).open(&l2.path)?),
        None => None,
    };
    let routes = config.transports.iter().map(old).collect();
    Ok(HybridClient::new(reader, routes, Options::default()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments
        .next()
        .ok_or("usage: hybrid CONFIG [initialize]")?;
    let initialize = arguments.next().is_some_and(|word| word == "initialize");
    let config = Config::load(path)?;
    let client = client(&config, initialize)?;
    let mut changes = client.changes();
    let mut lines = tokio::io::BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let order: Map<String, Value> = serde_json::from_str(&line)?;
        let outcome = obey(&config, &client, &mut changes, &order).await?;
        println!("{outcome}");
        std::io::stdout().flush()?;
    }
    client.close().await;
    Ok(())
}

async fn obey(
    config: &Config,
    client: &HybridClient,
    changes: &mut Changes,
    order: &Map<String, Value>,
) -> Result<Value, Box<dyn Error>> {
    let word = |key: &str| order.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| order.get(key).and_then(Value::as_u64).unwrap_or_default();
    let name = word("name");
    let arguments = order.get("arguments").and_then(Value::as_object).cloned();
    let request = request(client, word("cache"))?;
    Ok(match word("do") {
        "read_resource" => answer(request.read_resource(name).await),
        "tool_schema" => answer(request.tool_schema(name).await),
        "get_prompt" => answer(request.get_prompt(name, arguments).await),
        "capability" => answer(request.capability(name).await),
        "list_resources" => answer(request.list_resources().await),
        "list_tools" => answer(request.list_tools().await),
        "list_prompts" => answer(request.list_prompts().await),
        "call_tool" => match request.call_tool(name, arguments).await {
            Ok(result) => json!({ "ok": result }),
            Err(error) => failure(&error),
        },
        "subscribe" => done(|| client.subscribe(name)),
        "refresh" => done(|| client.refresh()),
        "transports" => {
            let all = client.transports();
            let each = all.iter().map(|transport| {
                json!([transport.kind.name(), transport.active, transport.connected])
            });
            json!({ "ok": each.collect::<Vec<_>>() })
        }
        "kills" => kills::read_on(client, word("acknowledged").as_ref(), number("seconds")).await,
        "crowd" => crowd::gather(config, number("clients"), name, number("seconds")).await?,
        "prometheus" => json!({ "ok": client.metrics().prometheus() }),
        "next_change" => {
            let next = tokio::time::timeout(Duration::from_secs(10), changes.next());
            match next.await {
                Ok(Some(change)) => json!({ "ok": news(&change) }),
                _ => json!({ "error": "Nothing" }),
            }
        }
        other => return Err(format!("cannot do {other:?}").into()),
    })
}

fn request<'a>(client: &'a HybridClient, cache: &str) -> Result<Request<'a>, String> {
    Ok(client.request().cache(match cache {
        "" | "use" => CacheMode::Use,
        "refresh" => CacheMode::Refresh,
        "bypass" => CacheMode::Bypass,
        other => return Err(format!("no such cache mode: {other}")),
    }))
}

fn done(act: impl FnOnce()) -> Value {
    act();
    json!({ "ok": null })
}

fn answer<T: Part + Serialize>(result: Result<Answer<T>, ClientError>) -> Value {
    match result {
        Ok(answer) => json!({
            "ok": *answer,
            "tier": format!("{:?}", answer.tier()),
            "version": answer.version(),
        }),
        Err(error) => failure(&error),
    }
}

fn failure(error: &ClientError) -> Value {
    json!({ "error": name_of(error), "says": error.to_string() })
}

/// The variant's name, of an error of the server's side that of the inner one.
fn name_of(error: &ClientError) -> String {
    let shown = match error {
        ClientError::Upstream(error) => format!("{error:?}"),
        error => format!("{error:?}"),
    };
    let letters = shown.chars().take_while(char::is_ascii_alphanumeric);
    letters.collect()
}

fn news(change: &Change) -> Value {
    match change {
        Change::Shared(count) => json!({ "shared": count }),
        Change::Server(Notice::ResourceUpdated(uri)) => json!({ "updated": uri }),
        Change::Server(notice) => json!({ "server": format!("{notice:?}") }),
        other => json!({ "other": format!("{other:?}") }),
    }
}
