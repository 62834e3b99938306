//! What `stats/1` and `reader_stats/1` say.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use erlmcp_shm_reader::{ReadError, Reader, State, Verdict};
use erlmcp_shm_writer::{Phase, Writer};
use rustler::{Encoder, Env, NewBinary, Term};

use crate::atoms;
use crate::fail;
use crate::pins;

/// The statistics of a writer.
pub(crate) fn writer<'a>(env: Env<'a>, writer: &Writer) -> Term<'a> {
    let w = writer.stats();
    let s = &w.stats;
    let state = match w.phase {
        Phase::Live => atoms::live(),
        Phase::Building => atoms::building(),
        Phase::Failed => atoms::failed(),
        Phase::Closed => atoms::closed(),
    };
    let build_error = w.last_build_error.map(|e| fail::write_reason(env, &e));
    rustler::term_map!(env, {
        atoms::path() => path(env, writer.path()),
        atoms::size() => w.size,
        atoms::max_size() => w.max_size,
        atoms::entries() => s.entries,
        atoms::tombstones() => s.used_slots.saturating_sub(s.entries),
        atoms::live_bytes() => s.live_bytes,
        atoms::dead_bytes() => s.dead_bytes,
        atoms::log_capacity() => w.log_bytes,
        atoms::log_used() => w.log_used,
        atoms::fragmentation() => s.fragmentation(),
        atoms::fill() => w.fill(),
        atoms::generation() => w.generation,
        atoms::version() => s.version,
        atoms::store_id() => hex(env, &w.store_id),
        atoms::slot_count() => w.slot_count,
        atoms::puts() => s.puts,
        atoms::deletes() => s.deletes,
        atoms::rollovers() => s.rollovers,
        atoms::state() => state,
        atoms::pinned_bytes() => pins::pinned_bytes(),
        atoms::huge_pages() => w.huge_bytes > 0,
        atoms::heartbeat_age_ms() => ms(w.heartbeat_age),
        atoms::last_build_error() => or_undefined(env, build_error),
        atoms::path_lost() => w.path_lost,
        atoms::damaged_records() => w.damaged,
    })
}

/// The statistics of a reader: of the file, of its writer, and of what this process holds of it.
pub(crate) fn reader<'a>(env: Env<'a>, reader: &Reader) -> Result<Term<'a>, ReadError> {
    let s = reader.stats()?;
    let live = reader.liveness();
    let state = match s.state {
        State::Building => atoms::building(),
        State::Live => atoms::live(),
        State::Superseded => atoms::superseded(),
        State::Closed => atoms::closed(),
    };
    let verdict = match live.verdict() {
        Verdict::Alive => atoms::alive(),
        Verdict::Stale => atoms::stale(),
        Verdict::Closed => atoms::closed(),
        Verdict::Dead => atoms::dead(),
        _ => atoms::unknown(),
    };
    Ok(rustler::term_map!(env, {
        atoms::path() => path(env, reader.path()),
        atoms::size() => s.size,
        atoms::max_size() => s.max_size,
        atoms::entries() => s.entries,
        atoms::tombstones() => s.used_slots.saturating_sub(s.entries),
        atoms::live_bytes() => s.live_bytes,
        atoms::dead_bytes() => s.dead_bytes,
        atoms::log_capacity() => s.log_capacity,
        atoms::log_used() => s.log_used,
        atoms::fragmentation() => s.fragmentation,
        atoms::fill() => s.fill,
        atoms::generation() => s.generation,
        atoms::version() => s.version,
        atoms::store_id() => hex(env, &s.store_id),
        atoms::slot_count() => s.slot_count,
        atoms::puts() => s.puts,
        atoms::deletes() => s.deletes,
        atoms::rollovers() => s.rollovers,
        atoms::state() => state,
        atoms::pinned_bytes() => pins::pinned_bytes(),
        atoms::mapped_bytes() => s.pinned_bytes,
        atoms::mapped_generations() => s.mapped_generations,
        atoms::huge_pages() => s.huge_page_bytes.is_some_and(|bytes| bytes > 0),
        atoms::heartbeat_age_ms() => or_undefined(env, live.heartbeat_age.map(ms)),
        atoms::heartbeat_interval() => ms(live.heartbeat_interval),
        atoms::lock_held() => or_undefined(env, live.lock_held),
        atoms::writer() => verdict,
        atoms::writer_pid() => live.writer_pid,
        atoms::changes() => s.changes,
    }))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn or_undefined<'a>(env: Env<'a>, value: Option<impl Encoder>) -> Term<'a> {
    match value {
        Some(value) => value.encode(env),
        None => atoms::undefined().to_term(env),
    }
}

fn path<'a>(env: Env<'a>, path: &Path) -> Term<'a> {
    NewBinary::from_slice(env, path.as_os_str().as_bytes()).into()
}

fn hex<'a>(env: Env<'a>, bytes: &[u8]) -> Term<'a> {
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    NewBinary::from_slice(env, text.as_bytes()).into()
}
