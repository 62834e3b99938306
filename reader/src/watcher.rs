//! The process's one watcher thread, and the generations that it unmaps.
//!
//! Every mapped generation of a watched reader is kept here as well, so that no lookup and no
//! destructor of a `View`, `Bytes` or `Reader` is ever the last to let go of one: unmapping a big
//! file takes 100 ms and more. The watcher drops those that nobody else holds. Nobody can take hold
//! of one again, because a new reference is only ever made from an existing one.
//!
//! The thread starts with the first watched reader and ends when there is neither a reader nor a
//! kept generation left.

use crate::ReadError;
use crate::follow::Inner;
use crate::generation::Generation;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    readers: Vec::new(),
    held: Vec::new(),
    running: false,
});
static NEW_READER: Condvar = Condvar::new();

/// How often kept generations are looked at when no reader is left.
const LINGER: Duration = Duration::from_millis(100);

struct Registry {
    readers: Vec<Weak<Inner>>,
    held: Vec<Held>,
    running: bool,
}

/// A generation that some reader of this process opened.
struct Held {
    path: Arc<Path>,
    bytes: u64,
    generation: Weak<Generation>,
    /// Our own reference, where the watcher is to do the unmapping.
    keep: Option<Arc<Generation>>,
}

/// Enters a new generation; `keep` has the watcher unmap it.
pub(crate) fn hold(generation: Generation, keep: bool) -> Arc<Generation> {
    let generation = Arc::new(generation);
    let mut registry = REGISTRY.lock();
    registry.held.retain(Held::is_held);
    registry.held.push(Held {
        path: Arc::clone(&generation.path),
        bytes: generation.pinned_bytes(),
        generation: Arc::downgrade(&generation),
        keep: keep.then(|| Arc::clone(&generation)),
    });
    generation
}

/// How many generations of the store at `path` this process has mapped, and how many bytes.
pub(crate) fn mapped(path: &Path) -> (usize, u64) {
    let registry = REGISTRY.lock();
    let held = registry.held.iter();
    held.filter(|held| held.is_held() && held.bytes > 0 && *held.path == *path)
        .fold((0, 0), |(n, bytes), held| (n + 1, bytes + held.bytes))
}

/// Has the watcher look after `reader`, and starts the thread if it does not run.
pub(crate) fn watch(reader: &Arc<Inner>) -> Result<(), ReadError> {
    let mut registry = REGISTRY.lock();
    if !registry.running {
        std::thread::Builder::new()
            .name("erlmcp-shm-watch".into())
            .spawn(run)?;
        registry.running = true;
    }
    registry.readers.push(Arc::downgrade(reader));
    NEW_READER.notify_one();
    Ok(())
}

fn run() {
    let mut registry = REGISTRY.lock();
    loop {
        let readers: Vec<_> = registry.readers.iter().filter_map(Weak::upgrade).collect();
        let unused = registry.take_unused();
        let interval = readers.iter().map(|r| r.options.refresh_interval).min();
        // Looking, and above all unmapping, happens without the lock.
        MutexGuard::unlocked(&mut registry, || {
            drop(unused);
            readers.iter().for_each(|reader| reader.tick());
            drop(readers);
        });
        registry.readers.retain(|reader| reader.strong_count() > 0);
        if registry.readers.is_empty() && registry.held.iter().all(|held| held.keep.is_none()) {
            registry.running = false;
            return;
        }
        NEW_READER.wait_for(&mut registry, interval.unwrap_or(LINGER));
    }
}

impl Registry {
    /// The generations that only we hold.
    fn take_unused(&mut self) -> Vec<Arc<Generation>> {
        let mut unused = Vec::new();
        for held in &mut self.held {
            unused.extend(held.keep.take_if(|kept| Arc::strong_count(kept) == 1));
        }
        self.held.retain(Held::is_held);
        unused
    }
}

impl Held {
    fn is_held(&self) -> bool {
        self.generation.strong_count() > 0
    }
}
