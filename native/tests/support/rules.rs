// What the scanner says of a text, against what serde_json makes of it. Shared by the tests and the fuzz
// targets.

use crate::text::{MAX_DEPTH, Seen, scan};
use erlmcp_shm_writer::{Attributes, Scope};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The two meaningful keys, as serde's own rules would take them: each once, in either spelling.
#[derive(Deserialize)]
struct Meaningful {
    #[serde(default, alias = "ttlMs", deserialize_with = "present")]
    ttl_ms: Option<u64>,
    #[serde(default, alias = "cacheScope", deserialize_with = "present")]
    cache_scope: Option<String>,
}

/// A value that is there: `null` is not an absent one.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn depth(value: &Value) -> usize {
    let inside = match value {
        Value::Array(values) => values.iter().map(depth).max(),
        Value::Object(values) => values.values().map(depth).max(),
        _ => return 0,
    };
    1 + inside.unwrap_or(0)
}

/// Whether `text` passes; that it does so rightly is checked.
pub fn check(text: &[u8]) -> bool {
    let seen = scan(text);
    let Ok(value) = serde_json::from_slice::<Value>(text) else {
        assert_eq!(seen, None);
        return false;
    };
    // Of an object's values with one key, the value holds the last one only.
    if depth(&value) > usize::from(MAX_DEPTH) {
        assert_eq!(seen, None);
    }
    let Some(seen) = seen else {
        let nested = text.iter().filter(|c| matches!(c, b'[' | b'{')).count();
        assert!(nested > usize::from(MAX_DEPTH), "JSON was refused");
        return false;
    };
    match (&value, seen) {
        (Value::Object(_), Seen::Object(special)) => {
            let meaningful = serde_json::from_slice::<Meaningful>(text).ok();
            assert_eq!(special.attributes(|| 9).ok(), meaningful.and_then(expected));
        }
        (Value::Number(n), Seen::Unsigned(unsigned)) => assert_eq!(n.as_u64(), Some(unsigned)),
        (Value::Number(n), Seen::Other) => assert_eq!(n.as_u64(), None),
        (Value::String(text), seen) => assert_eq!(seen, Seen::text(text)),
        (Value::Null | Value::Bool(_) | Value::Array(_), Seen::Other) => {}
        (value, seen) => panic!("{value} is {seen:?}"),
    }
    true
}

fn expected(meaningful: Meaningful) -> Option<Attributes> {
    let ns = |ms: u64| 9u64.saturating_add(ms.saturating_mul(1_000_000));
    let scope = match meaningful.cache_scope.as_deref() {
        None => Scope::default(),
        Some("public") => Scope::Public,
        Some("private") => Scope::Private,
        Some(_) => return None,
    };
    Some(Attributes {
        expires_at: meaningful.ttl_ms.map_or(0, ns),
        scope,
    })
}
