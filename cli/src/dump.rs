//! A store as lines of JSON: what `dump` writes and `load` reads.
//!
//! ```text
//! {"erlmcp_shm_dump":1,"boot_id":"…"}
//! {"kind":"resource","key":"file:///motd","version":7,"metadata":"{\"mime_type\":\"text/plain\"}","data":"hello"}
//! {"entries":1}
//! ```
//!
//! Key, metadata and data are strings of exactly the bytes that they stand for, or base64 of them in `key_base64`,
//! `metadata_base64`, `data_base64` where they are no UTF-8. `"scope":"private"` and `expires_at_ns` are there where
//! they say something; a time to expire is one of the boot in the first line, and past in any other. The last line
//! tells a whole file from one that was cut off.

use crate::key::escaped;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use erlmcp_shm_reader::{Entry, Kind, Scope};
use erlmcp_shm_writer::{Attributes, Writer, boottime_now};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;

/// Which form the lines have.
const FORM: u32 = 1;
/// The longest key.
const MAX_KEY: usize = u16::MAX as usize;
/// Long ago, by the clock of any boot.
const LONG_AGO: u64 = 1;

/// A line: the first, the last, or one of an entry, depending on which fields it has.
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    erlmcp_shm_dump: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    boot_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entries: Option<u64>,
}

impl Line {
    pub fn first() -> Self {
        Self {
            erlmcp_shm_dump: Some(FORM),
            boot_id: Some(boot_id()),
            ..Self::default()
        }
    }

    pub fn last(entries: u64) -> Self {
        Self {
            entries: Some(entries),
            ..Self::default()
        }
    }

    pub fn of(entry: &Entry<'_>) -> Self {
        let (key, key_base64) = text_or_base64(entry.key());
        let (metadata, metadata_base64) = text_or_base64(entry.metadata());
        let (data, data_base64) = text_or_base64(entry.data());
        // What expired with an earlier boot may have a time that this one has yet to reach.
        let long_ago = |at| entry.is_expired() && at > boottime_now();
        Self {
            kind: Some(entry.kind().as_str().into()),
            key,
            key_base64,
            version: Some(entry.version()),
            scope: (entry.scope() == Scope::Private).then(|| entry.scope().as_str().into()),
            expires_at_ns: entry
                .expires_at()
                .map(|at| if long_ago(at) { LONG_AGO } else { at }),
            metadata,
            metadata_base64,
            data,
            data_base64,
            ..Self::default()
        }
    }

    fn into_loaded(self, same_boot: bool) -> Result<Loaded, String> {
        let kind = self
            .kind
            .ok_or("neither an entry nor the first or last line of a dump")?;
        let key = bytes("key", self.key, self.key_base64)?.ok_or("it has no key")?;
        if !(1..=MAX_KEY).contains(&key.len()) {
            return Err(format!(
                "a key of {} bytes: it must have 1 to {MAX_KEY}",
                key.len()
            ));
        }
        let data = bytes("data", self.data, self.data_base64)?.ok_or("it has no data")?;
        let metadata = bytes("metadata", self.metadata, self.metadata_base64)?.unwrap_or_default();
        if u32::try_from(data.len().max(metadata.len())).is_err() {
            return Err("data or metadata of 4 GiB or more".into());
        }
        let version = self.version.unwrap_or(0);
        if version > Writer::HIGHEST_RAISED {
            return Err("a version beyond all that a store gives out".into());
        }
        let scope = match self.scope.as_deref() {
            None | Some("public") => Scope::Public,
            Some("private") => Scope::Private,
            Some(_) => return Err("scope must be public or private".into()),
        };
        let expires_at = self.expires_at_ns.unwrap_or(0);
        Ok(Loaded {
            kind: kind.parse().map_err(|error| format!("kind: {error}"))?,
            key,
            data,
            metadata,
            version,
            attributes: Attributes {
                expires_at: if same_boot {
                    expires_at
                } else {
                    expires_at.min(LONG_AGO)
                },
                scope,
            },
        })
    }
}

fn text_or_base64(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(BASE64.encode(bytes))),
    }
}

fn bytes(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("it has both {name} and {name}_base64")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(base64)) => match BASE64.decode(base64) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => Err(format!("{name}_base64: {error}")),
        },
        (None, None) => Ok(None),
    }
}

/// The boot of the host, by whose clock entries expire; empty where that cannot be told.
fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.unwrap_or_default().trim().into()
}

/// An entry that a line stands for.
#[derive(Debug)]
pub struct Loaded {
    pub kind: Kind,
    pub key: Vec<u8>,
    pub data: Vec<u8>,
    pub metadata: Vec<u8>,
    /// The one that it had; 0 where the line has none.
    pub version: u64,
    pub attributes: Attributes,
}

/// What is wrong with a line, counted from 1.
pub type Fault = (usize, String);

