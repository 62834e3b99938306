//! What is published, looked at as a whole: pages of entries, and a digest by which a change of a list is seen.
//!
//! Both walk over the index, so they are dirty; the version of one entry, and the change counter, are as quick as a lookup.
//! All of them are asked of a writer or of a reader: who serves what is published may be either.

use std::collections::BinaryHeap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use erlmcp_shm_reader::{Entry, Kind, Reader, View};
use rustler::{Decoder, Encoder, Env, NewBinary, NifResult, Term};

use crate::args;
use crate::atoms;
use crate::fail::{Fail, answer_with};
use crate::reader::ReaderHandle;
use crate::writer::WriterHandle;

/// A handle of either sort.
enum Handle<'a> {
    Writer(&'a WriterHandle),
    Reader(&'a ReaderHandle),
}

impl<'a> Decoder<'a> for Handle<'a> {
    fn decode(term: Term<'a>) -> NifResult<Self> {
        match term.decode() {
            Ok(writer) => Ok(Handle::Writer(writer)),
            Err(_) => term.decode().map(Handle::Reader),
        }
    }
}

impl Handle<'_> {
    fn reader<'a>(&self, env: Env<'a>) -> Result<Arc<Reader>, Fail<'a>> {
        match self {
            Handle::Writer(writer) => writer.reader(env),
            Handle::Reader(reader) => reader.reader(env),
        }
    }
}

/// An entry in the order of keys.
struct ByKey<'v>(Entry<'v>);

impl PartialEq for ByKey<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey<'_> {}

impl PartialOrd for ByKey<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.key().cmp(other.0.key())
    }
}

/// `{ok, {[{Key, Data, Metadata}], More}}`: of the entries whose keys come after `after`, the first `limit`, in the
/// order of their keys. Of resources the data are left out.
#[rustler::nif(schedule = "DirtyCpu")]
fn list<'a>(
    env: Env<'a>,
    handle: Handle<'a>,
    kind: Term<'a>,
    after: Term<'a>,
    limit: Term<'a>,
) -> Term<'a> {
    answer_with(env, page(env, handle, kind, after, limit))
}

fn page<'a>(
    env: Env<'a>,
    handle: Handle<'a>,
    kind: Term<'a>,
    after: Term<'a>,
    limit: Term<'a>,
) -> Result<Term<'a>, Fail<'a>> {
    let kind = args::kind(env, kind)?;
    let after = args::key(env, after)?;
    let limit: usize = limit.decode().map_err(|_| args::wrong(env))?;
    let reader = handle.reader(env)?;
    let view = reader.view().map_err(|e| Fail::read(env, &e))?;
    let (mut first, mut more) = (BinaryHeap::new(), false);
    for entry in view.iter() {
        if entry.kind() != kind || entry.key() <= after {
            continue;
        }
        first.push(ByKey(entry));
        if first.len() > limit {
            let _ = first.pop();
            more = true;
        }
    }
    let binary = |bytes: &[u8]| -> Term<'a> { NewBinary::from_slice(env, bytes).into() };
    let entries: Vec<Term<'a>> = first
        .into_sorted_vec()
        .into_iter()
        .map(|ByKey(entry)| {
            let data = match kind {
                Kind::Resource => &[],
                _ => entry.data(),
            };
            (binary(entry.key()), binary(data), binary(entry.metadata())).encode(env)
        })
        .collect();
    Ok((entries, more).encode(env))
}

/// `{ok, {Resources, Tools, Prompts, Capabilities}}`: numbers that change when what a list of that kind shows does,
/// whatever the order in which the index holds it.
#[rustler::nif(schedule = "DirtyCpu")]
fn digest<'a>(env: Env<'a>, handle: Handle<'a>) -> Term<'a> {
    answer_with(env, digests(env, handle))
}

fn digests<'a>(env: Env<'a>, handle: Handle<'a>) -> Result<Term<'a>, Fail<'a>> {
    let reader = handle.reader(env)?;
    let view = reader.view().map_err(|e| Fail::read(env, &e))?;
    let mut sums = [0u64; 4];
    for entry in view.iter() {
        let mut hasher = DefaultHasher::new();
        entry.key().hash(&mut hasher);
        entry.metadata().hash(&mut hasher);
        let sum = match entry.kind() {
            Kind::Resource => &mut sums[0],
            Kind::ToolSchema => &mut sums[1],
            Kind::Prompt => &mut sums[2],
            Kind::Capability => &mut sums[3],
        };
        if entry.kind() != Kind::Resource {
            entry.data().hash(&mut hasher);
        }
        *sum = sum.wrapping_add(hasher.finish());
    }
    Ok((sums[0], sums[1], sums[2], sums[3]).encode(env))
}

/// `{ok, {Store, Version}}` of an entry. Versions of two stores have nothing to do with each other.
#[rustler::nif]
fn version<'a>(env: Env<'a>, handle: Handle<'a>, kind: Term<'a>, key: Term<'a>) -> Term<'a> {
    answer_with(env, version_of(env, handle, kind, key))
}

fn version_of<'a>(
    env: Env<'a>,
    handle: Handle<'a>,
    kind: Term<'a>,
    key: Term<'a>,
) -> Result<Term<'a>, Fail<'a>> {
    let kind = args::kind(env, kind)?;
    let key = args::key(env, key)?;
    let reader = handle.reader(env)?;
    let view = reader.view().map_err(|e| Fail::read(env, &e))?;
    let entry = view.get(kind, key).map_err(|e| Fail::read(env, &e))?;
    let entry = entry.ok_or_else(|| Fail::atom(env, atoms::not_found()))?;
    Ok((store(env, &view), entry.version()).encode(env))
}

/// `{ok, {Store, Counter}}`: another term once anything was published, or another store has taken the path.
#[rustler::nif]
fn changes<'a>(env: Env<'a>, handle: Handle<'a>) -> Term<'a> {
    answer_with(env, changes_of(env, handle))
}

fn changes_of<'a>(env: Env<'a>, handle: Handle<'a>) -> Result<Term<'a>, Fail<'a>> {
    let reader = handle.reader(env)?;
    let view = reader.view().map_err(|e| Fail::read(env, &e))?;
    let changes = reader.changes().map_err(|e| Fail::read(env, &e))?;
    Ok((store(env, &view), changes).encode(env))
}

fn store<'a>(env: Env<'a>, view: &View) -> Term<'a> {
    NewBinary::from_slice(env, &view.store_id()).into()
}
