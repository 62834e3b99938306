//! What is at a path, at every moment anew.

use erlmcp_shm_reader::{Liveness, Options, ReadError, Reader, StoreStats, Verdict, View};
use std::io::ErrorKind;
use std::path::Path;

/// A path that is watched, whether or not there is a store.
#[derive(Clone)]
pub struct Watched {
    reader: Reader,
    /// How another look at the file would be taken.
    options: Options,
}

impl Watched {
    /// The reader's watcher notices that one store took the place of another, and unmaps what is no longer
    /// used.
    pub fn new(path: &Path, options: Options) -> Result<Self, ReadError> {
        let reader = options
            .clone()
            .watcher(true)
            .allow_absent(true)
            .open(path)?;
        Ok(Self { reader, options })
    }

    pub fn view(&self) -> Result<View, ReadError> {
        self.reader.view()
    }

    pub fn path(&self) -> &Path {
        self.reader.path()
    }

    /// Stats and signs of life of the store that is at the path now. What a reader has mapped stays
    /// readable when its file is gone, but is not what is there.
    pub fn look(&self) -> Result<(StoreStats, Liveness), ReadError> {
        if !exists(self.path()) {
            return Err(ReadError::NotFound);
        }
        let (stats, liveness) = (self.reader.stats()?, self.reader.liveness());
        if liveness.verdict() != Verdict::Alive {
            // Is it still that file, and not something which no reader takes for a store?
            self.options.clone().pread(true).open(self.path())?;
        }
        Ok((stats, liveness))
    }
}

/// Whether there is something at the path.
pub fn exists(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound)
}
