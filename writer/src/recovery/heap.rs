//! Reading a damaged file back, over memory of exactly its length: whatever byte of it is wrong, nothing past its end is
//! looked at, what is found is the newest there was, and no more than one entry is lost.

use super::*;
use crate::generation::heap::{STARTS, generation, record, tombstone};

const KEYS: u64 = 6;

fn key(number: u64) -> [u8; 9] {
    [number as u8; 9]
}

fn data(version: u64) -> Vec<u8> {
    vec![version as u8; 1300 + version as usize]
}

/// A store's bytes, the last of which belongs to its last record, and what its keys hold.
fn image(start: u64) -> (Vec<u8>, HashMap<u64, u64>) {
    let mut newest = HashMap::new();
    let fill = |generation: &mut Generation, newest: &mut HashMap<u64, u64>| {
        for version in 1..=14 {
            let data = data(version);
            assert!(generation.change(&record(version, &key(version % KEYS), &data)));
            newest.insert(version % KEYS, version);
        }
        assert!(generation.change(&tombstone(15, &key(3))));
        newest.remove(&3);
    };
    let mut roomy = generation(64 << 10, start);
    fill(&mut roomy, &mut newest);
    let used = roomy.stats.log_tail;
    let mut exact = generation(used + roomy.stats.reserved_bytes, start);
    fill(&mut exact, &mut newest);
    exact.announce(20);
    // The tombstones' reserve is a record as well, so that the log goes on to the end.
    let left = exact.map.header.file_size - used;
    let mut rest = exact.map.region.claim(left).unwrap();
    rest.bytes().fill(0);
    rest.seal();
    let words = |count| exact.map.region.words(0, count).iter();
    let head = exact.map.header.log_offset();
    let mut bytes: Vec<u8> = words(head as usize / 8)
        .flat_map(|word| {
            word.load(std::sync::atomic::Ordering::Relaxed)
                .to_le_bytes()
        })
        .collect();
    bytes.extend(
        exact
            .map
            .region
            .sealed(head, exact.map.header.file_size - head),
    );
    (bytes, newest)
}

/// The file with these bytes, as the next writer finds it; `None` where its header is refused.
fn remains(bytes: &[u8]) -> Option<Remains> {
    let header = Header::decode(bytes.get(..HEADER_SIZE)?, bytes.len() as u64).ok()?;
    let head = header.log_offset();
    let region = Region::heap(bytes.len(), head);
    let words = region.words(0, head as usize / 8);
    for (word, bytes) in words.iter().zip(bytes.as_chunks().0) {
        word.store(
            u64::from_le_bytes(*bytes),
            std::sync::atomic::Ordering::Relaxed,
        );
    }
    let mut log = region.claim(bytes.len() as u64 - head).unwrap();
    log.bytes().copy_from_slice(&bytes[head as usize..]);
    log.seal();
    let map = Mapped {
        region,
        header,
        // Held open and never looked at.
        file: File::open("/dev/null").unwrap(),
        id: (0, 0),
        populated: AtomicU64::new(0),
        huge: AtomicU64::new(0),
        hints: Hints::default(),
    };
    let stats = map.words().stats().unwrap_or_default();
    Some(Remains { map, stats })
}

/// What a writer that starts on it has, by key; the copies fill their generation to its last byte.
fn recovered(remains: &Remains, start: u64) -> HashMap<u64, u64> {
    let inventory = remains.take_inventory();
    let size = HEADER_SIZE as u64 + 16 * 64 + inventory.stats.live_bytes;
    let mut next = generation(size.max(erlmcp_shm_layout::MIN_FILE_SIZE), start);
    assert!(remains.copy_into(&inventory, &mut next));
    let live = |number| {
        let found = next.find(&key(number))?;
        let version = found.version;
        assert_eq!(found.data, data(version));
        Some((number, version))
    };
    let live: HashMap<u64, u64> = (0..KEYS).filter_map(live).collect();
    assert_eq!(live.len() as u64, inventory.stats.entries);
    live
}

/// How far the bytes that are tried stand apart: 1 tries them all.
fn apart() -> usize {
    std::env::var("BYTES_APART").map_or(17, |n| n.parse().unwrap())
}

#[test]
fn any_one_byte_may_be_wrong() {
    for start in STARTS {
        let (bytes, newest) = image(start);
        assert_eq!(recovered(&remains(&bytes).unwrap(), start), newest);
        let (mut refused, mut whole, mut lost_one) = (0, 0, 0);
        for at in (0..bytes.len()).step_by(apart()) {
            let mut bytes = bytes.clone();
            bytes[at] ^= [0x01, 0x80, 0xff][at % 3];
            let Some(remains) = remains(&bytes) else {
                refused += 1;
                continue;
            };
            let found = recovered(&remains, start);
            for (number, version) in &found {
                assert_eq!(newest.get(number), Some(version), "byte {at}");
            }
            match newest.len() - found.len() {
                0 => whole += 1,
                1 => lost_one += 1,
                lost => panic!("{lost} entries lost by byte {at}"),
            }
        }
        println!("{refused} refused, {whole} whole, {lost_one} without one entry");
        assert!(refused > 0 && whole > 0 && lost_one > 0);
    }
}

/// A log that ends anywhere, as one does that was not allocated in full.
#[test]
fn the_log_may_end_anywhere() {
    let (bytes, newest) = image(STARTS[0]);
    let head = remains(&bytes).unwrap().map.header.log_offset() as usize;
    let mut before = 0;
    for end in (head..=bytes.len()).step_by(apart()) {
        let mut bytes = bytes.clone();
        bytes[end..].fill(0);
        let found = recovered(&remains(&bytes).unwrap(), STARTS[0]);
        // The slots behind name what is gone, so nothing older comes in its place.
        assert!(
            found
                .iter()
                .all(|(number, version)| newest.get(number) == Some(version))
        );
        assert!(found.len() >= before);
        before = found.len();
    }
    assert_eq!(before, newest.len());
}
