//! NIFs on a writer handle.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use erlmcp_shm_reader::Reader;
use erlmcp_shm_writer::{Attempt, Kind, Recover, Writer};
use rustler::{Atom, Encoder, Env, Resource, ResourceArc, Term, schedule};

use crate::args::{self, Opts};
use crate::atoms;
use crate::document::{self, Bounds};
use crate::fail::{Fail, answer, answer_with, refusal};
use crate::lookup::lookup;
use crate::reaper::reap;
use crate::stats;

/// How long a call on a normal scheduler waits for the writer's lock.
const PATIENCE: Duration = Duration::from_micros(20);

/// A writer, and until it is closed a reader of the same file. A handle that is collected is closed by
/// that.
pub(crate) struct WriterHandle {
    /// Invariant: the only clone, so that the last one is dropped by the reaper.
    pub(crate) writer: Writer,
    reader: ArcSwapOption<Reader>,
    /// No document can be longer than the largest generation.
    max_size: u64,
}

#[rustler::resource_impl]
impl Resource for WriterHandle {
    fn destructor(self, _: Env<'_>) {
        reap(self);
    }
}

impl WriterHandle {
    pub(crate) fn dirty(&self) -> Bounds {
        Bounds::Dirty {
            bytes: usize::try_from(self.max_size).unwrap_or(usize::MAX),
        }
    }

    /// The reader, which stays open for as long as the caller holds it.
    pub(crate) fn reader<'a>(&self, env: Env<'a>) -> Result<Arc<Reader>, Fail<'a>> {
        self.reader
            .load_full()
            .ok_or_else(|| Fail::atom(env, atoms::closed()))
    }
}

#[rustler::nif(schedule = "DirtyIo")]
fn open<'a>(env: Env<'a>, path: Term<'a>, opts: Term<'a>) -> Term<'a> {
    answer_with(env, open_writer(env, path, opts))
}

fn open_writer<'a>(
    env: Env<'a>,
    path: Term<'a>,
    opts: Term<'a>,
) -> Result<ResourceArc<WriterHandle>, Fail<'a>> {
    let path = args::path(env, path)?;
    let mut opts = Opts::new(env, opts)?;
    let recover = match opts.get::<Atom>(atoms::recover())? {
        keep if keep == atoms::keep() => Recover::Keep,
        clear if clear == atoms::clear() => Recover::Clear,
        _ => return Err(args::wrong(env)),
    };
    let options = Writer::options()
        .size(opts.get(atoms::size())?)
        .max_size(opts.get(atoms::max_size())?)
        .mode(opts.get(atoms::mode())?)
        .recover(recover)
        .lock_wait(Duration::from_millis(opts.get(atoms::lock_wait())?))
        .heartbeat_interval(Duration::from_millis(
            opts.get(atoms::heartbeat_interval())?,
        ));
    opts.end()?;
    let writer = options.open(path).map_err(|e| Fail::write(env, &e))?;
    let reader = Reader::options().open(path).map_err(|e| {
        writer.close();
        Fail::read(env, &e)
    })?;
    Ok(ResourceArc::new(WriterHandle {
        max_size: writer.stats().max_size,
        writer,
        reader: ArcSwapOption::from_pointee(reader),
    }))
}

#[rustler::nif]
fn put<'a>(
    env: Env<'a>,
    handle: &WriterHandle,
    kind: Term<'a>,
    key: Term<'a>,
    data: Term<'a>,
    metadata: Term<'a>,
) -> Term<'a> {
    answer(
        env,
        write(env, handle, kind, key, data, metadata, Bounds::Normal),
    )
}

#[rustler::nif(schedule = "DirtyIo")]
fn put_dirty<'a>(
    env: Env<'a>,
    handle: &WriterHandle,
    kind: Term<'a>,
    key: Term<'a>,
    data: Term<'a>,
    metadata: Term<'a>,
) -> Term<'a> {
    answer(
        env,
        write(env, handle, kind, key, data, metadata, handle.dirty()),
    )
}

