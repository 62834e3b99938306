//! The terminal while it is ours, and as it was when it no longer is, however that comes about.

use ratatui::{DefaultTerminal, Frame};
use std::io;
use std::process;
use std::sync::Once;

/// The whole terminal. It is given back when this is dropped, and before a panic is told; signals are the
/// caller's to catch.
pub struct Screen(DefaultTerminal);

impl Screen {
    pub fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        // Called after the hook of ratatui, which gives the terminal back. A panic in whatever thread ends
        // the process: nobody should look at figures that no longer move.
        HOOK.call_once(|| {
            let tell = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                tell(panic);
                process::exit(101);
            }));
        });
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                ratatui::restore();
                Err(error)
            }
        }
    }

    pub fn draw(&mut self, view: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.0.draw(view).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
