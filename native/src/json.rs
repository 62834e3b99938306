//! Erlang terms as JSON text.
//!
//! | term | JSON |
//! |---|---|
//! | map with keys that are atoms or UTF-8 binaries | object, keys sorted by their bytes |
//! | proper list | array (a charlist is a list of integers: there is no guessing) |
//! | UTF-8 binary | string |
//! | integer from -2^63 to 2^64-1, float | number; floats in the shortest form that reads back |
//! | `true`, `false`; `nil`, `null` | `true`, `false`; `null` |
//! | `{json, Binary}` inside a list or map | that JSON text, in one line |
//!
//! Anything else, keys that become equal, and more than [`MAX_DEPTH`] levels are refused with the
//! place: the keys and 0-based indexes that lead there from the root. Work is bounded by
//! [`Limits`], because a term can be far smaller than its text: parts of it may be shared.

use std::borrow::Cow;

use rustler::{Atom, Binary, Encoder, MapIterator, Term, TermType};
use serde::Serialize;

use crate::atoms;
use crate::text::{self, Key, MAX_DEPTH, Seen, Special};

/// How much may be encoded before it is [`Stop::TooMuch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Terms looked at, keys included.
    pub(crate) terms: usize,
    /// Bytes of text, give or take the last string.
    pub(crate) bytes: usize,
}

/// Why there is no text.
pub(crate) enum Stop<'a> {
    /// The limits were reached.
    TooMuch,
    /// A term that is not JSON; the place, innermost first.
    NotJson(Vec<Term<'a>>),
}

impl<'a> Stop<'a> {
    fn here() -> Self {
        Stop::NotJson(Vec::new())
    }

    fn within(mut self, key: impl FnOnce() -> Term<'a>) -> Self {
        if let Stop::NotJson(place) = &mut self {
            place.push(key());
        }
        self
    }
}

/// The text of `term`; if it is a map, with what its meaningful keys say.
pub(crate) fn encode<'a>(term: Term<'a>, limits: Limits) -> Result<(Vec<u8>, Special), Stop<'a>> {
    let mut encoder = Encode {
        out: Vec::with_capacity(256),
        limits,
    };
    let special = if term.is_map() {
        encoder.object(term, MAX_DEPTH)?
    } else {
        encoder.value(term, MAX_DEPTH)?;
        Special::default()
    };
    Ok((encoder.out, special))
}

struct Member<'a> {
    name: Cow<'a, str>,
    key: Term<'a>,
    value: Term<'a>,
}

struct Encode {
    out: Vec<u8>,
    limits: Limits,
}

