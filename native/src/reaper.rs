//! Lets go of things away from the schedulers.
//!
//! The BEAM calls a resource's destructor wherever its last reference went, mostly on a normal
//! scheduler. Letting go of the last hold on a mapping may take 100 ms, and closing a writer takes
//! its lock. So destructors hand over what they hold, and a thread that sleeps otherwise drops it.

use std::any::Any;
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

type Load = Box<dyn Any + Send>;

static REAPER: OnceLock<Option<Sender<Load>>> = OnceLock::new();

/// Has `thing` dropped by the thread; here and now only where the system gives us none.
pub(crate) fn reap(thing: impl Send + 'static) {
    let reaper = REAPER.get_or_init(|| {
        let (sender, loads) = mpsc::channel::<Load>();
        let body = move || loads.into_iter().for_each(drop);
        let thread = thread::Builder::new().name("erlmcp-shm-reap".into());
        thread.spawn(body).ok().map(|_| sender)
    });
    if let Some(reaper) = reaper {
        let _ = reaper.send(Box::new(thing));
    }
}
