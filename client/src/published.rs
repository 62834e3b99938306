//! What a store says as a whole: whether its writer lives, what it has all of, and its lists.

use crate::object::{self, Object};
use erlmcp_shm_reader::{Kind, ReadError, Reader, Scope, View};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;
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
#[derive(Debug)]
pub(crate) struct List {
    pub object: Arc<Object>,
    /// Whether nothing was left out: nothing that had expired, was somebody else's, or could not be read.
    pub whole: bool,
    /// Whether nothing of it expires, so that only a publish makes it another.
    lasting: bool,
}

/// Lists for one reader of the store: each is made once, and made anew when something was published since.
#[derive(Debug)]
pub(crate) struct Lists {
    /// Whose private entries are listed, if any are.
    partition: Option<String>,
    /// By kind, with the change counter from before it was made.
    made: Mutex<HashMap<Kind, (u64, Arc<List>)>>,
}

impl Lists {
    /// Lists for a client of this partition; for one of none, nothing private.
    pub fn new(partition: Option<String>) -> Self {
        let made = Mutex::default();
        Self { partition, made }
    }

    /// What is published of a kind.
    pub fn get(&self, reader: &Reader, kind: Kind) -> Result<Arc<List>, ReadError> {
        // Before the walk: a publish that this misses moves the counter away from what is noted here, for the
        // writer moves it afterwards.
        let changes = reader.changes()?;
        if let Some((then, list)) = self.made.lock().get(&kind)
            && *then == changes
        {
            return Ok(Arc::clone(list));
        }
        let list = Arc::new(list(&reader.view()?, kind, self.partition.as_deref()));
        if list.lasting {
            let kept = (changes, Arc::clone(&list));
            self.made.lock().insert(kind, kept);
        }
        Ok(list)
    }
}

/// Lists a kind of entries.
fn list(view: &View, kind: Kind, partition: Option<&str>) -> List {
    let (mut tools, mut prompts, mut resources) = (vec![], vec![], vec![]);
    let (mut whole, mut lasting) = (true, true);
    for entry in view.try_iter() {
        // One that nothing can be made of does not hide the others.
        let Ok(entry) = entry else {
            (whole, lasting) = (false, false);
            continue;
        };
        if entry.kind() != kind {
            continue;
        }
        lasting &= entry.expires_at().is_none();
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
    List {
        object: Arc::new(object),
        whole,
        lasting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use erlmcp_shm_writer::{Attributes, Writer};

    #[test]
    fn a_list_is_made_once_for_as_long_as_nothing_is_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.bin");
        let writer = Writer::options().size(1 << 20).open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        let lists = Lists::new(None);
        let tools = || lists.get(&reader, Kind::ToolSchema).unwrap();
        let names = |list: &List| match &*list.object {
            Object::Tools(tools) => tools.iter().map(|tool| tool.name.to_string()).collect(),
            other => panic!("{other:?}"),
        };
        let put = |key: &str| {
            let put = writer.put(Kind::ToolSchema, key.as_bytes(), b"{}", b"{}");
            put.unwrap();
        };
        let none: Vec<String> = names(&tools());
        assert!(none.is_empty());
        put("b");
        let one = tools();
        assert_eq!(names(&one), ["b"]);
        assert!(Arc::ptr_eq(&one, &tools()), "it was made again");
        // Of another kind, and of this one: each publish may have changed it.
        put("a");
        assert_eq!(names(&tools()), ["a", "b"]);
        writer.delete(Kind::ToolSchema, b"b").unwrap();
        assert_eq!(names(&tools()), ["a"]);
        writer.compact().unwrap();
        assert_eq!(names(&tools()), ["a"]);
    }

    #[test]
    fn a_list_of_what_expires_is_made_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.bin");
        let writer = Writer::options().size(1 << 20).open(&path).unwrap();
        let reader = Reader::open(&path).unwrap();
        let clock = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let soon = clock.tv_sec as u64 * 1_000_000_000 + clock.tv_nsec as u64 + 200_000_000;
        let attributes = Attributes {
            expires_at: soon,
            ..Attributes::default()
        };
        let put = writer.put_with(Kind::ToolSchema, b"a", b"{}", b"{}", attributes);
        put.unwrap();
        let lists = Lists::new(None);
        let first = lists.get(&reader, Kind::ToolSchema).unwrap();
        std::thread::sleep(Duration::from_millis(250));
        let second = lists.get(&reader, Kind::ToolSchema).unwrap();
        assert!(!second.whole && !Arc::ptr_eq(&first, &second));
    }
}
