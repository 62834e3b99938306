//! Figures of a store.

use crate::generation::patiently;
use crate::{ReadError, Reader, watcher};
use erlmcp_shm_layout::State;

/// Figures of a store's current generation; from [`Reader::stats`].
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::Reader;
/// let stats = Reader::open(store.path())?.stats()?;
/// assert_eq!(stats.entries, 3);
/// assert_eq!(stats.fragmentation, 0.0);
/// assert!(stats.fill < 0.1);
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Number of the generation; it rises within one store.
    pub generation: u64,
    /// Drawn when the store was started from nothing or cleared.
    pub store_id: [u8; 16],
    /// What the file says of itself.
    pub state: State,
    /// Bytes of the file.
    pub size: u64,
    /// Live entries.
    pub entries: u64,
    /// Bytes of the records of live entries.
    pub live_bytes: u64,
    /// Bytes of the log's other records.
    pub dead_bytes: u64,
    /// Dead bytes over all bytes of records, 0 to 1.
    pub fragmentation: f64,
    /// Bytes of the log that records take.
    pub log_used: u64,
    /// Bytes of the log.
    pub log_capacity: u64,
    /// Bytes that a generation may grow to.
    pub max_size: u64,
    /// How much of what it can hold at `max_size` the store holds, 0 to 1; at 1 the writer refuses
    /// puts of more.
    pub fill: f64,
    /// Slots of the index.
    pub slot_count: u64,
    /// Slots in use, those of deleted keys included.
    pub used_slots: u64,
    /// Puts since the store began.
    pub puts: u64,
    /// Deletes of present keys since the store began.
    pub deletes: u64,
    /// Generations made since the store began, the first one not counted.
    pub rollovers: u64,
    /// The highest version given out.
    pub version: u64,
    /// The reader's change counter: [`Reader::changes`].
    pub changes: u64,
    /// Bytes of this reader's mapping that huge pages back; `None` in pread mode and where the
    /// system does not tell.
    pub huge_page_bytes: Option<u64>,
    /// Generations of this path that readers of this process hold mapped.
    pub mapped_generations: usize,
    /// Bytes of address space, and at most that much memory, that those pin.
    pub pinned_bytes: u64,
}

pub(crate) fn stats(reader: &Reader) -> Result<StoreStats, ReadError> {
    let view = reader.view()?;
    let generation = view.pinned();
    let header = &generation.header;
    let (state, stats) = patiently(|| {
        let (state, stats) = generation.words(|words| (words.state(), words.stats()))?;
        let state = state.ok_or(ReadError::Corrupt("state"))?;
        Ok((state, stats.ok_or(ReadError::Contended)?))
    })?;
    let max_size = generation.words(|words| words.max_size())?;
    let log_capacity = header.file_size - header.log_offset();
    let log_used = stats.log_tail.saturating_sub(header.log_offset());
    let (mapped_generations, pinned_bytes) = watcher::mapped(&reader.inner.absolute);
    Ok(StoreStats {
        generation: header.generation,
        store_id: header.store_id,
        state,
        size: header.file_size,
        entries: stats.entries,
        live_bytes: stats.live_bytes,
        dead_bytes: stats.dead_bytes,
        fragmentation: stats.fragmentation(),
        log_used,
        log_capacity,
        max_size,
        fill: stats.fill(max_size),
        slot_count: header.slot_count,
        used_slots: stats.used_slots,
        puts: stats.puts,
        deletes: stats.deletes,
        rollovers: stats.rollovers,
        version: stats.version,
        changes: generation.changes()?,
        huge_page_bytes: generation
            .mapping()
            .and_then(|mapping| crate::sys::huge_page_bytes(mapping.addresses())),
        mapped_generations,
        pinned_bytes,
    })
}
