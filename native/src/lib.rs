//! The NIF `erlmcp_shm_nif`: how an Erlang node publishes, and how it looks up.
//!
//! Glue between the BEAM and the crates `erlmcp-shm-writer` and `erlmcp-shm-reader`: it decodes
//! terms, turns some of them into JSON, and turns answers into terms. The Erlang module
//! `erlmcp_shm_nif` lists the functions with their types.
//!
//! # Schedulers
//!
//! A call on a normal scheduler ends within 1 ms. `put/5` and `delete/3` there try the writer's lock for
//! 20 us; where that is not enough, the log is full, or the arguments are large
//! (`document.rs` has the bounds), they answer `busy` and have done nothing: the caller then takes
//! `put_dirty/5` or `delete_dirty/3`. Lookups, `changes/1`, `stats/1` and `flush/1` take no lock. What
//! may take longer (`open/2`, `close/1`, `put_batch/2`, `compact/1`, `heartbeat/1`, `list/4`, `digest/1`, `reader_open/2`,
//! `reader_stats/1`, and JSON on its own) is dirty from the start; `decode_json/1` answers `busy` to long texts,
//! which are for `decode_json_dirty/1`.
//!
//! # Handles and memory
//!
//! A handle is a resource. One that is collected is closed, by a thread of this crate and never by
//! the destructor (`reaper.rs`); `close/1` does it at once and frees the writer's lock. Values of up to 64
//! KiB are copied into the caller's heap; a larger one becomes a binary over the mapped file, which
//! keeps its whole generation in memory, and `pins.rs` counts what is kept so.
//!
//! # Answers
//!
//! `ok`, `{ok, Value}`, `busy` and `{error, Reason}`, with a reason that is an atom or a tuple of an atom
//! and one more term (`fail.rs`). A handle that is none raises `badarg`. A panic anywhere below raises
//! `nif_panicked` in the calling process and leaves the node alone; the writer it interrupted answers
//! `failed` until it is opened again.
//!
//! # Loading
//!
//! The library can be loaded once in the life of a node: loading the module again is refused
//! (`on_load_failure`), and the old code goes on. It stays mapped even when its module is purged
//! (`-z nodelete`), since threads of ours may run in it. NIF version 2.16: OTP 24 and later.

#![forbid(unsafe_code)]

mod args;
mod atoms;
mod batch;
mod catalog;
mod decode;
mod document;
mod errno;
mod fail;
mod json;
mod lookup;
#[cfg(feature = "test-panic")]
mod panics;
mod pins;
mod reader;
mod reaper;
mod stats;
mod text;
mod writer;

use rustler::{Env, Term};

rustler::init!("erlmcp_shm_nif");

#[rustler::nif(schedule = "DirtyCpu")]
fn encode_json<'a>(env: Env<'a>, term: Term<'a>) -> Term<'a> {
    fail::answer_with(env, document::encode(env, term))
}

#[rustler::nif(schedule = "DirtyCpu")]
fn validate_json<'a>(env: Env<'a>, term: Term<'a>) -> Term<'a> {
    fail::answer_with(env, document::validate(env, term))
}
