//! Every record and slot, checked.

use crate::globals::Globals;
use crate::key::{JsonKey, escaped};
use crate::output::{Answer, Failure, Output};
use crate::progress::{Progress, Unit};
use clap::Args;
use erlmcp_shm_reader::{Damage, Verification};
use serde::Serialize;
use std::io;

#[derive(Args)]
pub struct Verify {}

impl Verify {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let mut progress = Progress::new("checking", Unit::Bytes);
        let view = globals.open()?.view()?;
        let found = view.verify_with(|done, of| progress.at(done, Some(of)))?;
        drop(progress);
        let mut out = Output::new();
        let printed = if globals.json {
            out.json(&JsonVerification::new(&found))
        } else {
            text(&mut out, &found)
        };
        match printed.and_then(|()| out.flush()) {
            // The verdict counts, whether or not somebody reads the details to their end.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ if found.is_sound() => Ok(Answer::Yes),
            _ => Ok(Answer::No),
        }
    }
}

fn text(out: &mut Output, found: &Verification) -> io::Result<()> {
    for damage in &found.damaged {
        let what = format!("damaged at offset {}: {}", damage.offset, damage.what);
        match (damage.kind, &damage.key) {
            (Some(kind), Some(key)) => out.line(format_args!("{what}: {kind} {}", escaped(key))),
            _ => out.line(what),
        }?;
    }
    let verdict = match found.damaged.len() {
        0 => "sound".into(),
        n => format!("damaged, places: {n}"),
    };
    out.line(format_args!(
        "{verdict}: {} records in {} bytes of log, {} entries",
        found.records, found.log_bytes, found.entries
    ))
}

#[derive(Serialize)]
struct JsonVerification<'a> {
    sound: bool,
    records: u64,
    log_checked: u64,
    entries: u64,
    damaged: Vec<JsonDamage<'a>>,
}

#[derive(Serialize)]
struct JsonDamage<'a> {
    offset: u64,
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(flatten)]
    key: Option<JsonKey<'a>>,
}

impl<'a> JsonVerification<'a> {
    fn new(found: &'a Verification) -> Self {
        Self {
            sound: found.is_sound(),
            records: found.records,
            log_checked: found.log_bytes,
            entries: found.entries,
            damaged: found.damaged.iter().map(JsonDamage::new).collect(),
        }
    }
}

impl<'a> JsonDamage<'a> {
    fn new(damage: &'a Damage) -> Self {
        Self {
            offset: damage.offset,
            what: damage.what,
            kind: damage.kind.map(|kind| kind.as_str()),
            key: damage.key.as_deref().map(JsonKey::new),
        }
    }
}
