//! The same against a server that knows nothing of shared memory: copies of its answers are published.

use super::*;
use erlmcp_shm_reader::Kind;
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::{IntoTransport, Transport};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const PACKAGE: &str = "@modelcontextprotocol/server-everything";

fn start() -> std::io::Result<(Child, (ChildStdout, ChildStdin))> {
    let mut command = Command::new("npx");
    command.args(["-y", PACKAGE, "stdio"]).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::null()).spawn()?;
    let pipes = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
    Ok((child, pipes))
}

/// Counts the requests that pass.
struct Counting<T>(T, Arc<AtomicU64>);

impl<T: Transport<RoleClient>> Transport<RoleClient> for Counting<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), T::Error>> + Send + 'static {
        let request = matches!(item, JsonRpcMessage::Request(_));
        self.1.fetch_add(u64::from(request), Ordering::SeqCst);
        self.0.send(item)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.0.receive().await
    }

    async fn close(&mut self) -> Result<(), T::Error> {
        self.0.close().await
    }
}

/// Splits an object as MCP has it into metadata of an entry, and the fields that are not metadata.
fn metadata<const N: usize>(object: &Value, others: [&str; N]) -> (String, [Value; N]) {
    let mut object = object.as_object().unwrap().clone();
    let others = others.map(|key| object.remove(key).unwrap_or_default());
    if let Some(Value::Object(meta)) = object.remove("_meta") {
        object.extend(meta);
    }
    (Value::Object(object).to_string(), others)
}

/// Publishes what the server lists, as far as it answers the same twice and an entry can hold it. Gives how many of
/// each kind are published and how many there are.
async fn publish(client: &Client, writer: &Writer) -> [(usize, usize); 3] {
    let put = |kind, key: &str, data: &[u8], metadata: &str| {
        let put = writer.put(kind, key.as_bytes(), data, metadata.as_bytes());
        put.unwrap();
    };
    let tools = client.list_all_tools().await.unwrap();
    for tool in &tools {
        let tool = serde_json::to_value(tool).unwrap();
        let (metadata, [name, schema]) = metadata(&tool, ["name", "inputSchema"]);
        let (name, schema) = (name.as_str().unwrap(), schema.to_string());
        put(Kind::ToolSchema, name, schema.as_bytes(), &metadata);
    }
    let resources = client.list_all_resources().await.unwrap();
    let mut copied = 0;
    for resource in &resources {
        let answer = ask(client, read(&resource.uri)).await;
        if ask(client, read(&resource.uri)).await != answer {
            continue;
        }
        let content = &answer["result"]["contents"][0];
        let Some(text) = content["text"].as_str() else {
            continue;
        };
        let listed = serde_json::to_value(resource).unwrap();
        let (metadata, [uri]) = metadata(&listed, ["uri"]);
        put(
            Kind::Resource,
            uri.as_str().unwrap(),
            text.as_bytes(),
            &metadata,
        );
        copied += 1;
    }
    let prompts = client.list_all_prompts().await.unwrap();
    let mut templates = 0;
    for prompt in &prompts {
        let arguments = prompt.arguments.iter().flatten();
        if arguments
            .clone()
            .any(|argument| argument.required != Some(true))
        {
            continue;
        }
        // Asked with the names of the holes, the server answers with the template.
        let holes = arguments.map(|argument| {
            let hole = format!("{{{{{}}}}}", argument.name);
            (argument.name.clone(), hole.into())
        });
        let answer = ask(client, get(&prompt.name, Some(holes.collect()))).await;
        let listed = serde_json::to_value(prompt).unwrap();
        let (metadata, [name, arguments]) = metadata(&listed, ["name", "arguments"]);
        let mut data = json!({"messages": answer["result"]["messages"]});
        if !arguments.is_null() {
            data["arguments"] = arguments;
        }
        let (name, data) = (name.as_str().unwrap(), data.to_string());
        put(Kind::Prompt, name, data.as_bytes(), &metadata);
        templates += 1;
    }
    [
        (tools.len(), tools.len()),
        (copied, resources.len()),
        (templates, prompts.len()),
    ]
}

