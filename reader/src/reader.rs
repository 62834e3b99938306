//! The reader, and all that can be asked of it.

use crate::follow::Inner;
use crate::options::Options;
use crate::{Kind, Liveness, ReadError, StoreStats, Verification, View};
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A store, opened for reading. Clones are cheap and share everything.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::{Kind, Reader};
///
/// let shm = Reader::open(store.path())?;
/// let view = shm.view()?;
/// if let Some(entry) = view.get(Kind::Resource, "file:///hello.txt")? {
///     assert_eq!(entry.data(), b"hello");
/// }
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone)]
pub struct Reader {
    pub(crate) inner: Arc<Inner>,
}

impl Reader {
    /// Opens the store at `path` with the default [`Options`].
    pub fn open(path: impl AsRef<Path>) -> Result<Reader, ReadError> {
        Self::options().open(path)
    }

    /// Options to open a store with.
    pub fn options() -> Options {
        Options::default()
    }

    pub(crate) fn with(path: &Path, options: Options) -> Result<Reader, ReadError> {
        Ok(Reader {
            inner: Inner::open(path, options)?,
        })
    }

    /// The current generation, pinned while the view lives. It is as fresh as this call: every put
    /// that had returned when it was made is in the view.
    ///
    /// Costs one load of a shared pointer and one of the generation's state; only the first call
    /// after a switch opens and maps the new file. If that fails, the failure is the answer, never
    /// the data of the old generation: [`ReadError::Detached`] if the path shows nothing newer,
    /// else what [`open`](Self::open) would have said.
    #[inline]
    pub fn view(&self) -> Result<View, ReadError> {
        match self.inner.current_view() {
            Some(view) => Ok(view),
            None => self.inner.view_after_switch(),
        }
    }

    /// The data of an entry as [`Bytes`] that outlive view and reader, without a copy; see
    /// [`Entry::to_bytes`](crate::Entry::to_bytes) for what that costs.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// # use erlmcp_shm_reader::{Kind, Reader};
    /// # let shm = Reader::open(store.path())?;
    /// let hello = shm.get_bytes(Kind::Resource, "file:///hello.txt")?;
    /// assert_eq!(hello.as_deref(), Some(&b"hello"[..]));
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn get_bytes(&self, kind: Kind, key: impl AsRef<[u8]>) -> Result<Option<Bytes>, ReadError> {
        let view = self.view()?;
        Ok(view.get(kind, key)?.map(|entry| entry.to_bytes()))
    }

    /// The change counter: rises with every publish and every switch, and goes on rising when
    /// another store takes the path.
    pub fn changes(&self) -> Result<u64, ReadError> {
        self.view()?.pinned().changes()
    }

    /// Waits until the change counter is not `since` any more, and says what it is now; `None` if
    /// it still is when `timeout` has passed.
    ///
    /// Sleeps on a futex in the read-only mapping (in pread mode, and where there is no futex, it
    /// polls every few ms). It follows switches and notices within `refresh_interval` that another
    /// store took the path. The writer may coalesce its wake-ups, for `flush_interval` at most.
    /// Fails at once where [`view`](Self::view) does.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// use erlmcp_shm_reader::Reader;
    /// use std::time::Duration;
    /// let shm = Reader::open(store.path())?;
    /// let seen = shm.changes()?;
    /// assert_eq!(shm.wait_for_change(seen, Duration::from_millis(2))?, None);
    /// # store.publish_again();
    /// assert_eq!(shm.wait_for_change(seen, Duration::from_secs(2))?, Some(seen + 1));
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn wait_for_change(&self, since: u64, timeout: Duration) -> Result<Option<u64>, ReadError> {
        crate::wait::wait_for_change(self, since, timeout)
    }

    /// Figures of the current generation and of what this process holds mapped.
    pub fn stats(&self) -> Result<StoreStats, ReadError> {
        crate::stats::stats(self)
    }

    /// Whether there is a writer, and whether it is well.
    pub fn liveness(&self) -> Liveness {
        crate::liveness::liveness(self)
    }

    /// How old the writer's heartbeat was when the watcher last looked: one relaxed load, no clock.
    /// At most one `refresh_interval` off; `None` before the first look or the first heartbeat.
    pub fn heartbeat_seen(&self) -> Option<Duration> {
        self.inner.heartbeat_seen()
    }

    /// Checks every record and slot of the current generation.
    pub fn verify(&self) -> Result<Verification, ReadError> {
        self.view()?.verify()
    }

    /// The path that was given to [`open`](Self::open).
    pub fn path(&self) -> &Path {
        &self.inner.path
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}
