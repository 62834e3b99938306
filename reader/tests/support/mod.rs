// A store built byte by byte with the layout crate alone: what the writer does, without the writer.
// Shared by the tests and the examples in the documentation.

use erlmcp_shm_layout::sync::{AtomicU64, Ordering};
use erlmcp_shm_layout::{
    Attributes, HEADER_SIZE, Header, HeaderWords, Index, Kind, Probe, Record, SLOT_SIZE, SlotValue,
    State, Stats, key_hash, words,
};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One generation in memory.
pub struct Image {
    pub header: Header,
    /// Header and index.
    words: Vec<AtomicU64>,
    log: Vec<u8>,
    pub stats: Stats,
    pub changes: u64,
}

impl Image {
    pub fn new(size: u64, slots: u64) -> Self {
        Self::of(Header {
            generation: 1,
            seed: 0x5eed,
            store_id: [7; 16],
            boot_id: boot_id(),
            ..Header::new(size, slots).expect("a size and slot count that fit")
        })
    }

    pub fn of(header: Header) -> Self {
        let words = (0..header.log_offset() / 8).map(|_| AtomicU64::new(0));
        let image = Self {
            header,
            words: words.collect(),
            log: vec![0; (header.file_size - header.log_offset()) as usize],
            stats: Stats {
                log_tail: header.log_offset(),
                ..Stats::default()
            },
            changes: 0,
        };
        let encoded = header.encode();
        for (word, bytes) in image.words.iter().zip(encoded.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        image.set_state(State::Live);
        image.finish();
        image
    }

    /// The next generation of the same store, with the same live entries.
    pub fn next(&self) -> Self {
        let mut next = Self::of(Header {
            generation: self.header.generation + 1,
            seed: self.header.seed.wrapping_add(0x9e37_79b9),
            ..self.header
        });
        next.stats.version = self.stats.version;
        next.changes = self.changes + 1;
        for value in self.entries() {
            let at = (value.record - self.header.log_offset()) as usize;
            let record = Record::read(&self.log[at..]).expect("a whole record");
            if !record.tombstone {
                next.append(&record);
            }
        }
        next.finish();
        next
    }

    pub fn words(&self) -> HeaderWords<'_> {
        let words = self.words[..HEADER_SIZE / 8].try_into();
        HeaderWords::new(words.expect("a header"))
    }

