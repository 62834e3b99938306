//! Opening what stands at a path, with every check before a byte of it is trusted.

use crate::ReadError;
use crate::generation::Generation;
use crate::options::Options;
use erlmcp_shm_layout::sync::AtomicU64;
use erlmcp_shm_layout::{HEADER_SIZE, Header, HeaderWords, State};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Default))]
pub(crate) struct FileId {
    dev: u64,
    ino: u64,
}

impl FileId {
    fn of(meta: &Metadata) -> Self {
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
        }
    }

    /// What stands at the path now (a link itself, not what it points to).
    pub fn at(path: &Path) -> Result<Self, ReadError> {
        Ok(Self::and_length(path)?.0)
    }

    /// The same, and how many bytes it has.
    pub fn and_length(path: &Path) -> Result<(Self, u64), ReadError> {
        let meta = std::fs::symlink_metadata(path)?;
        Ok((Self::of(&meta), meta.len()))
    }
}

/// A file that is a store as far as its header tells.
pub(crate) struct Opened {
    pub file: File,
    pub header: Header,
    pub id: FileId,
    /// The state when it was opened.
    pub state: Option<State>,
}

impl Opened {
    /// Opens and checks: a regular file, not through a link; owned by us or whom we trust; writable
    /// by its owner only; magic, version and a header that agrees with the file's length.
    pub fn open(path: &Path, options: &Options) -> Result<Self, ReadError> {
        let file = open_file(path).map_err(|error| explain_refusal(path, options, error))?;
        let meta = file.metadata()?;
        check(&meta, options)?;
        let mut bytes = [0; HEADER_SIZE];
        let len = read_at(&file, &mut bytes, 0)?;
        let header = Header::decode(&bytes[..len], meta.len())?;
        let state = HeaderWords::new(&words(&bytes)).state();
        Ok(Self {
            id: FileId::of(&meta),
            file,
            header,
            state,
        })
    }

    /// Whether this may follow `last`: a later generation of its store, or another store.
    pub fn is_newer_than(&self, last: &Generation) -> bool {
        self.header.store_id != last.header.store_id
            || self.header.generation > last.header.generation
    }
}

/// What is asked of a file before a byte of it is read.
fn check(meta: &Metadata, options: &Options) -> Result<(), ReadError> {
    if !meta.is_file() {
        return Err(ReadError::NotRegular);
    }
    let trusted = [
        Some(rustix::process::geteuid().as_raw()),
        options.trust_owner,
    ];
    if !trusted.contains(&Some(meta.uid())) {
        return Err(ReadError::BadOwner);
    }
    if meta.mode() & 0o022 != 0 {
        return Err(ReadError::InsecureMode);
    }
    Ok(())
}

/// Why the system would not open what is at the path: most usefully, that it is none of ours to begin with.
#[cold]
fn explain_refusal(path: &Path, options: &Options, error: ReadError) -> ReadError {
    let ReadError::Io(_) = error else {
        return error;
    };
    match std::fs::symlink_metadata(path) {
        Ok(meta) => check(&meta, options).err().unwrap_or(error),
        Err(_) => error,
    }
}

/// Opens for reading without following a link, waiting for a FIFO's writer, or leaking to a child.
pub(crate) fn open_file(path: &Path) -> Result<File, ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(fd.into()),
        // A link (with NOFOLLOW), a socket, a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => Err(ReadError::NotRegular),
        Err(error) => Err(error.into()),
    }
}

/// Reads at an offset until `out` is full or the file ends; says how much it was.
pub(crate) fn read_at(file: &File, out: &mut [u8], offset: u64) -> Result<usize, ReadError> {
    let mut done = 0;
    while done < out.len() {
        match rustix::io::pread(file, &mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// Bytes copied from a file, as the words that the layout reads.
pub(crate) fn words<const W: usize>(bytes: &[u8]) -> [AtomicU64; W] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| AtomicU64::new(u64::from_le_bytes(chunks[i])))
}
