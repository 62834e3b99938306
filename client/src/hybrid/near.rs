//! The first two tiers: what this process keeps, and shared memory below it if there is any.

use super::flights::What;
use super::request::tool_of;
use super::{Inner, Options};
use crate::ClientError;
use crate::answer::{Answer, Part, Passed, Tier};
use crate::object::{self, Object};
use crate::published::{Lists, Pulse};
use erlmcp_shm_reader::l1::{self, Cache, CacheError, CacheOptions, Cached};
use erlmcp_shm_reader::{Kind, Reader};
use rmcp::model::Tool;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
pub(super) struct Near {
    pub cache: Cache<Object>,
    /// What is published, by kind.
    pub lists: Lists,
    /// Of the writer of shared memory.
    pulse: Option<Pulse>,
}

/// What these tiers have for a key.
pub(super) enum Local {
    Found(Arc<Object>, Tier, Option<u64>),
    Nothing,
    Passed(Passed, ClientError),
}

impl Near {
    pub fn new(reader: Option<&Reader>, options: &Options) -> Self {
        let bounds = CacheOptions::default().max_bytes(options.l1_bytes);
        let partition = options.partition.clone();
        Self {
            cache: match reader {
                Some(reader) => Cache::new(reader, bounds, move |entry| {
                    object::decode(entry, &partition)
                }),
                None => Cache::without_store(bounds),
            },
            lists: Lists::new(Some(options.partition.clone())),
            pulse: reader.map(Pulse::of),
        }
    }

    /// The reader of shared memory, if there is any.
    pub fn reader(&self) -> Option<&Reader> {
        self.cache.reader()
    }

    /// How long the writer has been silent, if that is longer than it may be.
    #[inline]
    pub fn silent(&self, ttl: Duration) -> Option<Duration> {
        self.pulse.as_ref()?.silent(self.reader()?, ttl)
    }
}

impl Inner {
    /// Asks these tiers.
    #[inline]
    pub(super) fn local(&self, kind: Kind, key: &str) -> Local {
        let silent = self.near.silent(self.options.l2_ttl);
        let over = self.holds.over(key);
        let may_be_given = |found: &Cached<Object>| {
            (found.is_upstream() || (silent.is_none() && found.version() > over))
                && found.is_answer()
        };
        match self.near.cache.get(kind, key) {
            Ok(Some(found)) if may_be_given(&found) => {
                let tier = match found.tier() {
                    l1::Tier::L1 => Tier::L1,
                    l1::Tier::L2 => Tier::L2,
                };
                let version = (!found.is_upstream()).then_some(found.version());
                Local::Found(found.into_value(), tier, version)
            }
            found => self.unusable(kind, key, found, silent),
        }
    }

    /// Their answer, if they have one that may be given.
    #[inline]
    pub(super) fn near_answer<T: Part>(&self, kind: Kind, key: &str) -> Option<Answer<T>> {
        match self.local(kind, key) {
            Local::Found(object, tier, version) => Answer::of_version(object, tier, version),
            Local::Nothing | Local::Passed(..) => None,
        }
    }

    /// A tool of the list that the server gave a moment ago.
    #[cold]
    pub(super) fn listed_tool(&self, name: &str) -> Option<Answer<Tool>> {
        let tools = self.listed(&What::Tools)?;
        tool_of(&Answer::new(tools, Tier::L1)?, name)
    }

    /// Why there is no answer that may be given.
    #[cold]
    #[inline(never)]
    fn unusable(
        &self,
        kind: Kind,
        key: &str,
        found: Result<Option<Cached<Object>>, CacheError>,
        silent: Option<Duration>,
    ) -> Local {
        match found {
            Ok(None) => Local::Nothing,
            Ok(Some(found)) => {
                self.figures.rejected(found.tier());
                if !found.is_answer() {
                    return Local::Nothing;
                }
                if let Some(silent) = silent {
                    return Local::Passed(Passed::Silent, ClientError::Silent(silent));
                }
                let key = key.to_owned();
                Local::Passed(Passed::Invalidated, ClientError::NotFound { kind, key })
            }
            Err(CacheError::Read(error)) => {
                let why = Passed::Unreadable(error.to_string());
                Local::Passed(why, ClientError::Shared(error))
            }
            Err(error) => {
                let what = error.to_string();
                tracing::warn!(key, %error, "an entry that MCP cannot make anything of");
                let why = Passed::Unreadable(what.clone());
                Local::Passed(why, ClientError::Undecodable(what))
            }
        }
    }
}
