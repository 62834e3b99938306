//! What no mark tells: another store at the path, or an older copy of the reader's own. The watcher finds it, and
//! notes on the generation that held views pin that its place is taken.
//!
//! The steps are those of the reader's `follow`, written down here once more; a mutant leaves one out. The note is
//! one flag, stored and loaded Relaxed, and carries nothing: who sees it takes the lock under which it was set,
//! and what that thread finds there is ordered by the lock. So there is no ordering of the flag to be broken. What
//! must hold is that it is never lost: a lookup that begins after the watcher's look has ended is not into what
//! was replaced; and that it stands on nothing that is current again.

use crate::harness::Model;
use crate::store::{Bytes, News};
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use loom::sync::{Mutex, MutexGuard};
use loom::thread;
use std::sync::Arc;

const ANOTHER: Model = Model {
    name: "lookups while the watcher finds another store at the path",
    preemptions: None,
    at_least: 500,
};
const AN_OLDER_COPY: Model = Model {
    name: "lookups while an older copy of the store comes to the path",
    preemptions: None,
    at_least: 80,
};
const AND_BACK: Model = Model {
    name: "lookups while an older copy comes to the path, and the store comes back",
    preemptions: Some(3),
    at_least: 2000,
};

/// Generations: the one that everybody begins with, and that of another store.
const FIRST: usize = 0;
const OTHER: usize = 1;
/// An older copy of the first one's store, which is not followed.
const OLDER: usize = 2;
/// No generation at all.
const NONE: usize = usize::MAX;

/// How the parties behave; [`RIGHT`], or a mutant of it.
#[derive(Clone, Copy)]
struct Ways {
    notes_what_it_replaces: bool,
    looks_at_the_note: bool,
    takes_the_lock_when_it_sees_it: bool,
    clears_the_note_of_what_comes_back: bool,
    /// That of `current`, which is arc-swap's own.
    publish: Ordering,
}

const RIGHT: Ways = Ways {
    notes_what_it_replaces: true,
    looks_at_the_note: true,
    takes_the_lock_when_it_sees_it: true,
    clears_the_note_of_what_comes_back: true,
    publish: Ordering::AcqRel,
};

#[derive(Debug, PartialEq)]
enum Refused {
    Detached,
    Contended,
}

/// A reader's shared part, and the path.
struct Inner {
    ways: Ways,
    path: AtomicUsize,
    current: AtomicUsize,
    replaced: [AtomicBool; 2],
    /// The newest generation that was ever current.
    last: Mutex<usize>,
    bytes: [Bytes; 2],
    news: News,
}

impl Inner {
    fn new(ways: Ways) -> Arc<Self> {
        Arc::new(Self {
            ways,
            path: AtomicUsize::new(FIRST),
            current: AtomicUsize::new(FIRST),
            replaced: std::array::from_fn(|_| AtomicBool::new(false)),
            last: Mutex::new(FIRST),
            bytes: Default::default(),
            news: News::default(),
        })
    }

    /// `Generation::is_current`, of files that nobody marks.
    fn is_current(&self, generation: usize) -> bool {
        !self.ways.looks_at_the_note || !self.replaced[generation].load(Ordering::Relaxed)
    }

    fn current_view(&self) -> Option<usize> {
        let current = self.current.load(Ordering::Acquire);
        (current != NONE && self.is_current(current)).then_some(current)
    }

    /// `View::refresh`, of a view of this generation.
    fn refresh(&self, held: usize) -> Result<usize, Refused> {
        if self.is_current(held) {
            return Ok(held);
        }
        if let Some(current) = self.current_view() {
            return Ok(current);
        }
        for _ in 0..2 {
            if self.ways.takes_the_lock_when_it_sees_it {
                self.follow()?;
            }
            if let Some(current) = self.current_view() {
                return Ok(current);
            }
        }
        Err(Refused::Contended)
    }

    fn follow(&self) -> Result<(), Refused> {
        fence(Ordering::Acquire);
        let mut last = self.last.lock().unwrap();
        if self.current_view().is_some() {
            return Ok(());
        }
        let found = self.find()?;
        self.adopt(&mut last, found);
        Ok(())
    }

    /// What the watcher does; the generation that it found at the path, if it follows that.
    fn look_at_path(&self) -> Result<usize, Refused> {
        let mut last = self.last.lock().unwrap();
        let at_path = self.path.load(Ordering::Acquire);
        if at_path == *last && self.current_view().is_some() {
            return Ok(at_path);
        }
        let found = self.find();
        match &found {
            Ok(found) => self.adopt(&mut last, *found),
            Err(_) => self.replace(NONE),
        }
        found
    }

    fn find(&self) -> Result<usize, Refused> {
        match self.path.load(Ordering::Acquire) {
            OLDER => Err(Refused::Detached),
            found => Ok(found),
        }
    }

    fn adopt(&self, last: &mut MutexGuard<'_, usize>, generation: usize) {
        if self.ways.clears_the_note_of_what_comes_back {
            self.replaced[generation].store(false, Ordering::Relaxed);
        }
        **last = generation;
        self.replace(generation);
    }

