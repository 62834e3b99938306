//! Arguments, decoded; a wrong one is `{badarg, What}`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use erlmcp_shm_writer::Kind;
use rustler::{Atom, Binary, Decoder, Env, Term};

use crate::atoms;
use crate::fail::Fail;

/// `resource`, `tool`, `prompt` or `capability`.
pub(crate) fn kind<'a>(env: Env<'a>, term: Term<'a>) -> Result<Kind, Fail<'a>> {
    let kinds = [
        (atoms::resource(), Kind::Resource),
        (atoms::tool(), Kind::ToolSchema),
        (atoms::prompt(), Kind::Prompt),
        (atoms::capability(), Kind::Capability),
    ];
    match kinds.into_iter().find(|(atom, _)| *atom == term) {
        Some((_, kind)) => Ok(kind),
        None => Err(Fail::badarg(env, atoms::kind())),
    }
}

/// A key: any binary. How long it may be is for the store to say.
pub(crate) fn key<'a>(env: Env<'a>, term: Term<'a>) -> Result<&'a [u8], Fail<'a>> {
    match Binary::from_term(term) {
        Ok(key) => Ok(key.as_slice()),
        Err(_) => Err(Fail::badarg(env, atoms::key())),
    }
}

/// A path: a binary of at least one byte and without a zero byte.
pub(crate) fn path<'a>(env: Env<'a>, term: Term<'a>) -> Result<&'a Path, Fail<'a>> {
    match Binary::from_term(term).map(|path| path.as_slice()) {
        Ok(bytes) if !bytes.is_empty() && !bytes.contains(&0) => {
            Ok(Path::new(OsStr::from_bytes(bytes)))
        }
        _ => Err(Fail::badarg(env, atoms::path())),
    }
}

/// A map of options; each may be asked for once, and none may be left over.
pub(crate) struct Opts<'a> {
    map: Term<'a>,
    left: usize,
}

impl<'a> Opts<'a> {
    pub(crate) fn new(env: Env<'a>, map: Term<'a>) -> Result<Self, Fail<'a>> {
        match map.map_size() {
            Ok(left) => Ok(Self { map, left }),
            Err(_) => Err(wrong(env)),
        }
    }

    /// The value of `key`, if it is there.
    pub(crate) fn maybe<T: Decoder<'a>>(&mut self, key: Atom) -> Result<Option<T>, Fail<'a>> {
        let Ok(value) = self.map.map_get(key) else {
            return Ok(None);
        };
        self.left -= 1;
        match value.decode() {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(wrong(self.map.get_env())),
        }
    }

    /// The value of `key`, which has to be there.
    pub(crate) fn get<T: Decoder<'a>>(&mut self, key: Atom) -> Result<T, Fail<'a>> {
        self.maybe(key)?.ok_or_else(|| wrong(self.map.get_env()))
    }

    /// Milliseconds.
    pub(crate) fn maybe_ms(&mut self, key: Atom) -> Result<Option<Duration>, Fail<'a>> {
        Ok(self.maybe(key)?.map(Duration::from_millis))
    }

    /// Refuses options that were not asked for.
    pub(crate) fn end(self) -> Result<(), Fail<'a>> {
        match self.left {
            0 => Ok(()),
            _ => Err(wrong(self.map.get_env())),
        }
    }
}

pub(crate) fn wrong<'a>(env: Env<'a>) -> Fail<'a> {
    Fail::badarg(env, atoms::opts())
}