/// The entries of a whole dump, in the order of their versions; or everything that is wrong with it.
///
/// With `partial` the first and last line may be missing, and a line that the end of the file cuts off is left out.
pub fn parse(text: &[u8], partial: bool) -> Result<Vec<Loaded>, Vec<Fault>> {
    let mut reading = Reading::default();
    let mut faults = Vec::new();
    let lines = text.split_inclusive(|byte| *byte == b'\n');
    for (number, line) in (1..).zip(lines) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        reading.lines += 1;
        let cut_off = !line.ends_with(b"\n");
        match reading.line(number, line, partial) {
            Err(_) if cut_off && partial => {}
            Err(_) if cut_off => {
                faults.push((number, "the file ends in the midst of this line".into()));
                return Err(faults);
            }
            Err(what) => faults.push((number, what)),
            Ok(()) => {}
        }
    }
    if !partial && faults.is_empty() && !reading.ended {
        let number = text.iter().filter(|byte| **byte == b'\n').count() + 1;
        faults.push((number, "the last line of a dump is missing here".into()));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut entries = reading.entries;
    // Stable: lines without a version stay in their order.
    entries.sort_by_key(|entry| entry.version);
    Ok(entries)
}

#[derive(Default)]
struct Reading {
    entries: Vec<Loaded>,
    seen: HashMap<(Kind, Vec<u8>), usize>,
    /// That were not empty.
    lines: u64,
    begun: bool,
    same_boot: bool,
    ended: bool,
}

impl Reading {
    fn line(&mut self, number: usize, text: &[u8], partial: bool) -> Result<(), String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| {
            // The error's own line is always 1.
            let text = error.to_string();
            let what = text.split(" at line ").next().unwrap_or(&text);
            format!("column {}: {what}", error.column())
        })?;
        if self.ended {
            return Err("it stands behind the last line of a dump".into());
        }
        if let Some(form) = line.erlmcp_shm_dump {
            return self.first(form, line.boot_id);
        }
        if !std::mem::replace(&mut self.begun, true) && !partial {
            return Err("the first line of a dump is missing before it".into());
        }
        if line.kind.is_none()
            && let Some(entries) = line.entries
        {
            self.ended = true;
            // Faulty ones too, but neither the first line nor this one.
            let here = self.lines.saturating_sub(2);
            return match entries == here {
                false if !partial => Err(format!(
                    "{entries} entries were dumped, and here are {here}"
                )),
                _ => Ok(()),
            };
        }
        let entry = line.into_loaded(self.same_boot)?;
        match self.seen.entry((entry.kind, entry.key.clone())) {
            Place::Occupied(first) => {
                let (kind, key) = first.key();
                let (key, line) = (escaped(key), first.get());
                return Err(format!("{kind} {key} is on line {line} already"));
            }
            Place::Vacant(place) => place.insert(number),
        };
        self.entries.push(entry);
        Ok(())
    }

    fn first(&mut self, form: u32, boot: Option<String>) -> Result<(), String> {
        if std::mem::replace(&mut self.begun, true) {
            return Err("the first line of a dump stands in the midst of it".into());
        }
        if form != FORM {
            return Err(format!("a dump of form {form}: this program knows {FORM}"));
        }
        self.same_boot = boot.is_some_and(|id| !id.is_empty() && id == boot_id());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole() -> Vec<u8> {
        let entries = (1..5).map(|n| Line {
            kind: Some("resource".into()),
            key: Some(format!("key{n}")),
            version: Some(n),
            data_base64: Some(BASE64.encode([n as u8, 0xff])),
            ..Line::default()
        });
        let lines = [Line::first()]
            .into_iter()
            .chain(entries)
            .chain([Line::last(4)]);
        let text = lines.map(|line| serde_json::to_string(&line).unwrap() + "\n");
        text.collect::<String>().into_bytes()
    }

    proptest! {
        /// Whatever becomes of a dump: its entries, or a line to look at.
        #[test]
        fn damaged(at in any::<prop::sample::Index>(), length in 0..9_usize, put in prop::collection::vec(any::<u8>(), 0..9), partial: bool) {
            let mut text = whole();
            let at = at.index(text.len());
            let end = text.len().min(at + length);
            text.splice(at..end, put);
            let lines = text.split(|byte| *byte == b'\n').count();
            match parse(&text, partial) {
                Ok(entries) => {
                    // What is not whole is taken only where that is asked for.
                    prop_assert!(partial || entries.len() == 4, "{}", entries.len());
                    prop_assert!(entries.is_sorted_by_key(|entry| entry.version));
                }
                Err(faults) => {
                    prop_assert!(!faults.is_empty());
                    prop_assert!(faults.iter().all(|(line, _)| (1..=lines).contains(line)), "{faults:?}");
                }
            }
        }
    }
}
