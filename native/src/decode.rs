//! JSON text as Erlang terms.
//!
//! | JSON | term |
//! |---|---|
//! | object | map with binaries for keys; of two equal keys the last counts |
//! | array, string | list, binary |
//! | number | integer where it is one from -2^63 to 2^64-1, else float |
//! | `true`, `false`, `null` | the atoms |
//!
//! Text is read in one pass and nothing is kept of it, so terms never pin what a peer sent.

use std::fmt;

use rustler::{Binary, Encoder, Env, NewBinary, Term, schedule};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::atoms;
use crate::fail::{Fail, answer_with};
use crate::json;

/// Text that is read on a normal scheduler: at 5 to 10 ns a byte, well below 1 ms.
const NORMAL: usize = 32 << 10;

#[rustler::nif]
fn decode_json<'a>(env: Env<'a>, text: Term<'a>) -> Term<'a> {
    answer_with(env, decode(env, text, NORMAL))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn decode_json_dirty<'a>(env: Env<'a>, text: Term<'a>) -> Term<'a> {
    answer_with(env, decode(env, text, usize::MAX))
}

fn decode<'a>(env: Env<'a>, text: Term<'a>, limit: usize) -> Result<Term<'a>, Fail<'a>> {
    let not_json = || Fail::Reason(json::not_json(env, Vec::new()));
    let text = Binary::from_term(text).map_err(|_| not_json())?;
    if text.len() > limit {
        return Err(Fail::Busy);
    }
    schedule::consume_timeslice(env, (text.len() * 100 / NORMAL).clamp(1, 100) as i32);
    let mut parser = serde_json::Deserializer::from_slice(&text);
    let term = Value(env)
        .deserialize(&mut parser)
        .map_err(|_| not_json())?;
    parser.end().map_err(|_| not_json())?;
    Ok(term)
}

/// Any value. How deeply it may be nested is the parser's limit.
#[derive(Clone, Copy)]
struct Value<'a>(Env<'a>);

impl<'a, 'de> DeserializeSeed<'de> for Value<'a> {
    type Value = Term<'a>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Term<'a>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'a, 'de> Visitor<'de> for Value<'a> {
    type Value = Term<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Term<'a>, E> {
        Ok(atoms::null().to_term(self.0))
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Term<'a>, E> {
        Ok(yes.encode(self.0))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Term<'a>, E> {
        Ok(n.encode(self.0))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Term<'a>, E> {
        Ok(n.encode(self.0))
    }

    fn visit_f64<E>(self, x: f64) -> Result<Term<'a>, E> {
        Ok(x.encode(self.0))
    }

    fn visit_str<E>(self, text: &str) -> Result<Term<'a>, E> {
        Ok(NewBinary::from_slice(self.0, text.as_bytes()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Term<'a>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(items.encode(self.0))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Term<'a>, A::Error> {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        while let Some(key) = map.next_key_seed(self)? {
            keys.push(key);
            values.push(map.next_value_seed(self)?);
        }
        if let Ok(term) = Term::map_from_term_arrays(self.0, &keys, &values) {
            return Ok(term);
        }
        // Keys that are equal.
        let pairs = keys.into_iter().zip(values);
        pairs
            .into_iter()
            .try_fold(Term::map_new(self.0), |map, (key, value)| {
                map.map_put(key, value)
            })
            .map_err(|_| serde::de::Error::custom("no map"))
    }
}
