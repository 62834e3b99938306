//! A cache over lookups: what was found is kept with the generation and the sequence of its slot, and
//! served again as long as both still stand. `is_current` in the reader's `l1/node.rs` is this check,
//! `find_stamped` in its `map/lookup.rs` makes the stamp.

use crate::harness::Model;
use crate::mutants;
use crate::world::Step::*;
use crate::world::{Kept, RIGHT, Reader, Step, Ways, lookups_while};

const UPDATES: Model = Model {
    name: "three cached reads against updates before and after a switch",
    preemptions: None,
    at_least: 40_000,
};

const STEPS: &[Step] = &[PutBefore, Copy, GoLive, Exchange, Mark, Unlink, Put];
const WAYS: Ways = Ways {
    switch: STEPS,
    ..RIGHT
};

/// How a read goes about its cache; [`RIGHTLY`], or a mutant.
struct Caching {
    compares_generation: bool,
    stamps_with_the_value: bool,
}

const RIGHTLY: Caching = Caching {
    compares_generation: true,
    stamps_with_the_value: true,
};

fn read(reader: &mut Reader, caching: Caching) -> u64 {
    reader.follow();
    let slot = reader.slots().index().slot(0);
    if let Some(kept) = reader.kept
        && (kept.generation == reader.current || !caching.compares_generation)
        && slot.sequence() == kept.sequence
    {
        return kept.version;
    }
    let (sequence, value) = if caching.stamps_with_the_value {
        slot.load_stamped().unwrap().expect("there from the start")
    } else {
        let value = slot.load().unwrap().expect("there from the start");
        (slot.sequence(), value)
    };
    reader.slots().check(&value);
    reader.kept = Some(Kept {
        generation: reader.current,
        sequence,
        version: value.version,
    });
    value.version
}

fn reads(read: fn(&mut Reader) -> u64) {
    lookups_while(WAYS, &[usize::MAX], 3, read);
}

#[test]
fn cached_reads_hold() {
    UPDATES.holds(|| reads(|reader| read(reader, RIGHTLY)));
}

#[test]
fn cached_reads_kill() {
    UPDATES.kills(mutants::KEPT, || reads(|reader| read(reader, RIGHTLY)));
    UPDATES.kills(mutants::MARK, || reads(|reader| read(reader, RIGHTLY)));
    UPDATES.notices("the generation not compared", None, || {
        reads(|reader| {
            let caching = Caching {
                compares_generation: false,
                ..RIGHTLY
            };
            read(reader, caching)
        });
    });
    UPDATES.notices(
        "the sequence loaded after the value, by itself",
        None,
        || {
            reads(|reader| {
                let caching = Caching {
                    stamps_with_the_value: false,
                    ..RIGHTLY
                };
                read(reader, caching)
            });
        },
    );
}
