//! The JSON documents of an entry: a map that becomes text, or text in `{json, Bin}`.

use std::borrow::Cow;

use erlmcp_shm_writer::{Attributes, Kind, boottime_now};
use rustler::{Atom, Binary, Env, NewBinary, Term};

use crate::atoms;
use crate::fail::Fail;
use crate::json::{self, Limits, Stop, ready_made};
use crate::text::{self, Seen, Special};

/// How much may be done in one call, and what more than that is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounds {
    /// On a normal scheduler, where a call has to end well within 1 ms: more is `busy`.
    Normal,
    /// On a dirty one: documents beyond what the store could hold are `too_large`.
    Dirty { bytes: usize },
}

impl Bounds {
    /// Data or metadata of a record: copied, checksummed, and during a build copied once more, that is
    /// 0.1 ms.
    const PART: usize = 256 << 10;
    /// JSON text, at 1 to 2 ns a byte.
    const TEXT: usize = 64 << 10;
    /// Terms that become JSON, at 30 to 100 ns each.
    const TERMS: usize = 2048;

    fn limits(self) -> Limits {
        match self {
            Bounds::Normal => Limits {
                terms: Self::TERMS,
                bytes: Self::TEXT,
            },
            Bounds::Dirty { bytes } => Limits {
                terms: usize::MAX,
                bytes,
            },
        }
    }

    fn beyond<'a>(self, env: Env<'a>) -> Fail<'a> {
        match self {
            Bounds::Normal => Fail::Busy,
            Bounds::Dirty { .. } => Fail::atom(env, atoms::too_large()),
        }
    }

    /// Whether data or metadata of so many bytes may be written here.
    pub(crate) fn check<'a>(self, env: Env<'a>, part: &[u8]) -> Result<(), Fail<'a>> {
        match self {
            Bounds::Normal if part.len() > Self::PART => Err(self.beyond(env)),
            _ => Ok(()),
        }
    }
}

/// What a document has to be.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Object,
    Any,
}

/// The data of an entry: bytes for a resource, JSON text for the other kinds.
pub(crate) fn data<'a>(
    env: Env<'a>,
    kind: Kind,
    term: Term<'a>,
    bounds: Bounds,
) -> Result<Cow<'a, [u8]>, Fail<'a>> {
    let shape = match kind {
        Kind::Resource => {
            let bytes = Binary::from_term(term).map_err(|_| Fail::badarg(env, atoms::data()))?;
            return Ok(Cow::Borrowed(bytes.as_slice()));
        }
        Kind::ToolSchema | Kind::Prompt => Shape::Object,
        Kind::Capability => Shape::Any,
    };
    document(env, term, atoms::data(), shape, bounds).map(|(text, _)| text)
}

/// The metadata of an entry, with the expiry and scope that it asks for.
pub(crate) fn metadata<'a>(
    env: Env<'a>,
    term: Term<'a>,
    bounds: Bounds,
) -> Result<(Cow<'a, [u8]>, Attributes), Fail<'a>> {
    let (text, special) = document(env, term, atoms::metadata(), Shape::Object, bounds)?;
    let attributes = special
        .attributes(boottime_now)
        .map_err(|bad| Fail::bad_metadata(env, bad))?;
    Ok((text, attributes))
}

fn document<'a>(
    env: Env<'a>,
    term: Term<'a>,
    what: Atom,
    shape: Shape,
    bounds: Bounds,
) -> Result<(Cow<'a, [u8]>, Special), Fail<'a>> {
    if let Ok(size) = term.map_size() {
        if size == 0 {
            return Ok((Cow::Borrowed(b"{}"), Special::default()));
        }
        let (text, special) =
            json::encode(term, bounds.limits()).map_err(|stop| stopped(env, stop, bounds))?;
        return Ok((Cow::Owned(text), special));
    }
    let text = ready_made(term)
        .ok_or_else(|| Fail::badarg(env, what))?
        .as_slice();
    if text.len() > bounds.limits().bytes {
        return Err(bounds.beyond(env));
    }
    match text::scan(text) {
        Some(Seen::Object(special)) => Ok((Cow::Borrowed(text), special)),
        Some(_) if shape == Shape::Any => Ok((Cow::Borrowed(text), Special::default())),
        _ => Err(Fail::Reason(json::not_json(env, Vec::new()))),
    }
}

/// Any term as JSON text, `{json, Bin}` as well: what `encode_json/1` does.
pub(crate) fn encode<'a>(env: Env<'a>, term: Term<'a>) -> Result<Term<'a>, Fail<'a>> {
    if ready_made(term).is_some() {
        return validate(env, term);
    }
    let bounds = Bounds::Dirty { bytes: 256 << 20 };
    match json::encode(term, bounds.limits()) {
        Ok((text, _)) => Ok(NewBinary::from_slice(env, &text).into()),
        Err(stop) => Err(stopped(env, stop, bounds)),
    }
}

/// A binary, as such or in `{json, Bin}`, if it is JSON: what `validate_json/1` does.
pub(crate) fn validate<'a>(env: Env<'a>, term: Term<'a>) -> Result<Term<'a>, Fail<'a>> {
    match Binary::from_term(term).ok().or_else(|| ready_made(term)) {
        Some(text) if text::scan(&text).is_some() => Ok(text.into()),
        _ => Err(Fail::Reason(json::not_json(env, Vec::new()))),
    }
}

fn stopped<'a>(env: Env<'a>, stop: Stop<'a>, bounds: Bounds) -> Fail<'a> {
    match stop {
        Stop::TooMuch => bounds.beyond(env),
        Stop::NotJson(place) => Fail::Reason(json::not_json(env, place)),
    }
}
