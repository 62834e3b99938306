//! One more function in a build for tests, feature `test-panic`: it panics, or has the writer do so.

use erlmcp_shm_writer::fault;
use rustler::Atom;

use crate::atoms;

/// 0: here and now. Else at the `n`-th point from now that is passed under a writer's lock.
#[rustler::nif]
fn panic_at(n: u64) -> Atom {
    assert!(n > 0, "on purpose: a test asked for it");
    fault::arm(n);
    atoms::ok()
}
