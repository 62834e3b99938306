// Mutations for property tests: the values that matter more often than chance would have them.

use super::mutation::{Mutation, SIZE};
use erlmcp_shm_layout::MAX_FILE_SIZE;
use proptest::prelude::*;

fn number() -> impl Strategy<Value = u64> {
    let edges = [
        0,
        1,
        7,
        8,
        255,
        SIZE - 8,
        SIZE,
        SIZE + 8,
        MAX_FILE_SIZE - 8,
        1 << 62,
        u64::MAX - 7,
        u64::MAX,
    ];
    prop_oneof![
        prop::sample::select(edges.to_vec()),
        any::<u64>(),
        (0u32..64).prop_map(|bit| 1 << bit),
        0..SIZE,
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use Mutation::*;
    let at = any::<u16>;
    prop_oneof![
        (at(), number()).prop_map(|(i, n)| Fixed(i, n)),
        (at(), number()).prop_map(|(i, n)| Moving(i, n)),
        (at(), number()).prop_map(|(i, n)| Slot(i, n)),
        (at(), number()).prop_map(|(i, n)| Log(i, n)),
        (any::<u8>(), at(), number()).prop_map(|(i, at, n)| Record(i, at, n)),
        (any::<u8>(), 0u16..40, number()).prop_map(|(i, at, n)| Record(i, at, n)),
        (at(), any::<u8>()).prop_map(|(i, n)| Byte(i, n)),
        (
            at(),
            number(),
            any::<u8>(),
            at(),
            any::<u32>(),
            any::<u32>()
        )
            .prop_map(|(i, place, kind, key, data, meta)| Value(i, place, kind, key, data, meta)),
        (at(), number(), any::<u8>(), 0u16..4, 0u32..99, 0u32..9)
            .prop_map(|(i, place, kind, key, data, meta)| Value(i, place, kind, key, data, meta)),
        (at(), at()).prop_map(|(i, j)| Swap(i, j)),
        at().prop_map(Cut),
        any::<u16>().prop_map(Grow),
    ]
}

/// One to five of them.
pub fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    prop::collection::vec(mutation(), 1..6)
}
