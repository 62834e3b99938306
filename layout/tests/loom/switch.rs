//! The models of the switch: see [`world`](crate::world) for what they run.

use crate::harness::Model;
use crate::mutants;
use crate::world::Step::{self, *};
use crate::world::{RIGHT, START, SWITCH, Ways, switch};

const ALL: usize = usize::MAX;

const SWITCHES: Model = Model {
    name: "two lookups against a switch",
    preemptions: None,
    at_least: 1000,
};
const DEATHS: Model = Model {
    name: "two lookups against a writer that dies in a switch, and the next one",
    preemptions: Some(2),
    at_least: 10_000,
};
const TWO_DEATHS: Model = Model {
    name: "two lookups against writers that die in a switch and in a start, and the next one",
    preemptions: Some(1),
    at_least: 10_000,
};

#[test]
fn switch_holds() {
    SWITCHES.holds(|| switch(RIGHT, &[ALL]));
}

#[test]
fn a_writer_that_dies_at_any_step() {
    let deaths = 0..=SWITCH.len();
    DEATHS.hold(deaths.map(|death| move || switch(RIGHT, &[death, ALL])));
}

#[test]
fn a_second_writer_that_dies_at_any_step() {
    let deaths = (0..SWITCH.len()).flat_map(|one| (0..START.len()).map(move |two| (one, two)));
    TWO_DEATHS.hold(deaths.map(|(one, two)| move || switch(RIGHT, &[one, two, ALL])));
}

#[test]
fn switch_kills() {
    SWITCHES.kills(mutants::MARK, || switch(RIGHT, &[ALL]));
    let orders: [(&str, &[Step]); 7] = [
        (
            "marked before the exchange",
            &[Copy, GoLive, Mark, Exchange, Put],
        ),
        (
            "a put admitted before the mark",
            &[Copy, GoLive, Exchange, Put, Mark],
        ),
        (
            "a put admitted before the exchange",
            &[Copy, GoLive, Put, Exchange, Mark],
        ),
        ("never marked", &[Copy, GoLive, Exchange, Put]),
        ("never exchanged", &[Copy, GoLive, Mark, Put]),
        (
            "live only after the exchange",
            &[Copy, Exchange, Mark, GoLive, Put],
        ),
        (
            "copied only after the mark",
            &[GoLive, Exchange, Mark, Copy, Put],
        ),
    ];
    for (name, steps) in orders {
        let ways = Ways {
            switch: steps,
            ..RIGHT
        };
        SWITCHES.notices(name, None, move || switch(ways, &[ALL]));
    }
    let blind = Ways {
        reader_looks_at_state: false,
        ..RIGHT
    };
    SWITCHES.notices("the reader does not look at the state", None, move || {
        switch(blind, &[ALL]);
    });
    let unordered = Ways {
        entering_the_kernel_orders: false,
        ..RIGHT
    };
    SWITCHES.notices(
        "the path opened before the mark was seen",
        None,
        move || {
            switch(unordered, &[ALL]);
        },
    );
}

/// After a writer that died between the exchange and the mark.
#[test]
fn a_start_after_a_death_kills() {
    let orders: [(&str, &[Step]); 4] = [
        ("a start that does not sweep", &START[1..]),
        (
            "swept after the put",
            &[Copy, GoLive, Exchange, Mark, Put, Sweep],
        ),
        (
            "a start that does not mark",
            &[Sweep, Copy, GoLive, Exchange, Put],
        ),
        (
            "marked after the put",
            &[Sweep, Copy, GoLive, Exchange, Put, Mark],
        ),
    ];
    for (name, steps) in orders {
        let ways = Ways {
            start: steps,
            ..RIGHT
        };
        DEATHS.notices(name, None, move || switch(ways, &[3, ALL]));
    }
}

/// The writer takes the steps in the order that is modelled here.
#[test]
fn the_writer_takes_these_steps() {
    let in_order = |file: &str, function: &str, calls: &[&str]| {
        let path = format!("{}/../writer/src/{file}", env!("CARGO_MANIFEST_DIR"));
        let source = std::fs::read_to_string(&path).expect(&path);
        let at = source.find(function).expect(function);
        let mut rest = &source[at..];
        for call in calls {
            let at = rest.find(call).expect(call);
            rest = &rest[at + call.len()..];
        }
    };
    let steps = ["go_live(", "sys::place(", "supersede(", "unlink("];
    in_order("build.rs", "\nfn switch(", &steps);
    in_order("open.rs", "\nfn start(", &steps);
    in_order(
        "open.rs",
        "fn open(",
        &["recovery::open(", "recovery::sweep(", "start("],
    );
}
