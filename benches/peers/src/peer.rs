//! What is measured: something that finds a value by its key, in its own process, and the value touched at both ends.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use erlmcp_shm_benches::{Filled, Floor, touch};
use erlmcp_shm_reader::{Kind, Reader, View};
use rustix::thread::disable_transparent_huge_pages;

/// A way to look a value up.
pub trait Peer {
    /// As it stands in the tables.
    fn name(&self) -> &'static str;

    /// Finds the value, and touches it at both ends.
    fn get(&mut self, key: &[u8]) -> usize;

    /// Lookups that do not wait for each other: ns each.
    fn overlapped(&mut self, keys: &[Vec<u8>], order: &[usize]) -> f64 {
        let begun = Instant::now();
        let sum = order.iter().fold(0, |sum, &i| sum + self.get(&keys[i]));
        black_box(sum);
        begun.elapsed().as_nanos() as f64 / order.len() as f64
    }

    /// Lookups whose key hangs on the value before: ns each.
    fn dependent(&mut self, keys: &[Vec<u8>], order: &[usize]) -> f64 {
        let begun = Instant::now();
        let last = order.iter().fold(0, |last, &i| {
            // Always 0, and only the value can tell.
            let nothing = black_box(last) >> 32;
            self.get(&keys[i ^ nothing])
        });
        black_box(last);
        begun.elapsed().as_nanos() as f64 / order.len() as f64
    }
}

/// A lookup through a view that is kept and refreshed, as a loop does it.
pub struct Kept {
    name: &'static str,
    reader: Reader,
    view: View,
}

impl Kept {
    /// As readers are: on 2 MiB pages where the machine has them.
    pub fn new(filled: &Filled) -> Self {
        Self::over("erlmcp-shm", filled.reader.clone())
    }

    /// A reader whose pages were mapped while this process was to have none but small ones. `None` where
    /// the system does not let one ask for that.
    pub fn on_small_pages(filled: &Filled) -> Option<Self> {
        disable_transparent_huge_pages(true).ok()?;
        let reader = Reader::options().prefault(true).open(&filled.path);
        disable_transparent_huge_pages(false).expect("as before");
        Some(Self::over(
            "erlmcp-shm on 4 KiB pages",
            reader.expect("filled"),
        ))
    }

    /// One reader of several.
    pub fn over(name: &'static str, reader: Reader) -> Self {
        let view = reader.view().expect("current");
        Self { name, reader, view }
    }
}

impl Peer for Kept {
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn get(&mut self, key: &[u8]) -> usize {
        self.view.refresh(&self.reader).expect("current");
        let entry = self.view.get(Kind::Resource, key).expect("readable");
        touch(entry.expect("present").data())
    }
}

/// A new view for each lookup.
pub struct Fresh(pub Reader);

impl Peer for Fresh {
    fn name(&self) -> &'static str {
        "erlmcp-shm, a view each"
    }

    #[inline]
    fn get(&mut self, key: &[u8]) -> usize {
        let view = self.0.view().expect("current");
        let entry = view.get(Kind::Resource, key).expect("readable");
        touch(entry.expect("present").data())
    }
}

/// Bytes that outlive the view.
pub struct Owned(pub Reader);

impl Peer for Owned {
    fn name(&self) -> &'static str {
        "erlmcp-shm, get_bytes"
    }

    #[inline]
    fn get(&mut self, key: &[u8]) -> usize {
        let bytes = self.0.get_bytes(Kind::Resource, key).expect("readable");
        touch(&bytes.expect("present"))
    }
}

/// Batches of sixteen; a single lookup is a batch of one.
pub struct Many(pub Reader);

impl Peer for Many {
    fn name(&self) -> &'static str {
        "erlmcp-shm, get_many of 16"
    }

    fn get(&mut self, key: &[u8]) -> usize {
        let view = self.0.view().expect("current");
        let found = view.get_many(&[(Kind::Resource, key)]);
        let entry = found[0].as_ref().expect("readable").as_ref();
        touch(entry.expect("present").data())
    }

    fn overlapped(&mut self, keys: &[Vec<u8>], order: &[usize]) -> f64 {
        let begun = Instant::now();
        let mut sum = 0;
        for batch in order.chunks(16) {
            let batch: Vec<_> = batch.iter().map(|&i| (Kind::Resource, &keys[i])).collect();
            let view = self.0.view().expect("current");
            for entry in view.get_many(&batch) {
                sum += touch(entry.expect("readable").expect("present").data());
            }
        }
        black_box(sum);
        begun.elapsed().as_nanos() as f64 / order.len() as f64
    }
}

/// An unsynchronised table over the same bytes.
pub struct Least(pub &'static str, pub Floor);

impl Peer for Least {
    fn name(&self) -> &'static str {
        self.0
    }

    #[inline]
    fn get(&mut self, key: &[u8]) -> usize {
        touch(self.1.get(key).expect("present"))
    }
}

/// What one process can have for itself.
pub struct InProcess(pub Arc<HashMap<Vec<u8>, Vec<u8>>>);

impl InProcess {
    /// The same keys and values.
    pub fn new(keys: &[Vec<u8>], len: usize) -> Self {
        Self(Arc::new(Self::table(keys, len)))
    }

    /// What it holds.
    pub fn table(keys: &[Vec<u8>], len: usize) -> HashMap<Vec<u8>, Vec<u8>> {
        let values = keys.iter().enumerate().map(|(i, _)| vec![i as u8; len]);
        keys.iter().cloned().zip(values).collect()
    }
}

impl Peer for InProcess {
    fn name(&self) -> &'static str {
        "HashMap, in the process"
    }

    #[inline]
    fn get(&mut self, key: &[u8]) -> usize {
        touch(self.0.get(key).expect("present"))
    }
}
