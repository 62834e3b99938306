//! Lines of JSON, as `dump` writes them, back into a store.

use crate::dump::{Loaded, parse};
use crate::globals::Globals;
use crate::output::{Answer, Failure, Output, say, shown};
use crate::progress::{Progress, Unit};
use crate::writing::{Alive, Need, StoreOptions};
use clap::Args;
use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::Recover;
use serde::Serialize;
use std::collections::HashSet;
use std::io::{self, Read};
use std::path::PathBuf;

/// Faults that are told one by one.
const TOLD: usize = 10;

#[derive(Args)]
#[command(after_help = "\
Every line is checked before the first entry is loaded: a file with a fault in it changes nothing. The entries are put
in the order of their versions, under the same ones where the store is not beyond them already.")]
pub struct Load {
    /// The file; - is stdin
    file: PathBuf,
    /// Add to what the store holds; the file's entries take the place of those of the same kind and key
    #[arg(long, conflicts_with = "replace")]
    merge: bool,
    /// Have the store hold the file's entries and no others: those are withdrawn when all are loaded
    #[arg(long)]
    replace: bool,
    /// Take a file that is not whole: without its first or last line, or cut off
    #[arg(long)]
    partial: bool,
    #[command(flatten)]
    store: StoreOptions,
}

#[derive(Serialize)]
struct Report {
    loaded: usize,
    withdrawn: usize,
}

impl Load {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let text = self
            .read()
            .map_err(|error| Failure::Input(format!("{}: {error}", self.name())))?;
        let entries = self.checked(&text)?;
        drop(text);
        let need = Need {
            entries: entries.len() as u64,
            bytes: entries
                .iter()
                .map(|e| (e.key.len() + e.data.len() + e.metadata.len()) as u64)
                .sum(),
        };
        let writer = self.store.open(globals, need, Recover::Keep)?;
        let there = writer.stats().stats.entries;
        if there > 0 && !self.merge && !self.replace {
            let path = shown(&globals.path);
            return Err(Failure::Input(format!(
                "{path}: the store holds entries ({there}): pass --merge to keep them, or --replace to withdraw them"
            )));
        }
        self.load(&writer, &entries)?;
        let withdrawn = match self.replace {
            true => withdraw_others(&writer, &globals.open()?, &entries)?,
            false => 0,
        };
        let report = Report {
            loaded: entries.len(),
            withdrawn,
        };
        let mut out = Output::new();
        if globals.json {
            out.json(&report)?;
        } else {
            out.line(format_args!(
                "loaded {}, withdrawn {withdrawn}",
                report.loaded
            ))?;
        }
        out.flush()?;
        Ok(Answer::Yes)
    }

    fn name(&self) -> String {
        match self.is_stdin() {
            true => "stdin".into(),
            false => shown(&self.file),
        }
    }

    fn is_stdin(&self) -> bool {
        self.file.as_os_str() == "-"
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        match self.is_stdin() {
            true => io::stdin().lock().read_to_end(&mut text)?,
            false => std::fs::File::open(&self.file)?.read_to_end(&mut text)?,
        };
        Ok(text)
    }

    fn checked(&self, text: &[u8]) -> Result<Vec<Loaded>, Failure> {
        parse(text, self.partial).map_err(|faults| {
            let name = self.name();
            for (line, what) in faults.iter().take(TOLD) {
                say(format_args!("{name}:{line}: {what}"));
            }
            Failure::Damaged(format!(
                "{name}: nothing was loaded, faults: {}: mend the lines or take them out, dump again, or pass --partial \
                 if the file was cut off",
                faults.len()
            ))
        })
    }

    fn load(&self, writer: &Alive, entries: &[Loaded]) -> Result<(), Failure> {
        let mut progress = Progress::new("loading", Unit::Count);
        for (n, entry) in entries.iter().enumerate() {
            let put = writer.check().and_then(|()| {
                writer.raise_version(entry.version.saturating_sub(1))?;
                let Loaded {
                    kind,
                    key,
                    data,
                    metadata,
                    attributes,
                    ..
                } = entry;
                writer.put_with(*kind, key, data, metadata, *attributes)
            });
            if let Err(error) = put {
                // That much is there, and must not be taken for all of it.
                say(format_args!(
                    "{n} of {} entries were loaded, and stay in the store",
                    entries.len()
                ));
                return Err(error.into());
            }
            progress.at(n as u64 + 1, Some(entries.len() as u64));
        }
        Ok(())
    }
}

fn withdraw_others(writer: &Alive, reader: &Reader, entries: &[Loaded]) -> Result<usize, Failure> {
    let loaded: HashSet<(Kind, &[u8])> = entries.iter().map(|e| (e.kind, &e.key[..])).collect();
    let mut others = Vec::new();
    for entry in reader.view()?.try_iter() {
        let entry = entry?;
        if !loaded.contains(&(entry.kind(), entry.key())) {
            others.push((entry.kind(), entry.key().to_vec()));
        }
    }
    for (kind, key) in &others {
        writer.delete(*kind, key)?;
    }
    Ok(others.len())
}
