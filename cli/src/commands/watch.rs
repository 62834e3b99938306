//! A line for every change.
//!
//! The change counter says when to look, and two looks at the whole index say what changed between
//! them. So several changes of one entry between two looks are one line, and an entry that came and
//! went between them is none.

use crate::globals::{Filter, Globals};
use crate::key::{JsonKey, escaped};
use crate::output::{Answer, Failure, Output, explained, say, shown};
use crate::snapshot::exists;
use clap::Args;
use erlmcp_shm_reader::{Kind, ReadError, Reader, Verdict, View};
use serde::Serialize;
use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How soon a writer that dies without a word is noticed.
const SLICE: Duration = Duration::from_millis(200);

#[derive(Args)]
pub struct Watch {
    #[command(flatten)]
    filter: Filter,
}

impl Watch {
    /// Runs until it is killed or nobody reads its output any more.
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let reader = globals.options().allow_absent(true).open(&globals.path)?;
        let mut log = Log::new(globals.json);
        let mut seen = Seen::default();
        // What is there when we begin is no change.
        if let Ok(view) = reader.view() {
            seen.look(&view, &self.filter, &mut |_| Ok(()))?;
        }
        let mut writer = Writer::look(&reader);
        say(format_args!("watching {}: {writer}", shown(&globals.path)));
        let mut changes = 0;
        loop {
            match reader.wait_for_change(changes, SLICE) {
                Ok(Some(now)) => {
                    // Taken before the look: what changes during it is looked at once more.
                    changes = now;
                    let start = Instant::now();
                    if let Ok(view) = reader.view() {
                        seen.look(&view, &self.filter, &mut |change| log.write(change))?;
                    }
                    // A busy writer must not make us busy: no more than half of the time.
                    std::thread::sleep(start.elapsed().min(SLICE));
                }
                Ok(None) => {}
                // That the store cannot be read is told below.
                Err(_) => std::thread::sleep(SLICE),
            }
            let now = Writer::look(&reader);
            if now != writer {
                say(&now);
                writer = now;
            }
        }
    }
}

/// What the last look found.
#[derive(Default)]
struct Seen {
    store_id: [u8; 16],
    entries: HashMap<Kind, HashMap<Vec<u8>, Mark>>,
    looks: u64,
}

/// An entry's version, and the last look that found it.
struct Mark {
    version: u64,
    look: u64,
}

struct Change<'a> {
    what: &'static str,
    kind: Kind,
    key: &'a [u8],
    /// Of what was deleted, the last one.
    version: u64,
}

type Report<'a> = dyn FnMut(&Change<'_>) -> Result<(), Failure> + 'a;

impl Seen {
    fn look(
        &mut self,
        view: &View,
        filter: &Filter,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        self.looks += 1;
        let look = self.looks;
        // Versions of another store say nothing about ours: all of its entries are changes.
        let same_store = self.store_id == view.store_id();
        self.store_id = view.store_id();
        let mut whole = true;
        for entry in view.try_iter() {
            let Ok(entry) = entry else {
                whole = false;
                continue;
            };
            if !filter.accepts(&entry) {
                continue;
            }
            let (kind, key, version) = (entry.kind(), entry.key(), entry.version());
            let of_kind = self.entries.entry(kind).or_default();
            let what = match of_kind.get_mut(key) {
                Some(mark) => {
                    let known = std::mem::replace(mark, Mark { version, look });
                    if same_store && known.version == version {
                        continue;
                    }
                    "changed"
                }
                None => {
                    of_kind.insert(key.to_vec(), Mark { version, look });
                    "added"
                }
            };
            report(&Change {
                what,
                kind,
                key,
                version,
            })?;
        }
        if whole {
            self.report_missing(report)?;
        }
        Ok(())
    }

    /// Forgets, and reports as deleted, what the last look did not find.
    fn report_missing(&mut self, report: &mut Report<'_>) -> Result<(), Failure> {
        let look = self.looks;
        for (kind, of_kind) in &mut self.entries {
            for (key, mark) in of_kind.extract_if(|_, mark| mark.look != look) {
                report(&Change {
                    what: "deleted",
                    kind: *kind,
                    key: &key,
                    version: mark.version,
                })?;
            }
        }
        Ok(())
    }
}

/// Stdout, line by line.
struct Log {
    out: Output,
    json: bool,
}

#[derive(Serialize)]
struct JsonChange<'a> {
    change: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    key: JsonKey<'a>,
    version: u64,
}

impl Log {
    fn new(json: bool) -> Self {
        let out = Output::new();
        Self { out, json }
    }

    fn write(&mut self, change: &Change<'_>) -> Result<(), Failure> {
        let Change {
            what,
            kind,
            key,
            version,
        } = *change;
        if self.json {
            self.out.json(&JsonChange {
                change: what,
                kind: kind.as_str(),
                key: JsonKey::new(key),
                version,
            })?;
        } else {
            let key = escaped(key);
            self.out
                .line(format_args!("{what:7} {kind:10} {version:>10} {key}"))?;
        }
        Ok(self.out.flush()?)
    }
}

/// How the writer, or the store itself, is.
#[derive(PartialEq)]
enum Writer {
    Is(Verdict, u32),
    NoFile,
    Unreadable(ReadError),
}

impl Writer {
    fn look(reader: &Reader) -> Self {
        if !exists(reader.path()) {
            // What was mapped before is still readable, but nothing will change in it any more.
            return Writer::NoFile;
        }
        match reader.view() {
            Ok(_) => {
                let liveness = reader.liveness();
                Writer::Is(liveness.verdict(), liveness.writer_pid)
            }
            Err(ReadError::NotFound) => Writer::NoFile,
            Err(error) => Writer::Unreadable(error),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Writer::Is(Verdict::Alive, pid) => write!(f, "the writer is alive (process {pid})"),
            Writer::Is(Verdict::Stale, pid) => {
                write!(
                    f,
                    "the writer (process {pid}) gives no sign of life; waiting for it"
                )
            }
            Writer::Is(Verdict::Closed, _) => {
                f.write_str("the writer has closed the store; waiting for the next one")
            }
            Writer::Is(_, pid) => write!(
                f,
                "the writer (process {pid}) is dead, what it published stays readable; waiting for the next one"
            ),
            Writer::NoFile => f.write_str("there is no file at the path; waiting for one"),
            Writer::Unreadable(error) => {
                write!(f, "{}; waiting for a change of that", explained(*error))
            }
        }
    }
}
