//! `read`, `tools`, `call`, `prompts`, `doctor`: the whole client, with a real writer and a real server.
//!
//! The server is this test's own executable: it runs one ignored test, which speaks MCP on its stdin and stdout.
//! What the test harness prints there besides are lines that a client must skip.

use crate::store::{Ran, Store};
use erlmcp_shm_writer::{Kind, Writer};
use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use serde_json::{Value, json};
use std::fmt::Write;

struct Server;

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(
            ServerCapabilities::builder()
                .enable_tools()
                .enable_resources()
                .build(),
        )
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, rmcp::ErrorData> {
        match request.uri.strip_prefix("dynamic://") {
            Some(name) => {
                let content =
                    ResourceContents::text(format!("made of {name}"), request.uri.clone());
                Ok(ReadResourceResult::new(vec![content]).into())
            }
            None => Err(rmcp::ErrorData::resource_not_found(
                "no such resource",
                None,
            )),
        }
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, rmcp::ErrorData> {
        let tool = Tool::new("echo", "says it again\nand more", JsonObject::new());
        Ok(ListToolsResult::with_all_items(vec![tool]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, rmcp::ErrorData> {
        let said = Value::Object(request.arguments.unwrap_or_default()).to_string();
        let content = vec![ContentBlock::text(said)];
        Ok(match request.name.as_ref() {
            "echo" => CallToolResult::success(content).into(),
            _ => CallToolResult::error(content).into(),
        })
    }
}

#[test]
#[ignore = "the server of the tests here, not a test"]
fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(async {
        let running = Server.serve(rmcp::transport::stdio()).await.unwrap();
        running.waiting().await.unwrap();
    });
}

/// A store with a live writer, and a configuration beside it.
struct Setup {
    store: Store,
    writer: Writer,
}

impl Setup {
    fn new(more: &str) -> Self {
        let store = Store::new();
        let writer = store.writer();
        writer.heartbeat().unwrap();
        let mut config = format!("[mcp.erlmcp]\nshared_memory.path = {:?}\n", store.path());
        config.push_str(more);
        std::fs::write(store.beside("config.toml"), config).unwrap();
        Self { store, writer }
    }

    fn with_server() -> Self {
        let me = std::env::current_exe().unwrap();
        let args = json!(["--ignored", "--exact", "client::serve", "--nocapture"]);
        let mut config = String::new();
        writeln!(config, "stdio.command = {me:?}\nstdio.args = {args}").unwrap();
        Self::new(&config)
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.writer.heartbeat().unwrap();
        let mut command = self.store.command(args);
        command
            .arg("--config")
            .arg(self.store.beside("config.toml"));
        Ran::new(command)
    }
}

fn text(ran: &Ran) -> &str {
    assert_eq!(ran.code, 0, "{ran:?}");
    str::from_utf8(&ran.stdout).unwrap()
}

#[test]
fn a_resource_is_read_from_shared_memory_or_else_from_the_server() {
    let setup = Setup::with_server();
    let put = setup.writer.put(
        Kind::Resource,
        b"file:///x",
        b"published\n",
        br#"{"mime_type":"text/plain"}"#,
    );
    put.unwrap();
    let ran = setup.run(&["read", "file:///x"]);
    assert_eq!(text(&ran), "published\n");
    assert!(ran.stderr.contains("from shared memory"), "{}", ran.stderr);
    let ran = setup.run(&["read", "dynamic://y"]);
    assert_eq!(text(&ran), "made of y");
    assert!(ran.stderr.contains("from the server"), "{}", ran.stderr);
    let ran = setup.run(&["read", "file:///x", "--json"]);
    let json: Value = serde_json::from_str(text(&ran)).unwrap();
    assert_eq!(json["contents"][0]["text"], "published\n");
    assert_eq!(
        (json["ttlMs"].as_u64(), json["cacheScope"].as_str()),
        (Some(10_000), Some("public"))
    );
    let ran = setup.run(&["read", "file:///nothing"]);
    assert_eq!((ran.code, ran.stdout.len()), (1, 0), "{ran:?}");
    assert!(ran.stderr.contains("no such resource"), "{}", ran.stderr);
}

#[test]
fn tools_are_listed_and_called() {
    let setup = Setup::with_server();
    assert_eq!(text(&setup.run(&["tools"])), "echo\tsays it again\n");
    assert_eq!(
        text(&setup.run(&["call", "echo", r#"{"a":1}"#])),
        "{\"a\":1}\n"
    );
    let ran = setup.run(&["call", "fails"]);
    assert_eq!(
        (ran.code, str::from_utf8(&ran.stdout)),
        (1, Ok("{}\n")),
        "{ran:?}"
    );
    assert_eq!(setup.run(&["call", "echo", "[1]"]).code, 2);
}

#[test]
fn without_a_server_there_is_what_is_published() {
    let setup = Setup::new("");
    let template = br#"{"messages":[]}"#;
    setup
        .writer
        .put(
            Kind::Prompt,
            b"greet",
            template,
            br#"{"description":"hello"}"#,
        )
        .unwrap();
    assert_eq!(text(&setup.run(&["prompts"])), "greet\thello\n");
    let ran = setup.run(&["tools"]);
    assert_eq!((ran.code, ran.stdout.len()), (0, 0), "{ran:?}");
    assert!(ran.stderr.contains("there are no tools"), "{ran:?}");
    let ran = setup.run(&["call", "echo"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("no transport"), "{}", ran.stderr);
    let ran = setup.run(&["read", "file:///nothing"]);
    assert_eq!(ran.code, 1, "{ran:?}");
}

#[test]
fn the_doctor_says_what_works_and_what_does_not() {
    let setup = Setup::with_server();
    let ran = setup.run(&["doctor"]);
    let lines: Vec<_> = text(&ran).lines().collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("ok")), "{lines:?}");
    let broken = Setup::new("stdio.command = \"/no/such/program\"\n");
    let ran = broken.run(&["doctor", "--json"]);
    assert_eq!(ran.code, 1);
    let findings = crate::store::json_lines(&ran.stdout);
    let failed = findings.iter().filter(|finding| finding["works"] == false);
    let failed: Vec<_> = failed
        .map(|finding| finding["what"].as_str().unwrap())
        .collect();
    assert_eq!(failed, ["stdio"]);
}

#[test]
fn the_doctor_says_in_one_line_why_a_server_ended_and_that_the_writer_closed_the_store() {
    let said = "printf 'no such config\\nCrash dump is being written\\n' >&2; exit 1";
    let setup = Setup::new(&format!(
        "stdio.command = \"sh\"\nstdio.args = [\"-c\", {said:?}]\n"
    ));
    setup.writer.close();
    let mut command = setup.store.command(["doctor", "--config"]);
    command.arg(setup.store.beside("config.toml"));
    let ran = Ran::new(command);
    let lines = str::from_utf8(&ran.stdout).unwrap();
    assert_eq!((ran.code, ran.stderr.as_str()), (1, ""), "{ran:?}");
    assert!(lines.contains("the writer has closed the store"), "{lines}");
    assert!(
        lines.contains("exit status: 1: no such config; Crash dump is being written\n"),
        "{lines}"
    );
}

#[test]
fn the_configuration_is_named_before_the_subcommand_or_behind() {
    let setup = Setup::new("");
    let config = setup.store.beside("config.toml");
    let config = config.to_str().unwrap();
    for args in [
        ["--config", config, "doctor"],
        ["doctor", "--config", config],
    ] {
        setup.writer.heartbeat().unwrap();
        let ran = setup.store.run(args);
        assert!(text(&ran).contains(config), "{ran:?}");
    }
    setup.store.run(["doctor"]).refused_with(2, "--config");
}

#[test]
fn the_configuration_or_an_option_says_whose_store_is_believed() {
    let setup = Setup::new("");
    if std::os::unix::fs::chown(setup.store.path(), Some(12345), None).is_err() {
        println!("SKIPPED: only root can give a file away");
        return;
    }
    let ran = setup.run(&["doctor"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert_eq!(setup.run(&["doctor", "--trust-owner", "12345"]).code, 0);
    let put = setup.writer.put(Kind::Resource, b"file:///x", b"x", b"{}");
    put.unwrap();
    let path = setup.store.beside("config.toml");
    let mut config = std::fs::read_to_string(&path).unwrap();
    config.push_str("shared_memory.trust_owner = 12345\n");
    std::fs::write(path, config).unwrap();
    assert_eq!(setup.run(&["doctor"]).code, 0);
    assert_eq!(text(&setup.run(&["read", "file:///x"])), "x");
}

#[test]
fn a_wrong_configuration_is_refused_with_its_line() {
    let setup = Setup::new("websocket.compresion = true\n");
    let ran = setup.run(&["doctor"]);
    assert_eq!((ran.code, ran.stdout.len()), (2, 0));
    assert!(
        ran.stderr.contains(":3:") && ran.stderr.contains("compression"),
        "{}",
        ran.stderr
    );
    let missing = setup.store.run(["doctor", "--config", "/no/such/file"]);
    assert_eq!(missing.code, 2);
}
