//! A bar for what takes longer than a second: on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

/// What is done sooner needs no bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Shown as KiB, MiB and so on.
    Bytes,
    /// Shown as plain numbers.
    Count,
}

/// The progress of one piece of work. Its bar is gone when this is dropped.
///
/// ```ignore
/// let mut progress = Progress::new("loading", Unit::Count);
/// for (n, entry) in entries.iter().enumerate() {
///     load(entry)?;
///     progress.at(n as u64 + 1, Some(entries.len() as u64));
/// }
/// ```
pub struct Progress {
    what: &'static str,
    unit: Unit,
    began: Instant,
    bar: Option<ProgressBar>,
    wanted: bool,
}

impl Progress {
    pub fn new(what: &'static str, unit: Unit) -> Self {
        Self {
            what,
            unit,
            began: Instant::now(),
            bar: None,
            wanted: stderr().is_terminal(),
        }
    }

    /// So much is done, of so much if that is known. Reads a clock, and draws now and then.
    pub fn at(&mut self, done: u64, of: Option<u64>) {
        if !self.wanted || (self.bar.is_none() && self.began.elapsed() < PATIENCE) {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            bar(self.what, self.unit, of.is_some()).with_elapsed(self.began.elapsed())
        });
        if let Some(of) = of {
            bar.set_length(of);
        }
        bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A bar with its figures; where there is no total, the figures alone. It has no colours.
fn bar(what: &'static str, unit: Unit, total: bool) -> ProgressBar {
    let template = match (unit, total) {
        (Unit::Bytes, true) => {
            "{msg} [{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left"
        }
        (Unit::Bytes, false) => "{msg} {binary_bytes}, {elapsed}",
        (Unit::Count, true) => "{msg} [{bar:30}] {human_pos} of {human_len}, {eta} left",
        (Unit::Count, false) => "{msg} {human_pos}, {elapsed}",
    };
    let style = ProgressStyle::with_template(template).expect("a template of ours");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        .with_style(style.progress_chars("=> "))
        .with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_its_figures() {
        for unit in [Unit::Bytes, Unit::Count] {
            for total in [true, false] {
                let bar = bar("testing", unit, total);
                bar.set_draw_target(ProgressDrawTarget::hidden());
                bar.set_length(2048);
                bar.set_position(1024);
                assert_eq!((bar.position(), bar.length()), (1024, Some(2048)));
            }
        }
    }
}
