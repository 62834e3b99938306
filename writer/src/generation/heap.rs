//! Appending, publishing, lookup and copying, over memory of exactly the file's length: a sanitizer
//! or an interpreter that checks every access sees whichever touches a byte too many.

use super::*;
use erlmcp_shm_layout::words;

/// What sequences begin at: the usual start, and one so late that they wrap meanwhile.
pub const STARTS: [u64; 2] = [0, u64::MAX - 3];
pub const KIND: Kind = Kind::Resource;

/// An empty generation in memory of its own.
pub fn generation(size: u64, start: u64) -> Generation {
    let header = Header {
        seed: size,
        ..Header::new(size, 16).unwrap()
    };
    let region = Region::heap(size as usize, header.log_offset());
    for (word, bytes) in region
        .header_words()
        .iter()
        .zip(header.encode().as_chunks::<8>().0)
    {
        word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
    }
    region.header_words()[words::STATS / 8].store(start, Ordering::Relaxed);
    let index = region.words(HEADER_SIZE, header.index_size() as usize / 8);
    for sequence in index.iter().step_by(SLOT_SIZE / 8) {
        sequence.store(start, Ordering::Relaxed);
    }
    let map = Mapped {
        region,
        header,
        // Held open and never looked at.
        file: File::open("/dev/null").unwrap(),
        id: (0, 0),
        populated: AtomicU64::new(0),
        huge: AtomicU64::new(0),
        hints: Hints::new(header.slot_count),
    };
    Generation::new(map, &Stats::default())
}

/// What a put of these makes.
pub fn record<'a>(version: u64, key: &'a [u8], data: &'a [u8]) -> Record<'a> {
    Record {
        kind: KIND,
        version,
        tombstone: false,
        attributes: Default::default(),
        key,
        data,
        metadata: b"{}",
    }
}

/// What a delete makes.
pub fn tombstone(version: u64, key: &[u8]) -> Record<'_> {
    Record {
        tombstone: true,
        metadata: b"",
        ..record(version, key, b"")
    }
}

impl Generation {
    /// Publishes as the writer does. `false` where log or index have no room.
    pub fn change(&mut self, record: &Record<'_>) -> bool {
        let map = &self.map;
        let hash = map.hash(record.kind, record.key);
        map.fetch_slot(hash);
        map.fetch_old_key(hash, record.key.len() as u16);
        let place = map.place(record.kind, record.key, hash);
        let after = place.after(&self.stats, record);
        if !place.is_reachable() || !map.fits(&after, &Pending::default()) {
            return false;
        }
        map.publish(&place, record, map.append(record));
        self.stats = after;
        self.stats.version = record.version;
        self.announce(record.version);
        true
    }

    /// The record that a lookup of the key finds, a tombstone's too.
    pub fn find(&self, key: &[u8]) -> Option<Record<'_>> {
        let value = self.map.place(KIND, key, self.map.hash(KIND, key)).old?;
        let found = Record::read(self.map.record_of(&value)).expect("a whole record");
        assert_eq!(found.slot_value(value.record), value);
        Some(found)
    }

    /// The figures as a reader sees them, and the change counter.
    fn announced(&self) -> (Stats, u64) {
        let words = self.map.words();
        (words.stats().expect("no other thread"), words.changes())
    }
}

#[test]
fn hits_misses_and_tombstones() {
    for start in STARTS {
        let mut generation = generation(8192, start);
        // Of each key so many publishes that its sequence, and that of the figures, wraps.
        for version in 1..=30 {
            let key = [(version % 5) as u8; 9];
            let data = vec![version as u8; version as usize];
            assert!(generation.change(&record(version, &key, &data)));
            let found = generation.find(&key).unwrap();
            assert_eq!((found.version, found.data), (version, &data[..]));
            assert_eq!(generation.announced(), (generation.stats, version));
        }
        let gone = tombstone(31, &[0; 9]);
        assert!(generation.change(&gone));
        assert!(generation.find(&[0; 9]).unwrap().tombstone);
        let place = |key: &[u8]| {
            generation
                .map
                .place(KIND, key, generation.map.hash(KIND, key))
        };
        assert!(place(&[0; 9]).live().is_none() && place(&[1; 9]).live().is_some());
        assert!(generation.find(&[9; 9]).is_none() && generation.find(&[1; 8]).is_none());
        let Stats {
            entries,
            used_slots,
            deletes,
            ..
        } = generation.stats;
        assert_eq!((entries, used_slots, deletes), (4, 5, 1));
    }
}

/// The next records' lines are asked for, and the next record's place is the end of the file.
#[test]
fn the_log_is_filled_to_its_last_byte() {
    for start in STARTS {
        let mut generation = generation(8192 + 5, start);
        let mut version = 0;
        let key = [1; 9];
        let mut publish = |generation: &mut Generation, data: &[u8]| {
            version += 1;
            generation.change(&record(version, &key, data))
        };
        while publish(&mut generation, &[7; 500]) {}
        let room = |generation: &Generation| {
            let left = generation.map.header.file_size - generation.stats.log_tail;
            left - RecordShape::tombstone(9)
        };
        while publish(&mut generation, &[8; 1]) {}
        assert!(room(&generation) < record(0, &key, &[8]).shape().total);
        let before = generation.find(&key).unwrap().data;
        assert_eq!(before, [8]);
        // The reserve takes a tombstone, and that is all.
        let gone = tombstone(1000, &key);
        assert!(generation.change(&gone));
        while let Some(mut claim) = generation.map.region.claim(1) {
            claim.bytes().fill(0);
            claim.seal();
        }
        assert!(generation.find(&key).unwrap().tombstone);
    }
}

/// As a build and a recovery do it: room, bytes, and the slot, the checksum carried along.
#[test]
fn what_is_copied_is_the_same() {
    for start in STARTS {
        let mut old = generation(64 << 10, start);
        for version in 1..=20 {
            let key = [(version % 7) as u8; 12];
            assert!(old.change(&record(version, &key, &[version as u8; 1000])));
        }
        // Just as long as it takes: the last copy ends with the last byte.
        let mut next = generation(old.map.header.log_offset() + old.stats.live_bytes, start);
        for slot in old.map.index().slots() {
            let Ok(Some(value)) = slot.load() else {
                continue;
            };
            let bytes = old.map.record_of(&value);
            let mut claim = next.map.region.claim(bytes.len() as u64).unwrap();
            claim.bytes().copy_from_slice(bytes);
            let at = claim.seal();
            next.stats.log_tail += bytes.len() as u64;
            assert!(next.adopt(at, &value));
        }
        assert!(next.map.region.claim(1).is_none(), "not just as long");
        for key in 0..7 {
            assert_eq!(next.find(&[key; 12]), old.find(&[key; 12]));
        }
        let figures = |stats: &Stats| (stats.entries, stats.live_bytes, stats.reserved_bytes);
        assert_eq!(figures(&next.stats), figures(&old.stats));
        next.announce(20);
        assert_eq!(next.announced(), (next.stats, 20));
    }
}

/// A record that finds no place is taken back, and its bytes are the next one's.
#[test]
fn a_record_without_a_place_is_retracted() {
    let mut generation = generation(8192, 0);
    let first = record(1, b"key", b"data");
    let hash = generation.map.hash(KIND, first.key);
    generation.map.append(&first).retract();
    assert!(generation.find(b"key").is_none());
    assert!(generation.change(&record(2, b"key", b"other")));
    let at = generation.map.header.log_offset();
    let place = generation.map.place(KIND, b"key", hash);
    assert_eq!(place.live().unwrap().record, at);
    assert_eq!(generation.find(b"key").unwrap().data, b"other");
}
