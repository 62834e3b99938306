//! Is everything there, and is it right?

use crate::manifest::Expected;
use crate::node::Node;
use crate::{Result, grouped};
use erlmcp_shm_reader::{Kind, Reader};
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const UPDATES: usize = 1000;

pub struct Files {
    pub count: usize,
    pub bytes: usize,
}

/// Compares each file with the resource of its name.
pub fn files(reader: &Reader, root: &Path, list: &Path) -> Result<Files> {
    let list = std::fs::read(list)?;
    let mut files = Files { count: 0, bytes: 0 };
    for name in list
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let shown = String::from_utf8_lossy(name);
        let view = reader.view()?;
        let key = [b"file:///", name].concat();
        let entry = view.get(Kind::Resource, key)?;
        let entry = entry.ok_or_else(|| format!("no resource for the file {shown}"))?;
        if entry.data() != std::fs::read(root.join(OsStr::from_bytes(name)))? {
            return Err(format!("the resource is not what the file {shown} holds").into());
        }
        files.count += 1;
        files.bytes += entry.data().len();
    }
    Ok(files)
}

/// An entry that was found, and was right.
pub struct Found {
    pub kind: Kind,
    pub data_len: usize,
    pub metadata_len: usize,
    generated: bool,
    ascii: bool,
}

/// Compares the store with the manifest, in both directions.
pub fn entries(reader: &Reader, expected: &[Expected]) -> Result<Vec<Found>> {
    let view = reader.view()?;
    let mut versions = HashSet::new();
    let mut found = Vec::new();
    for Expected {
        kind,
        key,
        data,
        metadata,
    } in expected
    {
        let shown = String::from_utf8_lossy(key);
        let entry = view.get(*kind, key)?;
        let entry = entry.ok_or_else(|| format!("no {kind} {shown}"))?;
        if *kind != Kind::Resource && entry.data() != data {
            return Err(format!("other data than was published: {kind} {shown}").into());
        }
        if entry.metadata() != metadata {
            return Err(format!("other metadata than was published: {kind} {shown}").into());
        }
        if !versions.insert(entry.version()) {
            return Err(format!("a version given twice: {kind} {shown}").into());
        }
        found.push(Found {
            kind: *kind,
            data_len: entry.data().len(),
            metadata_len: entry.metadata().len(),
            // The project's own commands have a dot in their names.
            generated: *kind == Kind::ToolSchema && !key.contains(&b'.'),
            ascii: entry.data().is_ascii(),
        });
    }
    let there = view
        .try_iter()
        .collect::<std::result::Result<Vec<_>, _>>()?
        .len();
    if there != expected.len() {
        let expected = expected.len();
        return Err(format!("{there} entries are there, and {expected} were published").into());
    }
    if let Some(damage) = view.verify()?.damaged.first() {
        return Err(format!("damaged at offset {}: {}", damage.offset, damage.what).into());
    }
    Ok(found)
}

/// How the schemas are made up.
pub fn schema_sizes(found: &[Found]) -> String {
    let schemas = found.iter().filter(|entry| entry.kind == Kind::ToolSchema);
    let (generated, own): (Vec<_>, Vec<_>) = schemas.partition(|entry| entry.generated);
    let mut sizes: Vec<usize> = generated.iter().map(|entry| entry.data_len).collect();
    sizes.sort_unstable();
    let rank = |percent: usize| grouped(sizes[(sizes.len() * percent / 100).max(1) - 1]);
    format!(
        "{} of this project's commands, {} generated\n                     ({} bytes least, median {}, \
         p90 {}, p99 {}, most {}; {} not only ASCII)",
        own.len(),
        generated.len(),
        rank(0),
        rank(50),
        rank(90),
        rank(99),
        rank(100),
        generated.iter().filter(|entry| !entry.ascii).count()
    )
}

/// Has the node publish one resource many times, and looks it up after each time.
pub fn updates(reader: &Reader, node: &mut Node) -> Result<usize> {
    let uri = "demo://updates";
    let mut last = reader.stats()?.version;
    for n in 1..=UPDATES {
        let text = format!("edition {n}");
        node.put(uri, &text)?;
        let view = reader.view()?;
        let entry = view.get(Kind::Resource, uri)?.ok_or("no update was seen")?;
        if entry.data() != text.as_bytes() || entry.version() != last + 1 {
            return Err(format!("edition {n} was published, and an older one was seen").into());
        }
        last = entry.version();
    }
    Ok(UPDATES)
}
