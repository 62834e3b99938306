//! The node's manifest: what must be in the store, in the form
//! `[Type:8][KeyLen:16][Key][DataLen:32][Data][MetadataLen:32][Metadata]`, big-endian.

use crate::Result;
use erlmcp_shm_reader::Kind;
use std::path::Path;

/// An entry that must be there.
pub struct Expected {
    pub kind: Kind,
    pub key: Vec<u8>,
    /// Empty for resources: their bytes are in the file system.
    pub data: Vec<u8>,
    pub metadata: Vec<u8>,
}

/// Reads a manifest.
pub fn read(path: &Path) -> Result<Vec<Expected>> {
    let bytes = std::fs::read(path)?;
    let mut rest = &bytes[..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        entries.push(entry(&mut rest).ok_or("the manifest is damaged")?);
    }
    Ok(entries)
}

fn entry(rest: &mut &[u8]) -> Option<Expected> {
    Some(Expected {
        kind: Kind::from_u8(*rest.split_off_first()?)?,
        key: prefixed::<2>(rest)?,
        data: prefixed::<4>(rest)?,
        metadata: prefixed::<4>(rest)?,
    })
}

/// Bytes behind their length, which has N bytes.
fn prefixed<const N: usize>(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let length = rest.split_off(..N)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    Some(rest.split_off(..length)?.to_vec())
}
