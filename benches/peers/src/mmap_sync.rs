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
    map: HashMap<String, Vec<u8>>,
}

/// A reader of it.
pub struct MmapSync(Synchronizer);

impl MmapSync {
    /// Writes the map, and reads from then on.
    pub fn new(folder: &Path, keys: &[Vec<u8>], len: usize) -> Self {
        let text = |key: &Vec<u8>| String::from_utf8(key.clone()).expect("a URI");
        let values = keys.iter().enumerate();
        let map = values
            .map(|(i, key)| (text(key), vec![i as u8; len]))
            .collect();
        let mut synchronizer = Synchronizer::new(folder.join("map").as_os_str());
        let grace = Duration::from_secs(1);
        synchronizer
            .write(&Everything { map }, grace)
            .expect("room");
        Self(synchronizer)
    }
}

impl Peer for MmapSync {
    fn name(&self) -> &'static str {
        "mmap-sync"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let key = std::str::from_utf8(key).expect("a URI");
        // SAFETY: nothing is written any more, so what is read stays as it is and was written by us.
        let everything = unsafe { self.0.read::<Everything>(false) }.expect("written");
        touch(everything.map.get(key).expect("present"))
    }
}