/// An answer without what the store decides: the order of a list, and that what describes a prompt comes with it.
fn comparable(mut answer: Value) -> Value {
    for (list, key) in [("tools", "name"), ("prompts", "name"), ("resources", "uri")] {
        if let Some(Value::Array(items)) = answer["result"].get_mut(list) {
            items.sort_by_key(|item| item[key].as_str().unwrap().to_owned());
        }
    }
    if let Some(result) = answer["result"].as_object_mut() {
        result.remove("description");
    }
    answer
}

#[tokio::test]
async fn answers_are_those_of_a_server_that_knows_nothing_of_it() {
    let starting = async {
        let ((child, pipes), (other, others)) = (start()?, start()?);
        let client = ().serve(pipes).await.map_err(std::io::Error::other)?;
        Ok::<_, std::io::Error>((child, client, other, others))
    };
    let started = tokio::time::timeout(Duration::from_secs(120), starting).await;
    let started = started.unwrap_or_else(|late| Err(late.into()));
    let (_child, without, _other, others) = match started {
        Ok(started) => started,
        Err(error) => return println!("SKIPPED: npx {PACKAGE} does not start: {error}"),
    };
    let store = Store::new();
    let [tools, resources, prompts] = publish(&without, &store.writer).await;
    println!("published {tools:?} tools, {resources:?} resources, {prompts:?} prompts");
    for (name, (published, all)) in [
        ("tools", tools),
        ("resources", resources),
        ("prompts", prompts),
    ] {
        let metadata = json!({"complete": published == all}).to_string();
        let (name, metadata) = (name.as_bytes(), metadata.as_bytes());
        store
            .writer
            .put(Kind::Capability, name, b"{}", metadata)
            .unwrap();
    }
    let passed = Arc::new(AtomicU64::new(0));
    let others = IntoTransport::<RoleClient, _, _>::into_transport(others);
    let others = Counting(others, passed.clone());
    let with = ().serve(ShmTransport::new(others, store.reader()).ttl(LONG)).await.unwrap();
    passed.store(0, Ordering::SeqCst);

    let mut asked = vec![
        list!(ListToolsRequest, None),
        list!(ListResourcesRequest, None),
        list!(ListPromptsRequest, None),
        list!(ListResourceTemplatesRequest, None),
        read("demo://nothing/of/the/kind"),
        get("no-such-prompt", None),
    ];
    for resource in without.list_all_resources().await.unwrap() {
        asked.push(read(&resource.uri));
    }
    for prompt in without.list_all_prompts().await.unwrap() {
        let arguments = prompt.arguments.into_iter().flatten();
        let given = arguments
            .map(|argument| (argument.name, "x".into()))
            .collect();
        asked.extend([get(&prompt.name, Some(given)), get(&prompt.name, None)]);
    }
    for request in &asked {
        let expected = comparable(ask(&without, request.clone()).await);
        let answer = comparable(ask(&with, request.clone()).await);
        assert_eq!(answer, expected, "{request:?}");
    }
    let (passed, count) = (passed.load(Ordering::SeqCst), asked.len() as u64);
    println!("{count} requests the same, {passed} of them the server's");
    assert!(resources.0 > 0 && prompts.0 > 0);
    assert!(passed + (resources.0 + prompts.0 + 1) as u64 <= count);

    let document = without.list_all_resources().await.unwrap().remove(0);
    let timed = [
        ("tools/list", list!(ListToolsRequest, None)),
        ("resources/read", read(&document.uri)),
    ];
    println!("median of 200 requests, in us  server  shared memory");
    for (name, request) in timed {
        let far = median(&without, request.clone(), 200).await;
        let near = median(&with, request, 200).await;
        let (far, near) = (far.as_nanos() as f64 / 1e3, near.as_nanos() as f64 / 1e3);
        println!("{name:<30} {far:>6.0}  {near:>13.1}");
    }
}
