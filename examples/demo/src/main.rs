//! The reading half of the demo: a process that shares nothing with the publishing node but the file.
//!
//! It looks every entry up, compares it with its source, says what a lookup costs, and asks the node
//! to publish a resource again and again to see each version at its very next lookup.
//!
//! Arguments: the store, the root of the repository, the list of its files (each name followed by a
//! NUL), the node's manifest. Stdin and stdout are the node's stdout and stdin; the report goes to
//! stderr.

#![forbid(unsafe_code)]

mod check;
mod cost;
mod manifest;
mod node;

use erlmcp_shm_reader::{Kind, Reader};
use node::Node;
use std::path::PathBuf;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match demo() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn demo() -> Result<()> {
    let args: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [store, root, files, manifest] = &args[..] else {
        return Err("started by scripts/demo.sh, not by hand".into());
    };
    let mut node = Node::wait_until_ready()?;
    eprintln!(
        "published      {} entries in {:.1} ms by an Erlang node (OTP {}, process {})",
        grouped(node.entries),
        node.micros / 1000.0,
        node.otp,
        node.pid
    );

    let reader = Reader::open(store)?;
    let files = check::files(&reader, root, files)?;
    let expected = manifest::read(manifest)?;
    let found = check::entries(&reader, &expected)?;
    let count = |kind| found.iter().filter(|entry| entry.kind == kind).count();
    if count(Kind::Resource) != files.count || found.len() != node.entries {
        return Err("the node published other resources than the files".into());
    }
    eprintln!(
        "read and checked by another process ({}):",
        std::process::id()
    );
    eprintln!(
        "  resources    {:>5} files of this repository, {} bytes, each as it is in the file system",
        grouped(files.count),
        grouped(files.bytes)
    );
    eprintln!(
        "  tool schemas {:>5}: {}",
        count(Kind::ToolSchema),
        check::schema_sizes(&found)
    );
    eprintln!(
        "  prompts      {:>5}\n  capabilities {:>5}",
        count(Kind::Prompt),
        count(Kind::Capability)
    );
    let bytes: usize = found
        .iter()
        .map(|entry| entry.data_len + entry.metadata_len)
        .sum();
    eprintln!(
        "  in all       {:>5}, {} bytes of data and metadata; nothing missing, nothing more, \
         every checksum right",
        found.len(),
        grouped(bytes)
    );

    let updates = check::updates(&reader, &mut node)?;
    eprintln!("  updates      {updates:>5}, each seen by the first lookup after the node's answer");
    cost::report(&reader, &expected)
}

/// A number with a comma between groups of three digits.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
