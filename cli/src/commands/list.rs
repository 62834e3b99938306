//! The entries, one a line, sorted.

use crate::globals::{Filter, Globals};
use crate::key::{JsonKey, escaped};
use crate::output::{Answer, Failure, Output, say, shown};
use clap::Args;
use erlmcp_shm_reader::Kind;
use serde::Serialize;

#[derive(Args)]
pub struct List {
    #[command(flatten)]
    filter: Filter,
}

struct Row {
    kind: Kind,
    key: Vec<u8>,
    version: u64,
    data_bytes: usize,
    metadata_bytes: usize,
    expired: bool,
}

impl List {
    /// Rows rather than entries are sorted: in pread mode an entry holds a copy of its data.
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let view = globals.open()?.view()?;
        let mut answer = Answer::Yes;
        let mut rows = Vec::new();
        for entry in view.try_iter() {
            match entry {
                Ok(entry) if self.filter.accepts(&entry) => rows.push(Row {
                    kind: entry.kind(),
                    key: entry.key().to_vec(),
                    version: entry.version(),
                    data_bytes: entry.data().len(),
                    metadata_bytes: entry.metadata().len(),
                    expired: entry.is_expired(),
                }),
                Ok(_) => {}
                Err(error) => {
                    say(format_args!("{}: an entry: {error}", shown(&globals.path)));
                    answer = Answer::No;
                }
            }
        }
        rows.sort_unstable_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
        let mut out = Output::new();
        for row in &rows {
            if globals.json {
                out.json(&JsonRow::new(row))?;
            } else {
                out.line(row.text())?;
            }
        }
        out.flush()?;
        if rows.is_empty() && answer == Answer::Yes {
            let path = shown(&globals.path);
            say(format_args!("{path}: {}", self.filter.nothing()));
        }
        Ok(answer)
    }
}

impl Row {
    fn text(&self) -> String {
        format!(
            "{:10} {:>10} {:>10} {:>6} {}",
            self.kind,
            self.version,
            self.data_bytes,
            self.metadata_bytes,
            escaped(&self.key)
        )
    }
}

#[derive(Serialize)]
struct JsonRow<'a> {
    kind: &'static str,
    #[serde(flatten)]
    key: JsonKey<'a>,
    version: u64,
    data_bytes: usize,
    metadata_bytes: usize,
    expired: bool,
}

impl<'a> JsonRow<'a> {
    fn new(row: &'a Row) -> Self {
        Self {
            kind: row.kind.as_str(),
            key: JsonKey::new(&row.key),
            version: row.version,
            data_bytes: row.data_bytes,
            metadata_bytes: row.metadata_bytes,
            expired: row.expired,
        }
    }
}
