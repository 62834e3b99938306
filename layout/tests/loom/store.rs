//! What the models share: plain bytes that loom watches, and slots that name them.

use erlmcp_shm_layout::sync::{AtomicU64, Ordering};
use erlmcp_shm_layout::{Index, Kind, Probe, SlotValue};
use loom::cell::UnsafeCell;

/// Where sequences begin, so that they wrap in the middle of some updates: 2^64 - 4.
pub const START: u64 = u64::MAX - 3;

/// Plain bytes of a record. Loom fails a model in which one thread reads them and nothing puts that
/// after another thread's writing them.
#[derive(Default)]
pub struct Bytes(UnsafeCell<()>);

// SAFETY: there is nothing inside; the cell is here for loom to check who accesses it when.
unsafe impl Sync for Bytes {}

impl Bytes {
    pub fn write(&self) {
        self.0.with_mut(|_| ());
    }

    pub fn read(&self) {
        self.0.with(|_| ());
    }
}

/// Versions 1 to 4 at most.
pub type Log = [Bytes; 4];

const KIND: Kind = Kind::Resource;
const KEY_LEN: u16 = 9;

/// What a slot says of a version: what may vary follows from it, so that a mixture of two shows.
/// Version 3 is a tombstone.
pub fn value(version: u64) -> SlotValue {
    SlotValue {
        record: version * 64,
        kind: KIND,
        tombstone: version == 3,
        key_len: KEY_LEN,
        data_len: version as u32 * 10,
        metadata_len: version as u32 * 100,
        version,
    }
}

/// An index and the records that its slots name.
pub struct Slots {
    words: Vec<AtomicU64>,
    log: Log,
}

/// The hash of the model's key; its home is the first slot of every index.
pub const HASH: u64 = 64;
/// Another key with the same home; its slot is the second one.
pub const OTHER: u64 = HASH * 2;

impl Slots {
    /// `slots` slots whose sequences begin at `sequence`.
    pub fn new(slots: usize, sequence: u64) -> Self {
        let first = |i: usize| if i.is_multiple_of(8) { sequence } else { 0 };
        Self {
            words: (0..slots * 8).map(|i| AtomicU64::new(first(i))).collect(),
            log: Log::default(),
        }
    }

    pub fn index(&self) -> Index<'_> {
        Index::new(&self.words).expect("a power of two")
    }

    /// Appends and publishes a version of a key, as a put does.
    pub fn put(&self, hash: u64, version: u64) {
        self.log[version as usize - 1].write();
        self.publish(hash, version);
    }

    /// The same in the wrong order: a mutant.
    pub fn put_publishing_first(&self, hash: u64, version: u64) {
        self.publish(hash, version);
        self.log[version as usize - 1].write();
    }

    fn publish(&self, hash: u64, version: u64) {
        let slot = self.index().slot(usize::from(hash == OTHER));
        slot.publish(hash, &value(version));
    }

    /// Looks the key up, as a get does; its version, 0 where there is none.
    pub fn get(&self, hash: u64) -> u64 {
        let is_key = |found: &SlotValue| {
            self.check(found);
            true
        };
        match self.index().probe(hash, KIND, KEY_LEN, is_key) {
            Ok(Probe::Found(_, found)) => found.version,
            Ok(_) => 0,
            Err(contended) => panic!("{contended}"),
        }
    }

    /// What a slot says is one version whole, and so are the bytes it names.
    pub fn check(&self, found: &SlotValue) {
        assert_eq!(*found, value(found.version), "torn");
        self.log[found.version as usize - 1].read();
    }
}

/// News that a put has returned, by whatever way it comes.
#[derive(Default)]
pub struct News(loom::sync::atomic::AtomicU64);

impl News {
    pub fn tell(&self, version: u64) {
        self.0.store(version, Ordering::Release);
    }

    pub fn hear(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}
