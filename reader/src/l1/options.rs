//! How much a cache may hold.

/// One read in so many is timed, unless [`CacheOptions::sample_every`] says otherwise.
pub const SAMPLE_EVERY: u64 = 128;

/// Bounds of a [`Cache`](super::Cache).
///
/// ```
/// use erlmcp_shm_reader::l1::CacheOptions;
/// let small = CacheOptions::default().max_bytes(1 << 20).max_entries(1000);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CacheOptions {
    pub(super) max_bytes: usize,
    pub(super) max_entries: usize,
    pub(super) sample_every: u64,
}

impl Default for CacheOptions {
    fn default() -> Self {
        Self {
            max_bytes: 10 << 20,
            max_entries: 1 << 16,
            sample_every: SAMPLE_EVERY,
        }
    }
}

impl CacheOptions {
    /// Bytes that all values may take together, by their weight and some 160 bytes each (10 MiB). A value
    /// that is heavier by itself is not kept.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How many values there may be (65,536).
    pub fn max_entries(mut self, entries: usize) -> Self {
        self.max_entries = entries;
        self
    }

    /// One read in so many, of each thread, is timed for [`Cache::latency`](super::Cache::latency) (128); 0
    /// is none. Two looks at the clock and the histogram take some 100 ns, spread over as many reads.
    pub fn sample_every(mut self, reads: u64) -> Self {
        self.sample_every = reads;
        self
    }
}