    pub fn index(&self) -> Index<'_> {
        Index::new(&self.words[HEADER_SIZE / 8..]).expect("an index")
    }

    /// What the slots hold.
    pub fn entries(&self) -> Vec<SlotValue> {
        let slots = self.index().slots();
        slots.filter_map(|slot| slot.load().unwrap()).collect()
    }

    pub fn set_state(&self, state: State) {
        self.words().set_state(state);
    }

    pub fn put(&mut self, kind: Kind, key: &[u8], data: &[u8], metadata: &[u8]) -> u64 {
        self.put_with(kind, key, data, metadata, Attributes::default())
    }

    pub fn put_with(
        &mut self,
        kind: Kind,
        key: &[u8],
        data: &[u8],
        metadata: &[u8],
        attributes: Attributes,
    ) -> u64 {
        self.publish(kind, key, data, metadata, attributes, false)
    }

    pub fn delete(&mut self, kind: Kind, key: &[u8]) -> u64 {
        self.publish(kind, key, b"", b"", Attributes::default(), true)
    }

    fn publish(
        &mut self,
        kind: Kind,
        key: &[u8],
        data: &[u8],
        metadata: &[u8],
        attributes: Attributes,
        tombstone: bool,
    ) -> u64 {
        self.stats.version += 1;
        self.changes += 1;
        self.append(&Record {
            kind,
            version: self.stats.version,
            tombstone,
            attributes,
            key,
            data,
            metadata,
        });
        self.finish();
        self.stats.version
    }

    fn append(&mut self, record: &Record<'_>) {
        let offset = self.stats.log_tail;
        let start = (offset - self.header.log_offset()) as usize;
        let end = start + record.shape().total as usize;
        record.write(&mut self.log[start..end]);
        let hash = key_hash(self.header.seed, record.kind, record.key);
        let log = &self.log;
        let log_offset = self.header.log_offset();
        let same = |value: &SlotValue| {
            let at = (value.record - log_offset) as usize;
            let other = Record::read(&log[at..]).expect("a whole record");
            (other.kind, other.key) == (record.kind, record.key)
        };
        let mut stats = self.stats;
        let len = record.key.len() as u16;
        let probe = self.index().probe(hash, record.kind, len, same);
        let slot = match probe.expect("no other thread") {
            Probe::Found(slot, old) => {
                stats.entries -= u64::from(!old.tombstone);
                slot
            }
            Probe::Vacant(slot) => {
                stats.used_slots += 1;
                slot
            }
            Probe::Exhausted => panic!("the index is full"),
        };
        slot.publish(hash, &record.slot_value(offset));
        stats.entries += u64::from(!record.tombstone);
        stats.live_bytes += record.shape().total;
        stats.log_tail = log_offset + end as u64;
        self.stats = stats;
    }

    fn finish(&self) {
        self.words().set_max_size(self.header.file_size);
        self.words().set_stats(&self.stats);
        self.words().set_changes(self.changes);
    }

    /// Has every sequence count on from `sequence`, an even one. For an image without entries.
    pub fn count_from(&self, sequence: u64) {
        let slots = (HEADER_SIZE..self.words.len() * 8).step_by(SLOT_SIZE);
        for at in slots.chain([words::STATS]) {
            self.words[at / 8].store(sequence, Ordering::Relaxed);
        }
        self.finish();
    }

    /// The whole file.
    pub fn bytes(&self) -> Vec<u8> {
        let words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        bytes.extend(&self.log);
        bytes
    }

    /// Makes it the file at `path`, by a rename.
    pub fn save(&self, path: &Path) {
        save(path, &self.bytes());
    }

    /// Makes the next generation the file at `path`, and then marks the one that was there.
    pub fn switch(&mut self, path: &Path) {
        let old = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let next = self.next();
        next.save(path);
        let words = self.words();
        self.set_state(State::Superseded);
        words.set_changes(self.changes + 1);
        let header = &self.bytes()[..HEADER_SIZE];
        old.write_all_at(header, 0).unwrap();
        *self = next;
    }

    /// Brings the file at `path`, which may be mapped, up to date as the writer does: first the log,
    /// then each slot's halves before its sequence, then the header.
    pub fn update(&self, path: &Path) {
        let mut options = std::fs::OpenOptions::new();
        let file = options.read(true).write(true).open(path).unwrap();
        let write = |bytes: &[u8], at: usize| file.write_all_at(bytes, at as u64).unwrap();
        let bytes = self.bytes();
        let log = self.header.log_offset() as usize;
        write(&bytes[log..], log);
        let mut slot = [0; SLOT_SIZE];
        for at in (HEADER_SIZE..log).step_by(SLOT_SIZE) {
            file.read_exact_at(&mut slot, at as u64).unwrap();
            let new = &bytes[at..at + SLOT_SIZE];
            if slot != new {
                write(&new[8..], at + 8);
                write(&new[..8], at);
            }
        }
        write(&bytes[..HEADER_SIZE], 0);
    }
}

/// Makes `bytes` the file at `path`, by a rename, readable and writable by its owner only.
pub fn save(path: &Path, bytes: &[u8]) {
    let tmp = path.with_extension("tmp");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&tmp)
        .unwrap();
    file.write_all(bytes).unwrap();
    std::fs::rename(tmp, path).unwrap();
}

/// A folder of its own for one test, in shared memory where there is one.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    folder.unwrap()
}

/// This boot's id, as the header carries it.
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let hex: String = text.trim().chars().filter(|c| *c != '-').collect();
    u128::from_str_radix(&hex, 16).unwrap_or(0).to_be_bytes()
}

/// A store with an entry or two, for the examples in the documentation.
pub struct DocStore {
    _folder: tempfile::TempDir,
    path: PathBuf,
    image: std::cell::RefCell<Image>,
}

pub fn doc_store() -> DocStore {
    let folder = folder();
    let path = folder.path().join("store.bin");
    let mut image = Image::new(1 << 20, 64);
    let metadata = br#"{"mime_type":"text/plain"}"#;
    image.put(Kind::Resource, b"file:///hello.txt", b"hello", metadata);
    image.put(Kind::ToolSchema, b"search", br#"{"type":"object"}"#, b"{}");
    image.put(Kind::Capability, b"tools", b"{}", b"{}");
    image.save(&path);
    DocStore {
        _folder: folder,
        path,
        image: image.into(),
    }
}

impl DocStore {
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn publish_again(&self) {
        let mut image = self.image.borrow_mut();
        image.put(Kind::Resource, b"file:///hello.txt", b"hello again", b"{}");
        image.update(&self.path);
    }

    /// Changes a byte of the last place in the file where `bytes` stand.
    pub fn damage(&self, bytes: &[u8]) {
        let mut all = std::fs::read(&self.path).unwrap();
        let at = all.windows(bytes.len()).rposition(|w| w == bytes);
        all[at.expect("the bytes are there")] ^= 1;
        save(&self.path, &all);
    }
}
