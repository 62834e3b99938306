//! Binaries over mapped memory, and what they hold on to.
//!
//! A large value reaches Erlang as a binary that refers to the mapped file. It keeps the whole
//! generation mapped for as long as it, or any part of it, lives: its pages stay in memory even after
//! the writer has moved on to a newer file, and the BEAM's collector, which sees a few words, feels no
//! pressure to let go. So the price is counted here, in full: [`pinned_bytes`] is the size of every
//! generation that at least one such binary of this process holds, each counted once.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use erlmcp_shm_reader::Bytes;
use rustler::{Env, Resource, ResourceArc, Term};

use crate::reaper::reap;

/// A generation of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Generation {
    /// The store it belongs to.
    pub(crate) store: [u8; 16],
    /// Its number in that store.
    pub(crate) number: u64,
}

/// Live binaries and file size of each pinned generation.
static PINNED: Mutex<Option<HashMap<Generation, (u64, u64)>>> = Mutex::new(None);

fn pinned() -> MutexGuard<'static, Option<HashMap<Generation, (u64, u64)>>> {
    // The map is whole between any two lines below, so a panic elsewhere does not spoil it.
    PINNED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the generations that this process pins by binaries.
pub(crate) fn pinned_bytes() -> u64 {
    let pinned = pinned();
    pinned.iter().flat_map(HashMap::values).map(|p| p.1).sum()
}

/// Mapped bytes that live as long as the binaries made of them.
struct Pin {
    bytes: Bytes,
    generation: Generation,
}

#[rustler::resource_impl]
impl Resource for Pin {
    fn destructor(self, _: Env<'_>) {
        let mut pinned = pinned();
        if let Some(all) = pinned.as_mut()
            && let Some(entry) = all.get_mut(&self.generation)
        {
            entry.0 -= 1;
            if entry.0 == 0 {
                all.remove(&self.generation);
            }
        }
        drop(pinned);
        reap(self.bytes);
    }
}

/// A binary over `bytes`, which lie in `generation`, a file of `size()` bytes.
pub(crate) fn binary<'a>(
    env: Env<'a>,
    bytes: Bytes,
    generation: Generation,
    size: impl FnOnce() -> u64,
) -> Term<'a> {
    let mut pinned = pinned();
    let all = pinned.get_or_insert_default();
    all.entry(generation).or_insert_with(|| (0, size())).0 += 1;
    drop(pinned);
    let pin = ResourceArc::new(Pin { bytes, generation });
    pin.make_binary(env, |pin| &pin.bytes).into()
}
