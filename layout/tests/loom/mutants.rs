//! The places of the layout's source where something can be broken, and what is broken there.

use erlmcp_shm_layout::sync::breakable::{Change, Site};

/// A line of the layout's source: the file, and the line as it stands there, without indentation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Place(&'static str, &'static str);

impl Place {
    /// Where the line stands. It must be there exactly once.
    pub fn site(self) -> Site {
        let Self(file, text) = self;
        let source = match file {
            "latch.rs" => include_str!("../../src/latch.rs"),
            "slot.rs" => include_str!("../../src/slot.rs"),
            "words.rs" => include_str!("../../src/words.rs"),
            _ => panic!("{file}: its source is not at hand here"),
        };
        let numbered = source.lines().zip(1..);
        let mut found = numbered.filter(|(line, _)| line.trim() == text);
        match (found.next(), found.next()) {
            (Some((_, number)), None) => Site(file, number),
            _ => panic!("{file} has not exactly one line {text:?}: bring the models up to date"),
        }
    }
}

/// A place, what is wrong there, and its name.
pub struct Mutant {
    pub name: &'static str,
    pub place: Place,
    wrong: Wrong,
}

enum Wrong {
    Is(Change),
    MadeAfter(Place),
}

impl Mutant {
    pub fn change(&self) -> Change {
        match self.wrong {
            Wrong::Is(change) => change,
            Wrong::MadeAfter(place) => Change::Delay(place.site()),
        }
    }
}

impl Place {
    const fn wrong(self, wrong: Wrong, name: &'static str) -> Mutant {
        let place = self;
        Mutant { name, place, wrong }
    }

    const fn omitted(self, name: &'static str) -> Mutant {
        self.wrong(Wrong::Is(Change::Omit), name)
    }

    const fn relaxed(self, name: &'static str) -> Mutant {
        self.wrong(Wrong::Is(Change::Relax), name)
    }

    const fn after(self, other: Self, name: &'static str) -> Mutant {
        self.wrong(Wrong::MadeAfter(other), name)
    }

    const fn not_looked_at(self, name: &'static str) -> Mutant {
        self.wrong(Wrong::Is(Change::Repeat), name)
    }

    const fn one_more(self, name: &'static str) -> Mutant {
        self.wrong(Wrong::Is(Change::OneMore), name)
    }
}

const NEXT: Place = Place(
    "latch.rs",
    "let next = self.seq.load(Ordering::Relaxed).wrapping_add(1);",
);
const W1: Place = Place("latch.rs", "fence(Ordering::Release);");
const W2: Place = Place("latch.rs", "cell.store(word, Ordering::Relaxed); // W2");
const W3: Place = Place("latch.rs", "self.seq.store(next, Ordering::Release);");
const R1: Place = Place(
    "latch.rs",
    "let seen = self.seq.load(Ordering::Relaxed); // R1, with the fence pairs with W3",
);
const R1_FENCE: Place = Place("latch.rs", "fence(Ordering::Acquire);");
const R2: Place = Place(
    "latch.rs",
    "let words = core::array::from_fn(|i| half[i].load(Ordering::Relaxed)); // R2",
);
const R3: Place = Place("latch.rs", "fence(Ordering::Acquire); // R3, pairs with W1");
const R4: Place = Place("latch.rs", "if self.seq.load(Ordering::Relaxed) == seen {");
const R5: Place = Place("latch.rs", "self.seq.load(Ordering::Relaxed) // R5");
const HASH: Place = Place("slot.rs", "self.0[1].load(Ordering::Relaxed)");
const SET_HASH: Place = Place("slot.rs", "self.0[1].store(hash, Ordering::Relaxed);");
const CHANGES: Place = Place("words.rs", "self.word(CHANGES).load(Ordering::Acquire)");
const SET_CHANGES: Place = Place(
    "words.rs",
    "self.word(CHANGES).store(changes, Ordering::Release);",
);
const STATE: Place = Place(
    "words.rs",
    "State::from_u64(self.word(STATE).load(Ordering::Relaxed))",
);
const SET_STATE: Place = Place(
    "words.rs",
    "self.word(STATE).store(state as u64, Ordering::Release);",
);
const SET_COUNT: Place = Place(
    "words.rs",
    "self.word(VERSION).store(count, Ordering::Relaxed);",
);

/// Whoever uses a latch notices each of these.
pub const LATCH: &[Mutant] = &[
    W1.omitted("the writer's fence before it fills a half (W1) removed"),
    W2.after(W3, "the half filled after the sequence moved (W2 after W3)"),
    W3.relaxed("the publish (W3) Relaxed"),
    W3.omitted("the publish (W3) left out"),
    NEXT.one_more("the sequence moved by two, so that the current half is filled"),
    R1_FENCE.omitted("the reader's fence behind the sequence (R1) removed"),
    R3.omitted("the reader's fence behind the half (R3) removed"),
    R4.not_looked_at("the reader does not look at the sequence again"),
];

/// A slot's hash, beside its latch.
pub const SLOT: &[Mutant] = &[
    SET_HASH.after(W3, "the hash stored after the publish"),
    SET_HASH.omitted("the hash left out"),
    W3.relaxed("a slot's first publish (W3) Relaxed"),
];

/// The change counter.
pub const COUNTER: &[Mutant] = &[
    SET_CHANGES.relaxed("the change counter stored Relaxed"),
    CHANGES.relaxed("the change counter loaded Relaxed"),
];

/// The mark of a generation that another one has followed.
pub const MARK: &[Mutant] = &[
    SET_STATE.relaxed("the mark stored Relaxed"),
    STATE.not_looked_at("the state looked at once only"),
];

/// Whether a value that was kept still stands.
pub const KEPT: &[Mutant] = &[
    R5.not_looked_at("the sequence of a kept value looked at once only (R5)"),
    W3.omitted("the publish (W3) left out, where values are kept"),
];

/// Nothing there can be made weaker, and leaving it out would not be a mistake anyone makes: loads
/// that are Relaxed already, and a figure for display.
const EXCUSED: [Place; 4] = [R1, R2, HASH, SET_COUNT];

/// Whether what happens at a site is broken by some mutant, or excused.
pub fn covers(site: Site) -> bool {
    let lists = [LATCH, SLOT, COUNTER, MARK, KEPT];
    let places = lists.into_iter().flatten().map(|mutant| mutant.place);
    places.chain(EXCUSED).any(|place| place.site() == site)
}

/// An atomic that does not come through the shim would be invisible here.
#[test]
fn atomics_come_through_the_shim() {
    let sources = format!("{}/src", env!("CARGO_MANIFEST_DIR"));
    for file in std::fs::read_dir(&sources).expect(&sources) {
        let path = file.expect(&sources).path();
        if path.is_dir() || path.ends_with("sync.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        let code = source.lines().filter(|line| !line.trim().starts_with("//"));
        for line in code {
            assert!(!line.contains("sync::atomic"), "{path:?}: {line}");
        }
    }
}
