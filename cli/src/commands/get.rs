//! One entry.

use crate::globals::{Globals, kind_parser};
use crate::key::{JsonKey, Key, hex, quoted};
use crate::output::{Answer, Failure, Output, embedded, say, shown};
use clap::Args;
use erlmcp_shm_reader::{Entry, Kind};
use serde::Serialize;
use serde_json::value::RawValue;

#[derive(Args)]
pub struct Get {
    #[arg(value_parser = kind_parser())]
    kind: Kind,
    #[command(flatten)]
    key: WhichKey,
    /// Write the metadata instead of the data
    #[arg(long)]
    metadata: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct WhichKey {
    /// The key, byte for byte
    #[arg(value_parser = Key::raw_parser())]
    key: Option<Key>,
    /// The key with \xNN and \\ for bytes as `list` prints them
    #[arg(long, value_name = "KEY", value_parser = Key::escaped_parser())]
    escaped: Option<Key>,
    /// The key as hex digits
    #[arg(long, value_name = "HEX", value_parser = Key::from_hex)]
    key_hex: Option<Key>,
}

impl Get {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let WhichKey {
            key: raw,
            escaped: escapes,
            key_hex,
        } = &self.key;
        let key = [raw, escapes, key_hex].into_iter().flatten().next();
        let key = key.expect("clap asks for one of them").bytes();
        // Not mapped: then the record's checksum is looked at too, and what is printed was published.
        let view = globals.options().pread(true).open(&globals.path)?.view()?;
        let Some(entry) = view.get(self.kind, key)? else {
            let path = shown(&globals.path);
            say(format_args!(
                "{path}: no {} {}: `erlmcp-shm list` shows what there is",
                self.kind,
                quoted(key)
            ));
            return Ok(Answer::No);
        };
        let mut out = Output::new();
        if globals.json {
            out.json(&JsonEntry::new(&entry, self.metadata))?;
        } else if self.metadata {
            out.data(entry.metadata())?;
        } else {
            out.data(entry.data())?;
        }
        out.flush()?;
        if entry.is_expired() {
            say("the entry has expired");
        }
        Ok(Answer::Yes)
    }
}

#[derive(Serialize)]
struct JsonEntry<'a> {
    kind: &'static str,
    #[serde(flatten)]
    key: JsonKey<'a>,
    version: u64,
    scope: &'static str,
    expired: bool,
    /// In ns of the host's CLOCK_BOOTTIME.
    expires_at_ns: Option<u64>,
    #[serde(flatten)]
    metadata: JsonMetadata<'a>,
    #[serde(flatten)]
    data: Option<JsonData<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum JsonMetadata<'a> {
    /// `null` where there is none.
    Metadata(Option<Box<RawValue>>),
    /// What the writer in Rust was given and is no JSON.
    MetadataText(&'a str),
    MetadataHex(String),
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum JsonData<'a> {
    Data(&'a str),
    DataHex(String),
}

impl<'a> JsonEntry<'a> {
    fn new(entry: &'a Entry<'_>, only_metadata: bool) -> Self {
        Self {
            kind: entry.kind().as_str(),
            key: JsonKey::new(entry.key()),
            version: entry.version(),
            scope: entry.scope().as_str(),
            expired: entry.is_expired(),
            expires_at_ns: entry.expires_at(),
            metadata: JsonMetadata::new(entry.metadata()),
            data: (!only_metadata).then(|| JsonData::new(entry.data())),
        }
    }
}

impl<'a> JsonMetadata<'a> {
    fn new(metadata: &'a [u8]) -> Self {
        match (metadata, embedded(metadata), str::from_utf8(metadata)) {
            ([], _, _) => JsonMetadata::Metadata(None),
            (_, Some(json), _) => JsonMetadata::Metadata(Some(json)),
            (_, None, Ok(text)) => JsonMetadata::MetadataText(text),
            (_, None, Err(_)) => JsonMetadata::MetadataHex(hex(metadata)),
        }
    }
}

impl<'a> JsonData<'a> {
    fn new(data: &'a [u8]) -> Self {
        match str::from_utf8(data) {
            Ok(text) => JsonData::Data(text),
            Err(_) => JsonData::DataHex(hex(data)),
        }
    }
}
