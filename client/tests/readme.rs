//! The README's client is the example `tiers`, and it works.

mod wire;

use erlmcp_shm_writer::{Kind, Writer};
use std::process::Command;

const EXAMPLE: &str = include_str!("../examples/tiers.rs");

#[test]
fn the_readme_shows_the_example_that_is_built() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once("```rust,no_run\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let (_, built) = EXAMPLE.split_once("\n\n").unwrap();
    assert_eq!(shown, built);
}

#[test]
fn the_example_asks_shared_memory_and_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let writer = Writer::options().open(&store).unwrap();
    let metadata = br#"{"mime_type":"text/plain"}"#;
    writer
        .put(Kind::Resource, b"file:///motd", b"hello", metadata)
        .unwrap();
    writer.heartbeat().unwrap();
    let config = dir.path().join("config.toml");
    let server = wire::small_server();
    let text =
        format!("[mcp.erlmcp]\nshared_memory.path = {store:?}\nstdio.command = {server:?}\n");
    std::fs::write(&config, text).unwrap();
    // Cargo builds it beside the server.
    let output = Command::new(server.with_file_name("tiers"))
        .arg(&config)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() > 2, "{text} {said}");
    assert!(
        lines[0].starts_with("L2: ") && lines[0].contains("hello"),
        "{text}"
    );
    // Its tools, by name.
    assert!(lines[1..].contains(&"echo"), "{text}");
}
