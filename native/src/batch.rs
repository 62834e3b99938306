//! `put_batch/2`: everything is decoded, encoded and checked before anything is written.

use std::borrow::Cow;

use erlmcp_shm_writer::{Attributes, Kind, Op};
use rustler::{Atom, Encoder, Env, Term, TermType};

use crate::args;
use crate::atoms;
use crate::document::{self, Bounds};
use crate::fail::{Fail, answer};
use crate::writer::WriterHandle;

enum Item<'a> {
    Put {
        kind: Kind,
        key: &'a [u8],
        data: Cow<'a, [u8]>,
        metadata: Cow<'a, [u8]>,
        attributes: Attributes,
    },
    Invalidate {
        kind: Kind,
        key: &'a [u8],
    },
}

#[rustler::nif(schedule = "DirtyIo")]
fn put_batch<'a>(env: Env<'a>, handle: &WriterHandle, items: Term<'a>) -> Term<'a> {
    answer(env, write(env, handle, items))
}

fn write<'a>(env: Env<'a>, handle: &WriterHandle, items: Term<'a>) -> Result<(), Fail<'a>> {
    let mut decoded = Vec::new();
    let mut rest = items;
    while let Ok((head, tail)) = rest.list_get_cell() {
        let item = item(env, head, handle.dirty()).map_err(|f| at(env, decoded.len(), f))?;
        decoded.push(item);
        rest = tail;
    }
    if !rest.is_empty_list() {
        return Err(Fail::badarg(env, atoms::items()));
    }
    let ops: Vec<Op<'_>> = decoded.iter().map(Item::op).collect();
    let written = handle.writer.put_batch(&ops);
    written.map_err(|e| at(env, e.index, Fail::write(env, &e.error)))
}

/// `{Index, Reason}`.
fn at<'a>(env: Env<'a>, index: usize, fail: Fail<'a>) -> Fail<'a> {
    match fail {
        Fail::Reason(reason) => Fail::Reason((index, reason).encode(env)),
        Fail::Busy => Fail::Busy,
    }
}

fn item<'a>(env: Env<'a>, term: Term<'a>, bounds: Bounds) -> Result<Item<'a>, Fail<'a>> {
    if term.get_type() != TermType::Tuple {
        return Err(Fail::badarg(env, atoms::item()));
    }
    if let Ok((kind, key, data, metadata)) = term.decode::<(Term, Term, Term, Term)>() {
        let kind = args::kind(env, kind)?;
        let key = args::key(env, key)?;
        let data = document::data(env, kind, data, bounds)?;
        let (metadata, attributes) = document::metadata(env, metadata, bounds)?;
        return Ok(Item::Put {
            kind,
            key,
            data,
            metadata,
            attributes,
        });
    }
    match term.decode::<(Atom, Term, Term)>() {
        Ok((tag, kind, key)) if tag == atoms::invalidate() => Ok(Item::Invalidate {
            kind: args::kind(env, kind)?,
            key: args::key(env, key)?,
        }),
        _ => Err(Fail::badarg(env, atoms::item())),
    }
}

impl Item<'_> {
    fn op(&self) -> Op<'_> {
        match self {
            Item::Put {
                kind,
                key,
                data,
                metadata,
                attributes,
            } => Op::Put {
                kind: *kind,
                key,
                data,
                metadata,
                attributes: *attributes,
            },
            Item::Invalidate { kind, key } => Op::Delete { kind: *kind, key },
        }
    }
}
