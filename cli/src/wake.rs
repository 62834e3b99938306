//! What wakes a subcommand that goes on: a change of files, or a signal that asks it to end.

use crate::output::{say, shown};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// However long a burst of changes lasts, this is looked at in between.
const BURST: Duration = Duration::from_secs(1);

/// One bell for everything. Who rings it says nothing more, so that a thousand rings are one.
pub struct Wake {
    bell: Receiver<()>,
    ring: SyncSender<()>,
    over: Arc<AtomicBool>,
}

impl Wake {
    /// From here on SIGINT, SIGTERM and SIGHUP ring, instead of ending the process.
    pub fn new() -> io::Result<Self> {
        let (ring, bell) = sync_channel(1);
        let over = Arc::new(AtomicBool::new(false));
        let (rings, ends) = (ring.clone(), Arc::clone(&over));
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        std::thread::spawn(move || {
            for _ in signals.forever() {
                // Relaxed: nothing is handed over with it.
                ends.store(true, Ordering::Relaxed);
                let _ = rings.try_send(());
            }
        });
        Ok(Self { bell, ring, over })
    }

    /// Whether a signal asked for the end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Rings at every change in the folder, while what is returned lives. `None` where the system cannot tell.
    pub fn watch(&self, folder: &Path) -> Option<RecommendedWatcher> {
        let ring = self.ring.clone();
        let heard = move |event: notify::Result<notify::Event>| {
            let looked_at = |kind| match kind {
                // Our own reading would wake us too.
                EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
                _ => false,
            };
            if !event.is_ok_and(|event| looked_at(event.kind)) {
                let _ = ring.try_send(());
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(heard, config).and_then(|mut watcher| {
            watcher.watch(&folder.canonicalize()?, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        watcher
            .inspect_err(|error| {
                let folder = shown(folder);
                say(format_args!(
                    "{folder}: {error}: looking every two seconds instead"
                ));
            })
            .ok()
    }

    /// Whether it rang within that time.
    pub fn wait(&self, patience: Duration) -> bool {
        self.bell.recv_timeout(patience).is_ok()
    }

    /// Waits for the end of a burst: until it has been quiet for so long.
    pub fn settle(&self, quiet: Duration) {
        let end = Instant::now() + BURST.max(quiet);
        while !self.is_over() && Instant::now() < end && self.wait(quiet) {}
    }
}
