//! JSON text that came ready-made: is it JSON, and what do its two meaningful keys say?
//!
//! Nothing here knows the BEAM. Text passes if a parser of ordinary strictness can read it: UTF-8,
//! one document, no lone surrogate in an escape, no number beyond a float, and no more than
//! [`MAX_DEPTH`] levels. It is never re-serialised.

use std::fmt;

use erlmcp_shm_writer::{Attributes, Scope};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How many arrays and objects may stand inside each other. Common parsers stop at 128; the rest is
/// for the MCP messages in which these documents travel.
pub(crate) const MAX_DEPTH: u8 = 120;

/// What [`scan`] found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A number that is a whole one and not negative.
    Unsigned(u64),
    /// One of the two strings `public` and `private`.
    Scope(Scope),
    /// An object, with what its meaningful keys said.
    Object(Special),
    /// Any other value.
    Other,
}

impl Seen {
    /// What a string means.
    pub(crate) fn text(text: &str) -> Self {
        match text {
            "public" => Seen::Scope(Scope::Public),
            "private" => Seen::Scope(Scope::Private),
            _ => Seen::Other,
        }
    }
}

/// The keys of metadata that set a record's expiry and scope; each once, in either spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Special {
    ttl_ms: Field<u64>,
    cache_scope: Field<Scope>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Field<T> {
    #[default]
    Absent,
    Is(T),
    /// Of the wrong type, or given twice.
    Wrong,
}

impl<T> Field<T> {
    fn set(&mut self, value: Option<T>) {
        *self = match (&self, value) {
            (Field::Absent, Some(value)) => Field::Is(value),
            _ => Field::Wrong,
        };
    }
}

/// The name of a meaningful key whose value has the wrong type, or that was given twice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum BadMetadata {
    TtlMs,
    CacheScope,
}

impl Special {
    /// Takes note of a key and its value, if it is one of the two.
    pub(crate) fn note(&mut self, key: Key, value: impl FnOnce() -> Seen) {
        match key {
            Key::Other => {}
            Key::TtlMs => self.ttl_ms.set(match value() {
                Seen::Unsigned(ms) => Some(ms),
                _ => None,
            }),
            Key::CacheScope => self.cache_scope.set(match value() {
                Seen::Scope(scope) => Some(scope),
                _ => None,
            }),
        }
    }

    /// Expiry and scope. `now` is asked for CLOCK_BOOTTIME in ns only where there is a ttl.
    pub(crate) fn attributes(self, now: impl FnOnce() -> u64) -> Result<Attributes, BadMetadata> {
        let expires_at = match self.ttl_ms {
            Field::Absent => 0,
            // An expiry of 0 would mean never.
            Field::Is(ms) => now().saturating_add(ms.saturating_mul(1_000_000)).max(1),
            Field::Wrong => return Err(BadMetadata::TtlMs),
        };
        let scope = match self.cache_scope {
            Field::Absent => Scope::default(),
            Field::Is(scope) => scope,
            Field::Wrong => return Err(BadMetadata::CacheScope),
        };
        Ok(Attributes { expires_at, scope })
    }
}

/// A key of an object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Key {
    TtlMs,
    CacheScope,
    Other,
}

impl Key {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "ttl_ms" | "ttlMs" => Key::TtlMs,
            "cache_scope" | "cacheScope" => Key::CacheScope,
            _ => Key::Other,
        }
    }
}

/// What `text` is, or `None` if it is not one JSON document.
pub(crate) fn scan(text: &[u8]) -> Option<Seen> {
    scan_within(text, MAX_DEPTH)
}

/// The same, with room for so many levels.
pub(crate) fn scan_within(text: &[u8], room: u8) -> Option<Seen> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let seen = Value { room }.deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(seen)
}

/// Any value, with room for so many levels inside it.
#[derive(Clone, Copy)]
struct Value {
    room: u8,
}

impl Value {
    fn inside<E: Error>(self) -> Result<Self, E> {
        match self.room.checked_sub(1) {
            Some(room) => Ok(Value { room }),
            None => Err(E::custom("too many levels")),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Seen;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Seen, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_u64<E>(self, n: u64) -> Result<Seen, E> {
        Ok(Seen::Unsigned(n))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen, E> {
        Ok(Seen::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen, E> {
        Ok(Seen::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Seen, A::Error> {
        let inside = self.inside()?;
        while seq.next_element_seed(inside)?.is_some() {}
        Ok(Seen::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let inside = self.inside()?;
        let mut special = Special::default();
        while let Some(key) = map.next_key_seed(AnyKey)? {
            let value = map.next_value_seed(inside)?;
            special.note(key, || value);
        }
        Ok(Seen::Object(special))
    }
}

struct AnyKey;

impl<'de> DeserializeSeed<'de> for AnyKey {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Key, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for AnyKey {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(Key::of(name))
    }
}
