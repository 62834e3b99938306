//! The README's program is the example `lookup`, and it works.

use std::path::Path;
use std::process::Command;

use erlmcp_shm_writer::{Kind, Writer};

fn root(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_readme_shows_the_example_that_is_built() {
    let readme = root("README.md");
    let (_, rest) = readme.split_once("```rust\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let example = root("reader/examples/lookup.rs");
    let (_, built) = example.split_once("\n\n").unwrap();
    assert_eq!(shown, built);
}

#[test]
fn the_example_reads_what_is_published() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let writer = Writer::options().open(&path).unwrap();
    writer.put(Kind::ToolSchema, b"add", b"{}", b"{}").unwrap();
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", env!("CARGO_PKG_NAME")])
        .args(["--example", "lookup", "--"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "tool add\n2 bytes, not copied\n");
}