impl Encode {
    fn value<'a>(&mut self, term: Term<'a>, room: u8) -> Result<(), Stop<'a>> {
        self.spend(1, 0)?;
        match term.get_type() {
            TermType::Atom => self.atom(term),
            TermType::Binary => {
                let text = self.utf8(term)?;
                self.write(text);
                Ok(())
            }
            TermType::Integer => {
                if let Ok(n) = term.decode::<i64>() {
                    self.write(&n);
                } else if let Ok(n) = term.decode::<u64>() {
                    self.write(&n);
                } else {
                    return Err(Stop::here());
                }
                Ok(())
            }
            TermType::Float => {
                let x: f64 = term.decode().map_err(|_| Stop::here())?;
                self.write(&x);
                Ok(())
            }
            TermType::List => self.array(term, room),
            TermType::Map => self.object(term, room).map(|_| ()),
            TermType::Tuple => self.ready_made(term, room),
            _ => Err(Stop::here()),
        }
    }

    /// Text that is JSON already. Line breaks can only stand between its tokens, and some who get the whole take
    /// a line for a message.
    fn ready_made<'a>(&mut self, term: Term<'a>, room: u8) -> Result<(), Stop<'a>> {
        let text = ready_made(term).ok_or_else(Stop::here)?;
        self.spend(0, text.len())?;
        text::scan_within(&text, room).ok_or_else(Stop::here)?;
        let one_line = text.iter().map(|&byte| match byte {
            b'\n' | b'\r' => b' ',
            other => other,
        });
        self.out.extend(one_line);
        Ok(())
    }

    fn atom<'a>(&mut self, term: Term<'a>) -> Result<(), Stop<'a>> {
        let text: &[u8] = if atoms::true_() == term {
            b"true"
        } else if atoms::false_() == term {
            b"false"
        } else if atoms::nil() == term || atoms::null() == term {
            b"null"
        } else {
            return Err(Stop::here());
        };
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn array<'a>(&mut self, list: Term<'a>, room: u8) -> Result<(), Stop<'a>> {
        let room = room.checked_sub(1).ok_or_else(Stop::here)?;
        self.out.push(b'[');
        let (mut rest, mut index) = (list, 0u64);
        while let Ok((head, tail)) = rest.list_get_cell() {
            if index > 0 {
                self.out.push(b',');
            }
            self.value(head, room)
                .map_err(|stop| stop.within(|| index.encode(list.get_env())))?;
            (rest, index) = (tail, index + 1);
        }
        if !rest.is_empty_list() {
            return Err(Stop::here());
        }
        self.out.push(b']');
        Ok(())
    }

    fn object<'a>(&mut self, map: Term<'a>, room: u8) -> Result<Special, Stop<'a>> {
        let room = room.checked_sub(1).ok_or_else(Stop::here)?;
        let mut special = Special::default();
        self.out.push(b'{');
        for (i, member) in self.members(map)?.into_iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.write(&*member.name);
            self.out.push(b':');
            self.value(member.value, room)
                .map_err(|stop| stop.within(|| member.key))?;
            special.note(Key::of(&member.name), || seen(member.value));
        }
        self.out.push(b'}');
        Ok(special)
    }

    /// The members of an object, sorted by the bytes of their names.
    fn members<'a>(&mut self, map: Term<'a>) -> Result<Vec<Member<'a>>, Stop<'a>> {
        let size = map.map_size().map_err(|_| Stop::here())?;
        self.spend(size, 0)?;
        let mut members = Vec::with_capacity(size);
        for (key, value) in MapIterator::new(map).ok_or_else(Stop::here)? {
            let name = self.key_text(key).map_err(|stop| stop.within(|| key))?;
            members.push(Member { name, key, value });
        }
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        match members.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(Stop::here().within(|| pair[1].key)),
            None => Ok(members),
        }
    }

    /// The text of a binary. Its length is looked at before its bytes are.
    fn utf8<'a>(&mut self, term: Term<'a>) -> Result<&'a str, Stop<'a>> {
        let binary = Binary::from_term(term).map_err(|_| Stop::here())?;
        self.spend(0, binary.len())?;
        std::str::from_utf8(binary.as_slice()).map_err(|_| Stop::here())
    }

    fn key_text<'a>(&mut self, key: Term<'a>) -> Result<Cow<'a, str>, Stop<'a>> {
        if !key.is_atom() {
            return self.utf8(key).map(Cow::Borrowed);
        }
        key.atom_to_string()
            .ok()
            .or_else(|| wide_atom(key))
            .map(Cow::Owned)
            .ok_or_else(Stop::here)
    }

    fn spend<'a>(&mut self, terms: usize, bytes: usize) -> Result<(), Stop<'a>> {
        if terms > self.limits.terms || self.out.len().saturating_add(bytes) > self.limits.bytes {
            return Err(Stop::TooMuch);
        }
        self.limits.terms -= terms;
        Ok(())
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut self.out, value).expect("a scalar goes into memory");
    }
}

/// The text of an atom with characters beyond Latin-1, which NIF 2.16 does not hand out. It stands in
/// the external term format, though: version, tag, length, UTF-8.
fn wide_atom(key: Term<'_>) -> Option<String> {
    const ATOM_UTF8: u8 = 118;
    const SMALL_ATOM_UTF8: u8 = 119;
    let external = key.to_binary();
    let text = match external.as_slice() {
        [131, SMALL_ATOM_UTF8, _, text @ ..] | [131, ATOM_UTF8, _, _, text @ ..] => text,
        _ => return None,
    };
    String::from_utf8(text.to_vec()).ok()
}

/// The text in `{json, Bin}`.
pub(crate) fn ready_made<'a>(term: Term<'a>) -> Option<Binary<'a>> {
    let (tag, text): (Atom, Binary<'a>) = term.decode().ok()?;
    (tag == atoms::json()).then_some(text)
}

/// What a value says where it stands under a meaningful key.
fn seen(value: Term<'_>) -> Seen {
    if let Ok(n) = value.decode::<u64>() {
        return Seen::Unsigned(n);
    }
    let binary = Binary::from_term(value).ok();
    let text = binary.and_then(|binary| std::str::from_utf8(binary.as_slice()).ok());
    text.map_or(Seen::Other, Seen::text)
}

/// `{not_json, Where}`.
pub(crate) fn not_json<'a>(env: rustler::Env<'a>, mut place: Vec<Term<'a>>) -> Term<'a> {
    place.reverse();
    let tag: Atom = atoms::not_json();
    (tag, place).encode(env)
}
