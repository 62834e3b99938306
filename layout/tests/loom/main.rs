//! The concurrent protocols, in every interleaving that loom tells apart; and every one of their
//! orderings and steps taken away, which a model has to notice.
//!
//! What runs is the layout crate itself, on atomics that can be broken at one place of its source
//! (`sync::breakable`). Only what the kernel does, and the order in which writer and reader take
//! their steps at a switch, is written down again here ([`world`]).
//!
//! `scripts/loom.sh` runs this and prints how much each model explored and which mutants it killed.
//! Each model has a value published before its threads start: one whose reader may be content with
//! "nothing there" at its first load has next to nothing to explore, and proves nothing.

#![cfg(loom)]

mod cache;
mod changes;
mod harness;
mod mutants;
mod replaced;
mod slots;
mod stats;
mod store;
mod switch;
mod wake;
mod world;
