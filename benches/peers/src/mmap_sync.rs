//! mmap-sync: one value, a whole map here, written to one of two files in turn.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use erlmcp_shm_benches::touch;
use mmap_sync::synchronizer::Synchronizer;
use rkyv::{Archive, Deserialize, Serialize};

use crate::peer::Peer;

/// All there is.
#[derive(Archive, Deserialize, Serialize)]
#[archive_attr(derive(bytecheck::CheckBytes))]
pub struct Everything {
    map: Map,
}

type Map = HashMap<String, Vec<u8>>;

/// How long its writer waits for readers of what it writes over.
const GRACE: Duration = Duration::from_secs(1);

/// A key as it has it.
pub fn text(key: &[u8]) -> &str {
    std::str::from_utf8(key).expect("a URI")
}

/// Its one writer.
pub struct Writer(Synchronizer);

impl Writer {
    /// At this place.
    pub fn new(place: &Path) -> Self {
        Self(Synchronizer::new(place.as_os_str()))
    }

    /// Writes all there is.
    pub fn write(&mut self, map: &Map) {
        let map = map.clone();
        self.0.write(&Everything { map }, GRACE).expect("room");
    }
}

/// A reader of it.
pub struct MmapSync(Synchronizer);

impl MmapSync {
    /// Writes the map, and reads from then on.
    pub fn new(folder: &Path, keys: &[Vec<u8>], len: usize) -> Self {
        let place = folder.join("map");
        let values = keys.iter().enumerate();
        let map = values.map(|(i, key)| (text(key).to_owned(), vec![i as u8; len]));
        Writer::new(&place).write(&map.collect());
        Self::over(&place)
    }

    /// Reads what another process writes.
    pub fn over(place: &Path) -> Self {
        Self(Synchronizer::new(place.as_os_str()))
    }
}

impl Peer for MmapSync {
    fn name(&self) -> &'static str {
        "mmap-sync"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        // SAFETY: this program wrote it, and its writer waits for whoever reads: far longer than this one does.
        let everything = unsafe { self.0.read::<Everything>(false) }.expect("written");
        touch(everything.map.get(text(key)).expect("present"))
    }
}