    fn replace(&self, next: usize) {
        let old = self.current.swap(next, self.ways.publish);
        if old != NONE && old != next && self.ways.notes_what_it_replaces {
            self.replaced[old].store(true, Ordering::Relaxed);
        }
    }
}

/// Two lookups through a view that is kept, in a thread of its own; `check` is told what had been said when one
/// began, and what came of it.
fn lookups(inner: &Arc<Inner>, check: fn(u64, &Result<usize, Refused>)) -> thread::JoinHandle<()> {
    let inner = inner.clone();
    thread::spawn(move || {
        let mut held = FIRST;
        for _ in 0..2 {
            let heard = inner.news.hear();
            let found = inner.refresh(held);
            check(heard, &found);
            if let Ok(found) = found {
                assert!(found >= held, "went back to what was replaced");
                inner.bytes[found].read();
                held = found;
            }
        }
    })
}

/// Somebody puts another store at the path, and the watcher looks, earlier or later.
fn another(ways: Ways) {
    let inner = Inner::new(ways);
    let reading = lookups(&inner, |heard, found| {
        let found = found.as_ref().expect("there is a store at the path");
        assert!(
            *found as u64 >= heard,
            "the watcher had found another store"
        );
    });
    let watcher = {
        let inner = inner.clone();
        thread::spawn(move || {
            let found = inner.look_at_path().unwrap();
            inner.news.tell(found as u64);
        })
    };
    inner.bytes[OTHER].write();
    inner.path.swap(OTHER, Ordering::AcqRel);
    watcher.join().unwrap();
    reading.join().unwrap();
}

/// An older copy of the store comes to the path, for good or for a while. What had been said: 1, that it was found
/// there; 2, that the store was back.
fn an_older_copy(ways: Ways, comes_back: bool) {
    let inner = Inner::new(ways);
    let reading = match comes_back {
        false => lookups(&inner, |heard, found| {
            assert_ne!(*found, Err(Refused::Contended));
            assert!(heard == 0 || *found == Err(Refused::Detached), "old data");
        }),
        true => lookups(&inner, |heard, found| {
            assert_ne!(*found, Err(Refused::Contended));
            assert!(heard < 2 || *found == Ok(FIRST), "the store was back");
        }),
    };
    inner.path.swap(OLDER, Ordering::AcqRel);
    assert_eq!(inner.look_at_path(), Err(Refused::Detached));
    inner.news.tell(1);
    if comes_back {
        inner.path.swap(FIRST, Ordering::AcqRel);
        assert_eq!(inner.look_at_path(), Ok(FIRST));
        inner.news.tell(2);
    }
    reading.join().unwrap();
}

#[test]
fn replaced_holds() {
    ANOTHER.holds(|| another(RIGHT));
    AN_OLDER_COPY.holds(|| an_older_copy(RIGHT, false));
    AND_BACK.holds(|| an_older_copy(RIGHT, true));
}

#[test]
fn replaced_kills() {
    let unnoted = Ways {
        notes_what_it_replaces: false,
        ..RIGHT
    };
    let unseen = Ways {
        looks_at_the_note: false,
        ..RIGHT
    };
    for (name, ways) in [
        ("what is replaced is not noted", unnoted),
        ("the reader does not look at the note", unseen),
    ] {
        ANOTHER.notices(name, None, move || another(ways));
        AN_OLDER_COPY.notices(name, None, move || an_older_copy(ways, false));
    }
    let unlocked = Ways {
        takes_the_lock_when_it_sees_it: false,
        ..RIGHT
    };
    ANOTHER.notices("the note acted upon without the lock", None, move || {
        another(unlocked);
    });
    let unpublished = Ways {
        publish: Ordering::Relaxed,
        ..RIGHT
    };
    ANOTHER.notices("a mapping handed on Relaxed", None, move || {
        another(unpublished);
    });
    let uncleared = Ways {
        clears_the_note_of_what_comes_back: false,
        ..RIGHT
    };
    AND_BACK.notices("the note left on what comes back", None, move || {
        an_older_copy(uncleared, true);
    });
}

/// The reader takes the steps in the order that is modelled here.
#[test]
fn the_reader_takes_these_steps() {
    let path = format!("{}/../reader/src/follow.rs", env!("CARGO_MANIFEST_DIR"));
    let source = std::fs::read_to_string(&path).expect(&path);
    for (function, steps) in [
        (
            "fn follow(",
            &["lock()", "current_view()", "find(", "adopt("][..],
        ),
        (
            "fn look_at_path(",
            &["lock()", "find(", "adopt(", "replace(None)"],
        ),
        ("fn adopt(", &["set_replaced(false)", "last = ", "replace("]),
        ("fn replace(", &["current.swap(", "set_replaced(true)"]),
    ] {
        let at = source.find(function).expect(function);
        let mut rest = &source[at..];
        for step in steps {
            let at = rest
                .find(step)
                .unwrap_or_else(|| panic!("{function}: no {step}"));
            rest = &rest[at + step.len()..];
        }
    }
}
