//! Runs a model: the code as it is must hold in every interleaving, each mutant must fail.

use erlmcp_shm_layout::sync::breakable::{self, Change, Site};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use crate::mutants::{self, Mutant};

/// One model.
#[derive(Clone, Copy)]
pub struct Model {
    pub name: &'static str,
    /// How often a thread may be interrupted where it could go on; `None`: as often as it likes.
    pub preemptions: Option<usize>,
    /// Interleavings it has to explore. Fewer, and it does not test what it says.
    pub at_least: usize,
}

impl Model {
    /// The code as it is holds, and visits no place that has neither a mutant nor an excuse.
    pub fn holds(&self, body: impl Fn() + Send + Sync + 'static) {
        self.hold([body]);
    }

    /// The same for a model of many cases, which are counted together.
    pub fn hold<F: Fn() + Send + Sync + 'static>(&self, cases: impl IntoIterator<Item = F>) {
        let explored: usize = cases.into_iter().map(|body| self.explore(None, body)).sum();
        println!("{}: {explored} interleavings", self.name);
        assert!(
            explored >= self.at_least,
            "{}: {explored} interleavings prove nothing, {} were expected",
            self.name,
            self.at_least
        );
        for site in breakable::visited() {
            assert!(mutants::covers(site), "no mutant breaks {site:?}");
        }
    }

    /// The mutants of the layout's source all fail.
    pub fn kills(&self, mutants: &[Mutant], body: impl Fn() + Copy + Send + Sync + 'static) {
        for mutant in mutants {
            self.notices(
                mutant.name,
                Some((mutant.place.site(), mutant.change())),
                body,
            );
        }
    }

    /// What is wrong with `body`, or with the access at a place, is noticed.
    pub fn notices(
        &self,
        name: &str,
        broken: Option<(Site, Change)>,
        body: impl Fn() + Send + Sync + 'static,
    ) {
        let failed = quietly(|| self.explore(broken, body));
        let Err(panic) = failed else {
            panic!("{}: survived: {name}", self.name);
        };
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let why = text.unwrap_or("?").trim().lines().next().unwrap_or("?");
        // Loom gives up on a model that does not end: that is no proof of anything.
        assert!(
            !why.contains("maximum number"),
            "{}: {name}: {why}",
            self.name
        );
        println!("{}: killed: {name} ({why})", self.name);
    }

    fn explore(
        &self,
        broken: Option<(Site, Change)>,
        body: impl Fn() + Send + Sync + 'static,
    ) -> usize {
        let explored = Arc::new(AtomicUsize::new(0));
        let count = explored.clone();
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = self.preemptions;
        breakable::begin(broken);
        builder.check(move || {
            count.fetch_add(1, Ordering::Relaxed);
            breakable::begin_interleaving();
            body();
        });
        explored.load(Ordering::Relaxed)
    }
}

/// Catches a panic without the words that it would print.
fn quietly<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    thread_local! {
        static QUIET: Cell<bool> = const { Cell::new(false) };
    }
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    result
}

#[test]
#[should_panic(expected = "prove nothing")]
fn a_model_without_a_second_thread_is_refused() {
    let model = Model {
        name: "nothing at all",
        preemptions: None,
        at_least: 2,
    };
    model.holds(|| crate::store::Slots::new(1, 0).put(crate::store::HASH, 1));
}

#[test]
#[should_panic(expected = "survived")]
fn a_mutant_that_survives_is_a_failure() {
    let model = Model {
        name: "nothing at all",
        preemptions: None,
        at_least: 1,
    };
    model.kills(&mutants::LATCH[..1], || {
        crate::store::Slots::new(1, 0).put(crate::store::HASH, 1)
    });
}
