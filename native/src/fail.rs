//! Reasons, as Erlang matches on them: atoms, and tuples of an atom and one more term.

use erlmcp_shm_reader::ReadError;
use erlmcp_shm_writer::WriteError;
use rustler::{Atom, Encoder, Env, Term};

use crate::atoms;
use crate::errno;
use crate::text::BadMetadata;

/// Why a call did not do what was asked.
#[derive(Clone, Copy)]
pub(crate) enum Fail<'a> {
    /// Nothing was tried: the dirty twin of this call should be.
    Busy,
    /// `{error, Reason}`.
    Reason(Term<'a>),
}

impl<'a> Fail<'a> {
    /// A reason that is an atom alone.
    pub(crate) fn atom(env: Env<'a>, reason: Atom) -> Self {
        Fail::Reason(reason.to_term(env))
    }

    /// `{badarg, What}`.
    pub(crate) fn badarg(env: Env<'a>, what: Atom) -> Self {
        Fail::Reason((atoms::badarg(), what).encode(env))
    }

    /// `{bad_metadata, Key}`.
    pub(crate) fn bad_metadata(env: Env<'a>, bad: BadMetadata) -> Self {
        let key = match bad {
            BadMetadata::TtlMs => "ttl_ms",
            BadMetadata::CacheScope => "cache_scope",
        };
        Fail::Reason((atoms::bad_metadata(), named(env, key)).encode(env))
    }

    /// What the writer refused.
    pub(crate) fn write(env: Env<'a>, error: &WriteError) -> Self {
        Fail::Reason(write_reason(env, error))
    }

    /// What the reader refused.
    pub(crate) fn read(env: Env<'a>, error: &ReadError) -> Self {
        Fail::Reason(read_reason(env, error))
    }
}

/// `ok`, `busy` or `{error, Reason}`.
pub(crate) fn answer<'a>(env: Env<'a>, result: Result<(), Fail<'a>>) -> Term<'a> {
    match result {
        Ok(()) => atoms::ok().to_term(env),
        Err(fail) => refusal(env, fail),
    }
}

/// `{ok, Value}`, `busy` or `{error, Reason}`.
pub(crate) fn answer_with<'a>(env: Env<'a>, result: Result<impl Encoder, Fail<'a>>) -> Term<'a> {
    match result {
        Ok(value) => (atoms::ok(), value).encode(env),
        Err(fail) => refusal(env, fail),
    }
}

/// `busy` or `{error, Reason}`.
pub(crate) fn refusal<'a>(env: Env<'a>, fail: Fail<'a>) -> Term<'a> {
    match fail {
        Fail::Busy => atoms::busy().to_term(env),
        Fail::Reason(reason) => env.error_tuple(reason),
    }
}

/// The reason for an error of the writer.
pub(crate) fn write_reason<'a>(env: Env<'a>, error: &WriteError) -> Term<'a> {
    let atom = match *error {
        WriteError::EmptyKey => atoms::empty_key(),
        WriteError::KeyTooLarge => atoms::key_too_large(),
        WriteError::TooLarge => atoms::too_large(),
        WriteError::NoSpace => atoms::no_space(),
        WriteError::Locked => atoms::locked(),
        WriteError::BadOwner => atoms::bad_owner(),
        WriteError::NotRegular => atoms::not_regular(),
        WriteError::InsecureMode => atoms::insecure_mode(),
        WriteError::NotAStore => atoms::not_a_store(),
        WriteError::Corrupt(_) => atoms::corrupt(),
        WriteError::Version(found) => return (atoms::version(), found).encode(env),
        WriteError::PathLost => atoms::path_lost(),
        WriteError::Closed => atoms::closed(),
        WriteError::Failed => atoms::failed(),
        WriteError::BadOption(name) => return (atoms::badarg(), named(env, name)).encode(env),
        WriteError::Io(number) => return posix(env, number.raw_os_error()),
        WriteError::Unsupported => atoms::unsupported(),
        _ => atoms::unknown(),
    };
    atom.to_term(env)
}

fn read_reason<'a>(env: Env<'a>, error: &ReadError) -> Term<'a> {
    let atom = match *error {
        ReadError::NotFound => atoms::not_found(),
        ReadError::Detached => atoms::detached(),
        ReadError::Contended => atoms::contended(),
        ReadError::BadOwner => atoms::bad_owner(),
        ReadError::NotRegular => atoms::not_regular(),
        ReadError::InsecureMode => atoms::insecure_mode(),
        ReadError::NotAStore => atoms::not_a_store(),
        ReadError::Corrupt(_) => atoms::corrupt(),
        ReadError::Version(found) => return (atoms::version(), found).encode(env),
        ReadError::Io(number) => return posix(env, number.raw_os_error()),
        ReadError::Unsupported => atoms::unsupported(),
        _ => atoms::unknown(),
    };
    atom.to_term(env)
}

/// `enospc` and its kin; `{errno, N}` for a number without a name.
fn posix<'a>(env: Env<'a>, number: i32) -> Term<'a> {
    match errno::name(number) {
        Some(name) => named(env, &name.to_ascii_lowercase()),
        None => (atoms::errno(), number).encode(env),
    }
}

/// An atom out of a fixed set of names.
fn named<'a>(env: Env<'a>, name: &str) -> Term<'a> {
    Atom::from_str(env, name)
        .unwrap_or_else(|_| atoms::unknown())
        .to_term(env)
}
