//! What a store says as a whole: whether its writer lives, what it has all of, and its lists.

use crate::object::{self, Object};
use erlmcp_shm_reader::{Kind, Reader, Scope, View};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Hears whether the writer lives.
#[derive(Debug)]
pub(crate) struct Pulse {
    opened: Instant,
    /// The heartbeat's age when the store was opened: the watcher knows it only a little later.
    age_when_opened: Option<Duration>,
}

impl Pulse {
    pub fn of(reader: &Reader) -> Self {
        Self {
            opened: Instant::now(),
            age_when_opened: reader.liveness().heartbeat_age,
        }
    }

    /// How long the writer has been silent, if that is longer than it may be.
    #[inline]
    pub fn silent(&self, reader: &Reader, ttl: Duration) -> Option<Duration> {
        let age = reader.heartbeat_seen();
        let age = age.or_else(|| Some(self.age_when_opened? + self.opened.elapsed()));
        age.filter(|age| *age > ttl)
    }
}

/// The server's promise that the store has every resource, tool or prompt of its: `"complete": true` in the metadata
/// of the entry for that capability. Gives the `ttlMs` of the list; `None` where nothing is promised.
pub(crate) fn complete(view: &View, kind: Kind) -> Option<u64> {
    let name = match kind {
        Kind::Resource => "resources",
        Kind::ToolSchema => "tools",
        Kind::Prompt => "prompts",
        Kind::Capability => return None,
    };
    let entry = view.get(Kind::Capability, name).ok()??;
    if entry.is_expired() || entry.scope() == Scope::Private {
        return None;
    }
    let metadata = serde_json::from_slice::<object::Json>(entry.metadata()).ok()?;
    let ttl = ["ttl_ms", "ttlMs"].map(|key| metadata.get(key).and_then(Value::as_u64));
    let promised = metadata.get("complete") == Some(&Value::Bool(true));
    promised.then(|| ttl[0].or(ttl[1]).unwrap_or(object::DEFAULT_TTL_MS))
}

/// What is published of one kind, by key.
pub(crate) struct List {
    pub object: Object,
    /// Whether nothing was left out: nothing that had expired, was somebody else's, or could not be read.
    pub whole: bool,
}

/// Lists a kind of entries, to a client of this partition; to one of none, nothing private.
pub(crate) fn list(view: &View, kind: Kind, partition: Option<&str>) -> List {
    let (mut tools, mut prompts, mut resources) = (vec![], vec![], vec![]);
    let mut whole = true;
    for entry in view.try_iter() {
        // One that nothing can be made of does not hide the others.
        let Ok(entry) = entry else {
            whole = false;
            continue;
        };
        if entry.kind() != kind {
            continue;
        }
        let foreign = entry.scope() == Scope::Private && partition.is_none();
        if foreign || entry.is_expired() {
            whole = false;
            continue;
        }
        let partition = partition.unwrap_or_default();
        if kind == Kind::Resource {
            match object::listed(&entry, partition) {
                Ok(Some(resource)) => resources.push(resource),
                _ => whole = false,
            }
            continue;
        }
        match object::decode(&entry, partition) {
            Ok(Object::Tool(tool)) => tools.push(tool),
            Ok(Object::Template(template)) => prompts.push(template.prompt),
            _ => whole = false,
        }
    }
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    prompts.sort_by(|a, b| a.name.cmp(&b.name));
    resources.sort_by(|a, b| a.uri.cmp(&b.uri));
    let object = match kind {
        Kind::ToolSchema => Object::Tools(tools),
        Kind::Prompt => Object::Prompts(prompts),
        _ => Object::Resources(resources),
    };
    List { object, whole }
}
