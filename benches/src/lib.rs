//! What the benchmarks share: a filled store, the order of the lookups, and the floor.

mod floor;

pub use floor::{Floor, Pages};

use std::path::PathBuf;
use std::time::{Duration, Instant};

use erlmcp_shm_reader::{Kind, Reader};
use erlmcp_shm_writer::{Writer, WriterStats};

/// A store of `keys` resources of `len` bytes each, in memory where the machine has a /dev/shm.
pub struct Filled {
    /// Held for its drop.
    _folder: tempfile::TempDir,
    /// Where the store is.
    pub path: PathBuf,
    /// The writer, still open.
    pub writer: Writer,
    /// A reader of it.
    pub reader: Reader,
    /// Every key, in the order of publication.
    pub keys: Vec<Vec<u8>>,
}

/// A folder in memory, if there is one.
pub fn folder() -> tempfile::TempDir {
    let shm = std::path::Path::new("/dev/shm");
    if shm.is_dir() {
        tempfile::tempdir_in(shm).expect("/dev/shm is writable")
    } else {
        tempfile::tempdir().expect("a temporary folder")
    }
}

/// The key number `i`, about 40 bytes like a real URI.
pub fn key(i: usize) -> Vec<u8> {
    format!("file:///srv/erlmcp/resources/{i:08}.txt").into_bytes()
}

impl Filled {
    /// Publishes `count` values of `len` bytes.
    pub fn new(count: usize, len: usize) -> Self {
        Self::with(count, len, |i| vec![i as u8; len])
    }

    /// Publishes `count` values, of `len` bytes or so each.
    pub fn with(count: usize, len: usize, value: impl Fn(usize) -> Vec<u8>) -> Self {
        let folder = folder();
        let path = folder.path().join("store");
        let size = (count * (len + 512)).next_multiple_of(2 << 20) as u64 * 2;
        let writer = Writer::options()
            .size(size)
            .max_size(4 * size)
            .open(&path)
            .expect("room for the store");
        let keys: Vec<_> = (0..count).map(key).collect();
        for (i, key) in keys.iter().enumerate() {
            let data = value(i);
            writer.put(Kind::Resource, key, &data, b"{}").expect("room");
        }
        // One generation with everything copied, as a node has it some time after its start.
        writer.compact().expect("room for two generations");
        // It gets its huge pages when nothing has happened for a moment, if the machine has any.
        let patience = Instant::now() + Duration::from_secs(2);
        let all_huge = |stats: WriterStats| stats.huge_bytes >= stats.stats.log_tail;
        while !all_huge(writer.stats()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        let reader = Reader::open(&path).expect("it is there");
        Self {
            _folder: folder,
            path,
            writer,
            reader,
            keys,
        }
    }

    /// `n` positions in [`keys`](Self::keys), uniform, the same in every run.
    pub fn uniform(&self, n: usize) -> Vec<usize> {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let mut next = || {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
        };
        (0..n).map(|_| next() % self.keys.len()).collect()
    }
}

/// Touches a value at both ends, as a caller that uses it would.
#[inline]
pub fn touch(data: &[u8]) -> usize {
    let ends = (data.first(), data.last());
    match ends {
        (Some(a), Some(b)) => usize::from(*a) + usize::from(*b),
        _ => 0,
    }
}
