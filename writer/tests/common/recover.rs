// A writer started on whatever file there is. Shared by the tests and the fuzz targets.

use std::path::Path;
use std::time::Duration;

use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{WriteError, Writer};

use crate::support;

/// A live entry: kind, key, data, metadata, version, expiry.
type Entry = (Kind, Vec<u8>, Vec<u8>, Vec<u8>, u64, Option<u64>);

/// Says whether a writer came up on the file in `folder` that is made of `bytes`. Then what it kept is
/// sound, is what the next one keeps too, and can be added to.
pub fn recover(folder: &Path, bytes: &[u8]) -> bool {
    let path = folder.join("store.bin");
    support::save(&path, bytes);
    let writer = match open(&path) {
        Ok(writer) => writer,
        Err(error) => {
            let refused = matches!(
                error,
                WriteError::Corrupt(_) | WriteError::NotAStore | WriteError::Version(_)
            );
            assert!(refused, "{error:?}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "left as it was");
            return false;
        }
    };
    let first = entries(&path);
    if near_its_limit(&path) {
        return true;
    }
    drop(writer);

    let writer = open(&path).expect("what a writer left");
    assert_eq!(entries(&path), first);
    let newest = first.iter().map(|entry| entry.4).max().unwrap_or(0);
    let version = writer
        .put(Kind::Prompt, b"one more", b"{}", b"{}")
        .expect("room for one more");
    assert!(version > newest, "{version} after {newest}");
    for entry in &first {
        let gone = writer.delete(entry.0, &entry.1).expect("a delete");
        let replaced = (entry.0, &entry.1[..]) == (Kind::Prompt, b"one more");
        assert!(gone.is_some() || replaced);
    }
    let left = entries(&path);
    assert!(left.len() <= 1, "{left:?}");
    true
}

fn open(path: &Path) -> Result<Writer, WriteError> {
    let options = Writer::options().size(64 << 10).max_size(1 << 20);
    options.lock_wait(Duration::from_secs(1)).open(path)
}

/// Whether a counter was forged so that the next start may find it beyond all counting.
fn near_its_limit(path: &Path) -> bool {
    let reader = Reader::options().watcher(false).open(path).unwrap();
    let stats = reader.stats().unwrap();
    let counters = [
        stats.generation,
        stats.changes,
        stats.version,
        stats.puts,
        stats.deletes,
        stats.rollovers,
    ];
    counters.iter().any(|counter| *counter >= (1 << 62) - 1000)
}

/// Every entry, in order; the file is sound.
fn entries(path: &Path) -> Vec<Entry> {
    let reader = Reader::options().watcher(false).open(path).unwrap();
    let view = reader.view().unwrap();
    let verification = view.verify().unwrap();
    assert!(verification.is_sound(), "{verification:?}");
    let mut entries: Vec<Entry> = view
        .try_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.kind(),
                entry.key().to_vec(),
                entry.data().to_vec(),
                entry.metadata().to_vec(),
                entry.version(),
                entry.expires_at(),
            )
        })
        .collect();
    entries.sort();
    for entry in &entries {
        let found = view.get(entry.0, &entry.1).unwrap();
        assert_eq!(found.map(|found| found.version()), Some(entry.4));
    }
    entries
}
