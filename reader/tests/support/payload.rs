// Values that tell whether they are whole: every byte follows from the key and a number.

/// The value number `n` of a key: the number, and a stretch of bytes whose length and content
/// follow from it.
pub fn payload(key: &[u8], n: u64) -> Vec<u8> {
    let seed = key
        .iter()
        .fold(n, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    let mut value = n.to_le_bytes().to_vec();
    value.extend((0..seed % 1500).map(|i| (seed >> (i % 56)) as u8 ^ i as u8));
    value
}

/// The number of a value. Panics if it is torn, or another key's.
pub fn number(key: &[u8], value: &[u8]) -> u64 {
    let n = u64::from_le_bytes(value[..8].try_into().expect("a number"));
    assert!(
        value == payload(key, n),
        "a torn or foreign value for {key:?}, number {n}"
    );
    n
}
