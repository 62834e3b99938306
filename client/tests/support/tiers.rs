//! Shared memory with something in it, and what a read through the tiers answers.

use erlmcp_shm_client::{HybridClient, Options, Tier};
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Writer;
use rmcp::model::{ReadResourceResult, ResourceContents};
use std::time::Duration;

pub const URI: &str = "file:///a.txt";
const LONG: Duration = Duration::from_secs(600);

/// A store with its writer, and a reader of it.
pub struct Store {
    _folder: tempfile::TempDir,
    pub writer: Writer,
    pub shm: Reader,
}

pub fn store() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.bin");
    let writer = Writer::options().size(1 << 20).open(&path).unwrap();
    writer.heartbeat().unwrap();
    let interval = Duration::from_millis(20);
    let shm = Reader::options()
        .refresh_interval(interval)
        .open(&path)
        .unwrap();
    Store {
        _folder: folder,
        writer,
        shm,
    }
}

impl Store {
    pub fn put(&self, kind: Kind, key: &str, data: &str, metadata: &str) -> u64 {
        let put = self
            .writer
            .put(kind, key.as_bytes(), data.as_bytes(), metadata.as_bytes());
        put.unwrap()
    }
}

pub fn options() -> Options {
    Options {
        l1_ttl: LONG,
        l2_ttl: LONG,
        ..Options::default()
    }
}

pub fn text(result: &ReadResourceResult) -> &str {
    match &result.contents[0] {
        ResourceContents::TextResourceContents { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

/// What a read of a resource answers: its text and tier.
pub async fn read(client: &HybridClient, uri: &str) -> (String, Tier) {
    let answer = client.read_resource(uri).await.unwrap();
    (text(&answer).to_owned(), answer.tier())
}

pub fn said(text: &str, tier: Tier) -> (String, Tier) {
    (text.to_owned(), tier)
}
