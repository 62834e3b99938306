//! What a store holds, as a reader sees it and as it should be.

use std::collections::BTreeMap;

use erlmcp_shm_reader::{ReadError, Reader};
use erlmcp_shm_writer::Recover;

use super::operations::{Action, Change};

/// All that a reader sees: by key the version, data and metadata; and the highest version given out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub entries: BTreeMap<Vec<u8>, (u64, Vec<u8>, Vec<u8>)>,
    pub version: u64,
}

impl Contents {
    pub fn of(reader: &Reader) -> Result<Self, ReadError> {
        let view = reader.view()?;
        let mut entries = BTreeMap::new();
        for entry in view.try_iter() {
            let entry = entry?;
            let parts = (
                entry.version(),
                entry.data().to_vec(),
                entry.metadata().to_vec(),
            );
            let found = view
                .get(entry.kind(), entry.key())?
                .map(|found| found.version());
            assert_eq!(
                found,
                Some(entry.version()),
                "a lookup finds what iter does"
            );
            entries.insert(entry.key().to_vec(), parts);
        }
        let version = reader.stats()?.version;
        Ok(Self { entries, version })
    }

    pub fn change(&mut self, change: &Change) {
        self.version += 1;
        match change.parts() {
            (key, Some(data)) => {
                let entry = (self.version, data, b"{}".to_vec());
                self.entries.insert(key, entry);
            }
            (key, None) => {
                self.entries.remove(&key);
            }
        }
    }

    /// This, and what it becomes with each change that the action makes.
    pub fn all_after(&self, action: &Action) -> Vec<Self> {
        let mut all = vec![self.clone()];
        match action {
            Action::Change(changes) => {
                for change in *changes {
                    let mut next = all.last().unwrap().clone();
                    next.change(change);
                    all.push(next);
                }
            }
            Action::Open(Recover::Clear) => all.push(Self {
                entries: BTreeMap::new(),
                version: self.version,
            }),
            Action::Open(Recover::Keep) | Action::Compact | Action::Close => {}
        }
        all
    }
}
