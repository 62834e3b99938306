//! What makes a kept answer go: the server's word, and calls of tools.

use super::flights::What;
use super::{Change, Inner};
use crate::Notice;
use crate::config::Pattern;
use erlmcp_shm_reader::Kind;
use std::sync::atomic::Ordering;

impl Inner {
    pub(super) fn epoch(&self) -> u64 {
        // Acquire, pairs with the Release below: an answer that was asked for in this epoch is asked for after what
        // began it.
        self.epoch.load(Ordering::Acquire)
    }

    /// Before anything is removed: what was asked for until now is not kept any more.
    fn begin_epoch(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn heard(&self, notice: Notice) {
        self.begin_epoch();
        let cache = &self.near.cache;
        match &notice {
            Notice::ResourceUpdated(uri) => cache.remove(Kind::Resource, uri),
            Notice::ResourcesChanged => {
                let mut lists = self.lists.lock();
                lists.remove(&What::Resources);
                lists.remove(&What::ResourceTemplates);
            }
            Notice::ToolsChanged => drop(self.lists.lock().remove(&What::Tools)),
            Notice::PromptsChanged => {
                self.lists.lock().remove(&What::Prompts);
                cache.remove_where(|kind, _| kind == Kind::Prompt);
            }
            Notice::Gap => {
                self.lists.lock().clear();
                cache.expire_upstream();
            }
        }
        let _ = self.changes.send(Change::Server(notice));
    }

    /// What a call of this tool invalidates.
    pub(super) fn invalidated_by(&self, tool: &str) -> Vec<Pattern> {
        self.options.invalidate.by(tool).cloned().collect()
    }

    /// After a call: what it changed leaves the first tier, and shared memory has to show something newer.
    pub(super) fn invalidate(&self, patterns: &[Pattern], over: u64) {
        if patterns.is_empty() {
            return;
        }
        self.holds.add(patterns, over, self.options.l2_ttl);
        self.begin_epoch();
        // They say of things what the call may have changed, and which there are.
        self.lists.lock().clear();
        let matches = |key: &str| patterns.iter().any(|pattern| pattern.matches(key));
        let unwanted = |key: &[u8]| std::str::from_utf8(key).is_ok_and(matches);
        self.near.cache.remove_where(|_, key| unwanted(key));
    }
}
