//! Puts into a generation that fills up with what is older, over memory of exactly the file's length: what a put
//! leaves is room for all that is still to be copied, to the last byte, and for the tombstones after that.

use super::*;
use crate::generation::heap::{KIND, STARTS, generation, record, tombstone};

const KEYS: u64 = 5;

fn key(number: u64) -> [u8; 12] {
    [number as u8; 12]
}

/// A generation with five keys, of which one is deleted, and the last version.
fn old(start: u64) -> (Generation, u64) {
    let mut old = generation(64 << 10, start);
    for version in 1..=12 {
        let data = vec![version as u8; 200 * version as usize];
        assert!(old.change(&record(version, &key(version % KEYS), &data)));
    }
    assert!(old.change(&tombstone(13, &key(0))));
    (old, 13)
}

/// The same change to both, as `State::apply` makes it; `false` where the one being built has no room.
fn change(current: &mut Generation, build: &mut Build, record: &Record<'_>) -> bool {
    let map = current.map.clone();
    let place = map.place(KIND, record.key, map.hash(KIND, record.key));
    let reserved = place.after(&current.stats, record).reserved_bytes;
    let op = Op::Delete {
        kind: KIND,
        key: record.key,
    };
    build.take(&op, record, reserved) && current.change(record)
}

/// Copies what is older than the build, as its thread does.
fn copy(current: &Generation, build: &mut Build) {
    for slot in current.map.index().slots() {
        let Ok(Some(value)) = slot.load() else {
            continue;
        };
        if value.tombstone || value.version > build.start {
            continue;
        }
        let bytes = current.map.record_of(&value);
        let target = build.next.map.clone();
        let mut claim = target
            .region
            .claim(bytes.len() as u64)
            .expect("room was left");
        claim.bytes().copy_from_slice(bytes);
        build.next.stats.log_tail += bytes.len() as u64;
        assert!(build.next.adopt(claim.seal(), &value), "a slot was left");
    }
}

#[test]
fn puts_leave_room_for_what_is_still_to_be_copied() {
    for start in STARTS {
        let (current, _) = old(start);
        let needed = current.map.header.log_offset()
            + current.stats.live_bytes
            + current.stats.reserved_bytes;
        let mut taken = 0;
        // From just as much as the copies need, up to room for some puts, byte by byte where that matters.
        for size in (needed..needed + 700).step_by(8) {
            let (mut current, mut version) = old(start);
            let live = current.stats;
            let pending = Pending {
                bytes: live.live_bytes,
                keys: live.entries,
                reserved: live.reserved_bytes,
            };
            let mut build = Build {
                next: generation(size, start),
                pending,
                start: version,
                aborted: false,
            };
            assert!(build.next.map.fits(&build.next.stats, &pending));
            loop {
                version += 1;
                let data = vec![7; version as usize % 40];
                let key = key(version % KEYS);
                let record = match version % 3 {
                    0 => tombstone(version, &key),
                    _ => record(version, &key, &data),
                };
                if !change(&mut current, &mut build, &record) {
                    break;
                }
                taken += 1;
            }
            copy(&current, &mut build);
            let mut next = build.next;
            for number in 0..KEYS {
                let found = |generation: &Generation| {
                    let found = generation.find(&key(number));
                    let live = found.filter(|record| !record.tombstone);
                    live.map(|record| (record.version, record.data.to_vec()))
                };
                assert_eq!(
                    found(&next),
                    found(&current),
                    "key {number} of {size} bytes"
                );
            }
            // The reserve takes a tombstone of each key that lives.
            for number in 0..KEYS {
                let lives = next
                    .find(&key(number))
                    .is_some_and(|found| !found.tombstone);
                assert!(!lives || next.change(&tombstone(version + number, &key(number))));
            }
        }
        assert!(taken > 100, "{taken} puts: hardly any found room");
    }
}
