//! Every entry, as lines of JSON.

use crate::dump::Line;
use crate::globals::{Filter, Globals};
use crate::output::{Answer, Failure, Output, say, shown};
use crate::progress::{Progress, Unit};
use clap::Args;
use erlmcp_shm_reader::ReadError;

#[derive(Args)]
pub struct Dump {
    #[command(flatten)]
    filter: Filter,
}

impl Dump {
    /// In the order of the versions. Each entry is whole; one that is published anew meanwhile is written as it is by
    /// then, and one that is deleted meanwhile is not written.
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        // Not mapped: then every record's checksum is looked at too.
        let view = globals.options().pread(true).open(&globals.path)?.view()?;
        let mut answer = Answer::Yes;
        let mut damaged = |error: ReadError| {
            say(format_args!("{}: an entry: {error}", shown(&globals.path)));
            answer = Answer::No;
        };
        // Keys rather than entries are collected: an entry holds a copy of its data.
        let mut keys = Vec::new();
        for entry in view.try_iter() {
            match entry {
                Ok(entry) if self.filter.accepts(&entry) => {
                    keys.push((entry.version(), entry.kind(), entry.key().to_vec()));
                }
                Ok(_) => {}
                Err(error) => damaged(error),
            }
        }
        keys.sort_unstable();
        let mut progress = Progress::new("dumping", Unit::Count);
        let mut out = Output::new();
        out.json(&Line::first())?;
        let mut written = 0;
        for (n, (_, kind, key)) in keys.iter().enumerate() {
            match view.get(*kind, key) {
                Ok(Some(entry)) => {
                    out.json(&Line::of(&entry))?;
                    written += 1;
                }
                Ok(None) => {}
                Err(error) => damaged(error),
            }
            progress.at(n as u64 + 1, Some(keys.len() as u64));
        }
        drop(progress);
        out.json(&Line::last(written))?;
        out.flush()?;
        Ok(answer)
    }
}
