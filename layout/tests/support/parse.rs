// Everything that the format's own code makes of bytes. Shared by the tests and the fuzz targets.

use erlmcp_shm_layout::sync::{AtomicU64, Ordering};
use erlmcp_shm_layout::{
    HEADER_SIZE, Header, HeaderWords, Index, Kind, Probe, Record, SLOT_SIZE, SlotValue, attributes,
    claimed_length, record_length,
};

/// Takes bytes for each thing in turn. What is read, written again is read as the same.
pub fn parse(bytes: &[u8]) {
    header(bytes);
    record(bytes);
    slots(bytes);
}

fn header(bytes: &[u8]) {
    let len = bytes.len() as u64;
    // As long as it says, and as long as it is.
    let said = bytes.get(24..32).map(|n| n.try_into().unwrap());
    for len in [len, said.map_or(0, u64::from_le_bytes)] {
        if let Ok(header) = Header::decode(bytes, len) {
            assert_eq!(Header::decode(&header.encode(), len), Ok(header));
            assert!(header.log_offset() <= header.file_size);
        }
    }
    let words = words(bytes);
    if let Some(words) = words.first_chunk::<{ HEADER_SIZE / 8 }>() {
        let words = HeaderWords::new(words);
        let _ = (words.state(), words.changes(), words.heartbeat());
        let _ = (words.writer(), words.entry_count());
        if let Some(stats) = words.stats() {
            let _ = (stats.fragmentation(), stats.log_needed());
            let _ = (stats.fill(words.max_size()), stats.fill(len));
            words.set_stats(&stats);
            assert_eq!(words.stats(), Some(stats));
        }
    }
}

fn record(bytes: &[u8]) {
    // As it is, and with a checksum that is right.
    let mut signed = bytes.to_vec();
    if let Some(total) = record_length(bytes) {
        assert_eq!(
            claimed_length(bytes, bytes.len() as u64),
            Some(total as u64)
        );
        let _ = attributes(bytes);
        Record::sign(&mut signed[..total]);
    }
    for bytes in [bytes, &signed] {
        let Some(record) = Record::read(bytes) else {
            continue;
        };
        let total = record.shape().total;
        assert_eq!(record_length(bytes), Some(total as usize));
        let mut again = vec![0xff; total as usize];
        record.write(&mut again);
        assert_eq!(Record::read(&again), Some(record));
    }
}

fn slots(bytes: &[u8]) {
    let words = words(bytes);
    for half in words.as_chunks::<3>().0 {
        let half = [0, 1, 2].map(|i| half[i].load(Ordering::Relaxed));
        if let Some(value) = SlotValue::decode(half) {
            assert_eq!(SlotValue::decode(value.encode()), Some(value));
        }
    }
    let slots = words.len() / (SLOT_SIZE / 8);
    let Some(slots) = slots.checked_ilog2().map(|log| 1 << log) else {
        return;
    };
    let words = &words[..slots * (SLOT_SIZE / 8)];
    let index = Index::new(words).expect("a power of two of slots");
    for slot in index.slots() {
        let Ok(Some(value)) = slot.load() else {
            continue;
        };
        let hash = slot.hash();
        for kind in Kind::ALL {
            let mut seen = 0;
            let probe = index.probe(hash, kind, value.key_len, |found| {
                seen += 1;
                (found.kind, found.key_len) == (kind, value.key_len)
                    && found.version == value.version
            });
            assert!(seen <= slots);
            if let Ok(Probe::Found(at, found)) = probe {
                assert_eq!(at.load(), Ok(Some(found)));
            }
        }
    }
}

fn words(bytes: &[u8]) -> Vec<AtomicU64> {
    let words = bytes.as_chunks::<8>().0.iter();
    words
        .map(|w| AtomicU64::new(u64::from_le_bytes(*w)))
        .collect()
}
