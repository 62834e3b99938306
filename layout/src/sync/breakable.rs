//! Loom's atomics, with one access at a time made wrong: how the models show that they would notice.
//!
//! The code under test is the real one; what is broken is what the access at one place of its source
//! does. So an ordering, a fence or the order of two stores can be taken away without a word about
//! it in the code itself. Which places were visited is noted, so that none goes without its mutant.
//!
//! Loom runs all threads of a model as coroutines of one thread of the system: what is noted here
//! belongs to one model at a time.

use loom::sync::atomic as checked;
use loom::thread::ThreadId;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::panic::Location;
use std::sync::Arc;

pub use checked::Ordering;

/// A line of the source that accesses an atomic: the file's name, and the line's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Site(pub &'static str, pub u32);

impl Site {
    #[track_caller]
    fn here() -> Self {
        let location = Location::caller();
        let file = location.file();
        Self(file.rsplit('/').next().unwrap_or(file), location.line())
    }
}

/// What is wrong with an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A fence or a store is not there.
    Omit,
    /// It orders nothing: Relaxed.
    Relax,
    /// A store is made only right after the thread's next store at the other site.
    Delay(Site),
    /// A load does not look: it answers what its thread last loaded from the word.
    Repeat,
    /// A load answers one more than there is.
    OneMore,
}

#[derive(Default)]
struct Bench {
    mutant: Option<(Site, Change)>,
    visited: BTreeSet<Site>,
    delayed: Vec<(AtomicU64, u64, Ordering)>,
    loaded: HashMap<(ThreadId, usize), u64>,
    /// Who stored last to a word, and what.
    stored: HashMap<usize, (ThreadId, u64)>,
    stores_left: Option<usize>,
}

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::default();
}

fn bench<T>(work: impl FnOnce(&mut Bench) -> T) -> T {
    BENCH.with_borrow_mut(work)
}

/// Begins anew, with the access at one site broken or with none.
pub fn begin(mutant: Option<(Site, Change)>) {
    let new = Bench {
        mutant,
        ..Bench::default()
    };
    bench(|bench| *bench = new);
}

/// To be called at the start of each interleaving: what the last one left is forgotten.
pub fn begin_interleaving() {
    bench(|bench| {
        bench.delayed.clear();
        bench.loaded.clear();
        bench.stored.clear();
        bench.stores_left = None;
    });
}

/// The writer dies after this many more stores: those that follow are not made.
pub fn die_after(stores: usize) {
    bench(|bench| bench.stores_left = Some(stores));
}

/// The places that were visited since [`begin`].
pub fn visited() -> BTreeSet<Site> {
    bench(|bench| bench.visited.clone())
}

/// Notes the visit, and says what is wrong with the access there.
fn visit(site: Site) -> Option<Change> {
    bench(|bench| {
        bench.visited.insert(site);
        let mutant = bench.mutant.filter(|(broken, _)| *broken == site);
        mutant.map(|(_, change)| change)
    })
}

/// [`core::sync::atomic::AtomicU64`], checked; clones are the same word.
///
/// Loom is not asked about a load by the thread that made the last store: it can answer nothing else.
/// And it must not be asked. Of the accesses to a word loom remembers the last one only, to find out
/// which others to try in another order; the load with which a writer looks up its own sequence would
/// hide the reader's load before it, and whole families of interleavings would go unexplored.
#[derive(Clone, Debug)]
pub struct AtomicU64(Arc<checked::AtomicU64>);

impl Default for AtomicU64 {
    fn default() -> Self {
        Self::new(0)
    }
}

impl AtomicU64 {
    /// A new word.
    pub fn new(value: u64) -> Self {
        let word = Self(Arc::new(checked::AtomicU64::new(value)));
        word.note_store(value);
        word
    }

    fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    fn note_store(&self, value: u64) {
        let stored = (loom::thread::current().id(), value);
        bench(|bench| bench.stored.insert(self.address(), stored));
    }

    /// Loads the word, unless this place is broken.
    #[track_caller]
    pub fn load(&self, order: Ordering) -> u64 {
        let change = visit(Site::here());
        let me = loom::thread::current().id();
        let key = (me, self.address());
        let (known, stored) = bench(|bench| {
            let stored = bench.stored.get(&key.1).filter(|(who, _)| *who == me);
            (bench.loaded.get(&key).copied(), stored.copied())
        });
        let value = match (change, known, stored) {
            (Some(Change::Repeat), Some(value), _) => return value,
            (_, _, Some((_, own))) => own,
            (Some(Change::Relax), ..) => self.0.load(Ordering::Relaxed),
            _ => self.0.load(order),
        };
        bench(|bench| bench.loaded.insert(key, value));
        match change {
            Some(Change::OneMore) => value.wrapping_add(1),
            _ => value,
        }
    }

    /// Stores to the word, unless this place is broken.
    #[track_caller]
    pub fn store(&self, value: u64, order: Ordering) {
        let site = Site::here();
        match visit(site) {
            Some(Change::Omit) => return,
            Some(Change::Delay(_)) => {
                let store = (self.clone(), value, order);
                return bench(|bench| bench.delayed.push(store));
            }
            Some(Change::Relax) => self.write(value, Ordering::Relaxed),
            _ => self.write(value, order),
        }
        let due = bench(|bench| match bench.mutant {
            Some((_, Change::Delay(until))) if until == site => std::mem::take(&mut bench.delayed),
            _ => Vec::new(),
        });
        for (word, value, order) in due {
            word.write(value, order);
        }
    }

    fn write(&self, value: u64, order: Ordering) {
        let alive = bench(|bench| match &mut bench.stores_left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        });
        if alive {
            self.0.store(value, order);
            self.note_store(value);
        }
    }
}

/// [`core::sync::atomic::fence`], checked, unless this place is broken.
#[track_caller]
pub fn fence(order: Ordering) {
    if visit(Site::here()).is_none() {
        checked::fence(order);
    }
}
