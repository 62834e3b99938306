//! NIFs on a reader handle.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use erlmcp_shm_reader::Reader;
use rustler::{Env, Resource, ResourceArc, Term};

use crate::args::{self, Opts};
use crate::atoms;
use crate::fail::{Fail, answer_with, refusal};
use crate::lookup::lookup;
use crate::reaper::reap;
use crate::stats;

/// A reader until it is closed.
pub(crate) struct ReaderHandle {
    reader: ArcSwapOption<Reader>,
}

#[rustler::resource_impl]
impl Resource for ReaderHandle {
    fn destructor(self, _: Env<'_>) {
        reap(self);
    }
}

impl ReaderHandle {
    /// The reader, which stays open for as long as the caller holds it.
    pub(crate) fn reader<'a>(&self, env: Env<'a>) -> Result<Arc<Reader>, Fail<'a>> {
        self.reader
            .load_full()
            .ok_or_else(|| Fail::atom(env, atoms::closed()))
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn reader_open<'a>(env: Env<'a>, path: Term<'a>, opts: Term<'a>) -> Term<'a> {
    answer_with(env, open(env, path, opts))
}

fn open<'a>(
    env: Env<'a>,
    path: Term<'a>,
    opts: Term<'a>,
) -> Result<ResourceArc<ReaderHandle>, Fail<'a>> {
    let path = args::path(env, path)?;
    let mut opts = Opts::new(env, opts)?;
    let mut options = Reader::options();
    if let Some(interval) = opts.maybe_ms(atoms::refresh_interval())? {
        options = options.refresh_interval(interval);
    }
    if let Some(yes) = opts.maybe(atoms::allow_absent())? {
        options = options.allow_absent(yes);
    }
    if let Some(uid) = opts.maybe(atoms::trust_owner())? {
        options = options.trust_owner(uid);
    }
    if let Some(yes) = opts.maybe(atoms::watcher())? {
        options = options.watcher(yes);
    }
    if let Some(yes) = opts.maybe(atoms::prefault())? {
        options = options.prefault(yes);
    }
    if let Some(yes) = opts.maybe(atoms::pread())? {
        options = options.pread(yes);
    }
    opts.end()?;
    let reader = options.open(path).map_err(|e| Fail::read(env, &e))?;
    Ok(ResourceArc::new(ReaderHandle {
        reader: ArcSwapOption::from_pointee(reader),
    }))
}

#[rustler::nif]
fn reader_get<'a>(env: Env<'a>, handle: &ReaderHandle, kind: Term<'a>, key: Term<'a>) -> Term<'a> {
    let found = match &*handle.reader.load() {
        Some(reader) => lookup(env, reader, kind, key),
        None => Err(Fail::atom(env, atoms::closed())),
    };
    found.unwrap_or_else(|fail| refusal(env, fail))
}

// Dirty: how many huge pages there are is read from a file that lists every mapping of the process.
#[rustler::nif(schedule = "DirtyIo")]
fn reader_stats<'a>(env: Env<'a>, handle: &ReaderHandle) -> Term<'a> {
    let stats = match &*handle.reader.load() {
        Some(reader) => stats::reader(env, reader).map_err(|e| Fail::read(env, &e)),
        None => Err(Fail::atom(env, atoms::closed())),
    };
    answer_with(env, stats)
}

#[rustler::nif]
fn reader_close<'a>(env: Env<'a>, handle: &ReaderHandle) -> Term<'a> {
    reap(handle.reader.swap(None));
    atoms::ok().to_term(env)
}
