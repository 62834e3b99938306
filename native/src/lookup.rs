//! A lookup, as writer and reader handles both answer it.

use erlmcp_shm_reader::{Bytes, Reader};
use rustler::{Encoder, Env, NewBinary, Term, schedule};

use crate::args;
use crate::atoms;
use crate::fail::Fail;
use crate::pins::{self, Generation};

/// The largest value that is copied. A larger one is a binary over the mapped file.
const COPY: usize = 64 << 10;

/// `{ok, Data, #{metadata => Binary, version => Integer}}` or what went wrong.
pub(crate) fn lookup<'a>(
    env: Env<'a>,
    reader: &Reader,
    kind: Term<'a>,
    key: Term<'a>,
) -> Result<Term<'a>, Fail<'a>> {
    let kind = args::kind(env, kind)?;
    let key = args::key(env, key)?;
    let view = reader.view().map_err(|e| Fail::read(env, &e))?;
    let entry = view
        .get(kind, key)
        .map_err(|e| Fail::read(env, &e))?
        .ok_or_else(|| Fail::atom(env, atoms::not_found()))?;
    let binary = |bytes: &[u8], pinned: &dyn Fn() -> Bytes| {
        if bytes.len() <= COPY {
            return NewBinary::from_slice(env, bytes).into();
        }
        let generation = Generation {
            store: view.store_id(),
            number: view.generation(),
        };
        pins::binary(env, pinned(), generation, || file_size(reader))
    };
    let data = binary(entry.data(), &|| entry.to_bytes());
    let metadata = binary(entry.metadata(), &|| entry.metadata_to_bytes());
    let copied = entry.metadata().len().min(COPY) + entry.data().len().min(COPY);
    if copied >> 14 > 0 {
        schedule::consume_timeslice(env, (copied >> 14).min(100) as i32);
    }
    let about = Term::map_from_term_arrays(
        env,
        &[
            atoms::metadata().to_term(env),
            atoms::version().to_term(env),
        ],
        &[metadata, entry.version().encode(env)],
    );
    match about {
        Ok(about) => Ok((atoms::ok(), data, about).encode(env)),
        Err(_) => Err(Fail::atom(env, atoms::unknown())),
    }
}

/// Bytes of the file at the path, which in all likelihood is the one just looked into: a figure for
/// display, asked for once per generation.
fn file_size(reader: &Reader) -> u64 {
    std::fs::metadata(reader.path()).map_or(0, |file| file.len())
}
