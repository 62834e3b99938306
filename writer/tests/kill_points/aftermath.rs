//! What must hold once the writer was killed, for readers from before and after, and for the next writer.

use std::path::Path;

use erlmcp_shm_reader::{ReadError, Reader};

use super::common::{KIND, key, payload};
use super::contents::Contents;
use super::operations::options;

/// A reader without a thread of its own: what it knows, it knows from its lookups.
pub fn reader(path: &Path) -> Reader {
    let options = Reader::options().watcher(false).allow_absent(true);
    options.open(path).unwrap()
}

/// Looks at everything that a writer left which was killed when the store could hold one of `candidates`;
/// `early` is a reader from before.
pub fn examine(path: &Path, early: &Reader, candidates: &[Contents]) {
    let late = reader(path);
    let seen = position(early, candidates);
    let seen = position(&late, candidates).max(seen);
    for reader in [early, &late] {
        assert_sound(reader);
    }
    // No waiting for a lock: the dead process has let go of it.
    let writer = options().open(path).unwrap();
    assert_eq!(writer.stats().damaged, 0);
    assert_eq!(names(path), ["store", "store.lock"], "strays are gone");
    let kept = position(&late, candidates);
    assert!(kept >= seen, "what was seen ({seen}) is kept ({kept})");
    assert_eq!(position(early, candidates), kept);
    // It works, and readers of every age follow.
    let mut contents = candidates[kept].clone();
    let highest = highest(candidates);
    let data = payload(99, 1, 64);
    let version = writer.put(KIND, &key(99), &data, b"{}").unwrap();
    assert!(version > contents.version && version <= highest + 1);
    let added = (version, data, b"{}".to_vec());
    contents.entries.insert(key(99), added);
    for compacted in [false, true] {
        if compacted {
            writer.compact().unwrap();
        }
        for reader in [early, &late] {
            assert_eq!(Contents::of(reader).unwrap().entries, contents.entries);
            assert_sound(reader);
        }
    }
    assert!(
        writer
            .put(KIND, &key(0), &payload(0, 99, 64), b"{}")
            .unwrap()
            > version
    );
    writer.close();
    assert_eq!(names(path), ["store", "store.lock"]);
}

/// The highest version that can have been given out.
fn highest(candidates: &[Contents]) -> u64 {
    candidates.iter().map(|c| c.version).max().unwrap()
}

/// Which of the candidates the store holds: anything else is torn, lost, or come back.
fn position(reader: &Reader, candidates: &[Contents]) -> usize {
    let found = contents(reader);
    // The last of equals, so that what is kept does not seem older than what was seen.
    let position = candidates
        .iter()
        .rposition(|candidate| candidate.entries == found.entries);
    position.unwrap_or_else(|| panic!("{found:#?}\nis none of {candidates:#?}"))
}

/// What a reader sees; nothing where there is no store yet.
pub fn contents(reader: &Reader) -> Contents {
    match Contents::of(reader) {
        Err(ReadError::NotFound) => Contents::default(),
        contents => contents.unwrap(),
    }
}

fn assert_sound(reader: &Reader) {
    match reader.verify() {
        Err(ReadError::NotFound) => {}
        found => assert_eq!(found.unwrap().damaged, []),
    }
}

/// The files beside a store, itself included.
pub fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