fn write<'a>(
    env: Env<'a>,
    handle: &WriterHandle,
    kind: Term<'a>,
    key: Term<'a>,
    data: Term<'a>,
    metadata: Term<'a>,
    bounds: Bounds,
) -> Result<(), Fail<'a>> {
    let kind = args::kind(env, kind)?;
    let key = args::key(env, key)?;
    let data = document::data(env, kind, data, bounds)?;
    bounds.check(env, &data)?;
    let (metadata, attributes) = document::metadata(env, metadata, bounds)?;
    bounds.check(env, &metadata)?;
    let writer = &handle.writer;
    let done = match bounds {
        Bounds::Normal => {
            account(env, kind, data.len(), metadata.len());
            writer.try_put_with(kind, key, &data, &metadata, attributes, PATIENCE)
        }
        Bounds::Dirty { .. } => writer
            .put_with(kind, key, &data, &metadata, attributes)
            .map(Attempt::Done),
    };
    match done {
        Ok(Attempt::Done(_)) => Ok(()),
        Ok(Attempt::Busy) => Err(Fail::Busy),
        Err(error) => Err(Fail::write(env, &error)),
    }
}

/// Tells the scheduler what a write costs: 0.1 ms for the largest record, ten times that a byte for
/// JSON. A small one costs no more than the call itself, which is accounted for already.
fn account(env: Env<'_>, kind: Kind, data: usize, metadata: usize) {
    let json = metadata + if kind == Kind::Resource { 0 } else { data };
    let percent = (data + metadata + 10 * json) >> 14;
    if percent > 0 {
        schedule::consume_timeslice(env, percent.min(100) as i32);
    }
}

#[rustler::nif]
fn delete<'a>(env: Env<'a>, handle: &WriterHandle, kind: Term<'a>, key: Term<'a>) -> Term<'a> {
    answer(env, remove(env, handle, kind, key, Some(PATIENCE)))
}

#[rustler::nif(schedule = "DirtyIo")]
fn delete_dirty<'a>(
    env: Env<'a>,
    handle: &WriterHandle,
    kind: Term<'a>,
    key: Term<'a>,
) -> Term<'a> {
    answer(env, remove(env, handle, kind, key, None))
}

fn remove<'a>(
    env: Env<'a>,
    handle: &WriterHandle,
    kind: Term<'a>,
    key: Term<'a>,
    patience: Option<Duration>,
) -> Result<(), Fail<'a>> {
    let kind = args::kind(env, kind)?;
    let key = args::key(env, key)?;
    let done = match patience {
        Some(patience) => handle.writer.try_delete(kind, key, patience),
        None => handle.writer.delete(kind, key).map(Attempt::Done),
    };
    match done {
        Ok(Attempt::Done(_)) => Ok(()),
        Ok(Attempt::Busy) => Err(Fail::Busy),
        Err(error) => Err(Fail::write(env, &error)),
    }
}

#[rustler::nif]
fn get<'a>(env: Env<'a>, handle: &WriterHandle, kind: Term<'a>, key: Term<'a>) -> Term<'a> {
    let found = match &*handle.reader.load() {
        Some(reader) => lookup(env, reader, kind, key),
        None => Err(Fail::atom(env, atoms::closed())),
    };
    found.unwrap_or_else(|fail| refusal(env, fail))
}

#[rustler::nif(name = "stats")]
fn writer_stats<'a>(env: Env<'a>, handle: &WriterHandle) -> Term<'a> {
    (atoms::ok(), stats::writer(env, &handle.writer)).encode(env)
}

// Dirty: it asks the file system, which during a compaction may take milliseconds to answer.
#[rustler::nif(schedule = "DirtyIo")]
fn heartbeat<'a>(env: Env<'a>, handle: &WriterHandle) -> Term<'a> {
    answer(
        env,
        handle.writer.heartbeat().map_err(|e| Fail::write(env, &e)),
    )
}

#[rustler::nif]
fn flush<'a>(env: Env<'a>, handle: &WriterHandle) -> Term<'a> {
    answer(env, handle.writer.flush().map_err(|e| Fail::write(env, &e)))
}

#[rustler::nif(schedule = "DirtyIo")]
fn compact<'a>(env: Env<'a>, handle: &WriterHandle) -> Term<'a> {
    answer(
        env,
        handle.writer.compact().map_err(|e| Fail::write(env, &e)),
    )
}

#[rustler::nif(schedule = "DirtyIo")]
fn close<'a>(env: Env<'a>, handle: &WriterHandle) -> Term<'a> {
    reap(handle.reader.swap(None));
    handle.writer.close();
    atoms::ok().to_term(env)
}
