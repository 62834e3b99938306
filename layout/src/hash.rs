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
    let seed = seed.wrapping_add(kind as u64);
    // Up to 240 bytes are hashed without a secret, and this function then compiles to half the code.
    // For longer keys it asks for one, which the other derives from the seed.
    let hash = XxHash3_64::oneshot_with_seed_and_secret(seed, &[], key);
    hash.unwrap_or_else(|_| XxHash3_64::oneshot_with_seed(seed, key))
        .max(1)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_have_the_published_hash() {
        let key: Vec<u8> = (0..1000u32).map(|i| (i * 7) as u8).collect();
        for len in 0..key.len() {
            let hash = XxHash3_64::oneshot_with_seed(9, &key[..len]);
            assert_eq!(key_hash(8, Kind::Resource, &key[..len]), hash);
        }
    }
}
