//! The published hash: XXH3-64, so that a reader in any language can be written.

use crate::Kind;
use twox_hash::XxHash3_64;

/// The hash of a key: XXH3-64 of its bytes under the generation's seed plus the kind's number
/// (wrapping). 0 marks an empty slot, so a hash of 0 becomes 1.
///
/// ```
/// use erlmcp_shm_layout::{Kind, key_hash};
/// assert_ne!(key_hash(7, Kind::Resource, b"x"), key_hash(7, Kind::ToolSchema, b"x"));
/// ```
#[inline(always)]
pub fn key_hash(seed: u64, kind: Kind, key: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed.wrapping_add(kind as u64), key).max(1)
}

/// The checksum of records and of the header's fixed part: XXH3-64, seed 0.
///
/// ```
/// assert_eq!(erlmcp_shm_layout::checksum(b""), 0x2d06_8005_38d3_94c2);
/// ```
#[inline]
pub fn checksum(bytes: &[u8]) -> u64 {
    XxHash3_64::oneshot(bytes)
}
