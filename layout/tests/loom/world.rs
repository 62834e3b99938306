//! The switch from one generation to the next, with a writer that may die between any two steps, and
//! the ones that start after it.
//!
//! Marks, slots and records are the layout's own. The steps of the writer (`switch` in its `build`,
//! `start` in its `open`) and of the reader (`follow`) are written down here once more; a mutant is
//! another order of them. The kernel is one word for what the path names: a rename changes it
//! (AcqRel), an open loads it (Acquire), and whoever enters the kernel has done the loads before.
//!
//! What must hold: a put that returned before a lookup began is seen by it, no lookup goes back in
//! time, and none fails.

use crate::store::{self, HASH, News, Slots};
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, HeaderWords, State};
use loom::sync::atomic::{AtomicUsize, Ordering, fence};
use loom::thread;
use std::array;
use std::sync::Arc;

use Step::*;

#[derive(Clone, Copy)]
pub enum Step {
    /// Marks whatever an earlier writer left under a temporary name.
    Sweep,
    /// Makes the next file, under a temporary name, with what is live.
    Copy,
    GoLive,
    /// The next file takes the path, the old one the temporary name.
    Exchange,
    Mark,
    Unlink,
    /// A put into the next generation alone, which returns.
    Put,
    /// The same into the current one.
    PutBefore,
}

pub const SWITCH: &[Step] = &[Copy, GoLive, Exchange, Mark, Unlink, Put];
pub const START: &[Step] = &[Sweep, Copy, GoLive, Exchange, Mark, Unlink, Put];

/// How the parties behave; [`RIGHT`], or a mutant of it.
#[derive(Clone, Copy)]
pub struct Ways {
    pub switch: &'static [Step],
    pub start: &'static [Step],
    pub reader_looks_at_state: bool,
    pub entering_the_kernel_orders: bool,
}

pub const RIGHT: Ways = Ways {
    switch: SWITCH,
    start: START,
    reader_looks_at_state: true,
    entering_the_kernel_orders: true,
};

struct File {
    words: [AtomicU64; HEADER_SIZE / 8],
    slots: Slots,
}

impl File {
    fn words(&self) -> HeaderWords<'_> {
        HeaderWords::new(&self.words)
    }
}

struct World {
    ways: Ways,
    /// By generation.
    files: Vec<File>,
    path: AtomicUsize,
    news: News,
}

impl World {
    /// Generation 0 stands at the path, with version 1 of the key; room for so many more.
    fn new(ways: Ways, more: usize) -> Self {
        let file = |_| File {
            words: array::from_fn(|_| AtomicU64::new(0)),
            slots: Slots::new(1, store::START),
        };
        let world = Self {
            ways,
            files: (0..=more).map(file).collect(),
            path: AtomicUsize::new(0),
            news: News::default(),
        };
        world.files[0].slots.put(HASH, 1);
        world.files[0].words().set_state(State::Live);
        world.news.tell(1);
        world
    }

    fn open(&self) -> usize {
        if self.ways.entering_the_kernel_orders {
            fence(Ordering::Acquire);
        }
        self.path.load(Ordering::Acquire)
    }

    /// One writer after the other, the first one a switch, the others a start: each dies before the
    /// step that is given for it, or comes to its end.
    fn write(&self, deaths: &[usize]) {
        let mut strays = Vec::new();
        let (mut version, mut at_path) = (1, 0);
        for (life, death) in deaths.iter().enumerate() {
            let steps = [self.ways.switch, self.ways.start][life.min(1)];
            let (current, next) = (at_path, life + 1);
            for step in steps.iter().take(*death) {
                match step {
                    Sweep => {
                        for stray in strays.drain(..) {
                            self.mark(stray);
                        }
                    }
                    Copy => {
                        strays.push(next);
                        let live = self.files[current].slots.get(HASH);
                        self.files[next].slots.put(HASH, live);
                    }
                    GoLive => self.files[next].words().set_state(State::Live),
                    Exchange => {
                        let old = self.path.swap(next, Ordering::AcqRel);
                        strays.retain(|stray| *stray != next);
                        strays.push(old);
                        at_path = next;
                    }
                    Mark => self.mark(current),
                    Unlink => strays.retain(|stray| *stray != current),
                    Put | PutBefore => {
                        let into = if matches!(step, Put) { next } else { current };
                        version += 1;
                        self.files[into].slots.put(HASH, version);
                        self.news.tell(version);
                    }
                }
            }
        }
    }

    fn mark(&self, generation: usize) {
        self.files[generation].words().set_state(State::Superseded);
    }
}

/// A reader with the generation that it has mapped.
pub struct Reader {
    world: Arc<World>,
    pub current: usize,
    /// What it keeps of its last lookup, if it keeps anything.
    pub kept: Option<Kept>,
}

/// A version with the generation that it was found in and the sequence of its slot there.
#[derive(Clone, Copy)]
pub struct Kept {
    pub generation: usize,
    pub sequence: u64,
    pub version: u64,
}

impl Reader {
    fn is_current(&self) -> bool {
        let state = self.world.files[self.current].words().state();
        !self.world.ways.reader_looks_at_state || matches!(state, Some(State::Live))
    }

    pub fn lookup(&mut self) -> u64 {
        self.follow();
        self.slots().get(HASH)
    }

    /// Goes on to the current generation, unless this is it.
    pub fn follow(&mut self) {
        while !self.is_current() {
            self.current = self.find();
        }
    }

    pub fn slots(&self) -> &Slots {
        &self.world.files[self.current].slots
    }

    /// The generation at the path, once it is neither ours nor superseded.
    fn find(&self) -> usize {
        let mut superseded = None;
        loop {
            let opened = self.world.open();
            match self.world.files[opened].words().state() {
                Some(State::Live) => {
                    assert!(opened >= self.current, "detached: an older file");
                    return opened;
                }
                Some(State::Superseded) => {
                    assert_ne!(opened, self.current, "detached: no newer file");
                    assert_ne!(Some(opened), superseded, "detached: the same file twice");
                    superseded = Some(opened);
                }
                state => panic!("never finished: {state:?}"),
            }
        }
    }
}

/// Two lookups while writers write; see [`World::write`] for their deaths.
pub fn switch(ways: Ways, deaths: &[usize]) {
    lookups_while(ways, deaths, 2, Reader::lookup);
}

/// So many lookups, in this way, while writers write.
pub fn lookups_while(ways: Ways, deaths: &[usize], lookups: usize, lookup: fn(&mut Reader) -> u64) {
    let world = Arc::new(World::new(ways, deaths.len()));
    let mut reader = Reader {
        world: world.clone(),
        current: 0,
        kept: None,
    };
    let reading = thread::spawn(move || {
        let mut last = 1;
        for _ in 0..lookups {
            let returned = reader.world.news.hear();
            let found = lookup(&mut reader);
            assert!(found >= returned, "a put that had returned was not seen");
            assert!(found >= last, "went back in time");
            last = found;
        }
    });
    world.write(deaths);
    reading.join().unwrap();
}
