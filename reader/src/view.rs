//! A generation, pinned: where lookups happen.

use crate::entry::Entry;
use crate::generation::Generation;
use crate::iter::{Iter, TryIter};
use crate::{ReadError, Reader, Verification};
use arc_swap::Guard;
use erlmcp_shm_layout::Kind;
use std::sync::Arc;

/// One generation of the store, pinned while the view lives.
///
/// A view sees every publish into its generation at once. After a switch to the next generation it
/// is frozen: [`is_current`](Self::is_current) tells, and [`Reader::view`](crate::Reader::view)
/// gives a new one.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::{Kind, Reader};
/// let shm = Reader::open(store.path())?;
/// let view = shm.view()?;
/// assert!(view.is_current());
/// assert!(view.get(Kind::Prompt, "no such prompt")?.is_none());
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
///
/// An entry cannot outlive its view:
///
/// ```compile_fail,E0716
/// # use erlmcp_shm_reader::{Kind, Reader};
/// let shm = Reader::open("store.bin").unwrap();
/// let entry = shm.view().unwrap().get(Kind::Resource, "x").unwrap();
/// entry.unwrap().data();
/// ```
pub struct View {
    /// Invariant: not `None`.
    pinned: Guard<Option<Arc<Generation>>>,
}

impl View {
    /// A view of what the guard holds, if it holds a generation.
    #[inline(always)]
    pub(crate) fn new(pinned: Guard<Option<Arc<Generation>>>) -> Option<Self> {
        pinned.is_some().then_some(Self { pinned })
    }

    #[inline(always)]
    pub(crate) fn pinned(&self) -> &Arc<Generation> {
        match &*self.pinned {
            Some(generation) => generation,
            None => unreachable!("a view holds a generation"),
        }
    }

    /// Looks a key up: no lock, no allocation, no system call, two dependent cache misses.
    ///
    /// `Ok(None)` where the key is absent, which an empty key and one longer than 65535 bytes
    /// always are. An entry that has expired is found all the same: [`Entry::is_expired`].
    ///
    /// [`ReadError::Contended`] if the writer published this very entry twice during each of 64
    /// tries; [`ReadError::Corrupt`] if the slot makes no sense. In pread mode also what the system
    /// says, and `Corrupt` where a checksum fails.
    #[inline(always)]
    pub fn get(&self, kind: Kind, key: impl AsRef<[u8]>) -> Result<Option<Entry<'_>>, ReadError> {
        self.pinned().lookup(kind, key.as_ref())
    }

    /// Looks many keys up, so that the cache misses of one overlap with those of the others: for
    /// keys that are not in the cache several times as fast as one [`get`](Self::get) after the
    /// other.
    ///
    /// The answers stand in the order of the keys, each what `get` would have said of it.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// use erlmcp_shm_reader::{Kind, Reader};
    /// let shm = Reader::open(store.path())?;
    /// let view = shm.view()?;
    /// let found = view.get_many(&[
    ///     (Kind::Resource, "file:///hello.txt"),
    ///     (Kind::ToolSchema, "no such tool"),
    /// ]);
    /// assert_eq!(found[0].as_ref().unwrap().as_ref().unwrap().data(), b"hello");
    /// assert!(matches!(found[1], Ok(None)));
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn get_many<K: AsRef<[u8]>>(
        &self,
        keys: &[(Kind, K)],
    ) -> Vec<Result<Option<Entry<'_>>, ReadError>> {
        self.pinned().lookup_many(keys)
    }

    /// Every live entry, in no particular order.
    ///
    /// It is no snapshot: what is published or deleted meanwhile may be met or not. An entry that
    /// cannot be read (its slot is damaged, or in pread mode the system says no) is left out;
    /// [`try_iter`](Self::try_iter) tells.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// use erlmcp_shm_reader::{Kind, Reader};
    /// let shm = Reader::open(store.path())?;
    /// let mut tools = 0;
    /// for entry in shm.view()?.iter() {
    ///     tools += usize::from(entry.kind() == Kind::ToolSchema);
    /// }
    /// assert_eq!(tools, 1);
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(self.pinned())
    }

    /// [`iter`](Self::iter) that leaves nothing out: an entry that cannot be read is an error, and the
    /// iteration goes on behind it.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// # use erlmcp_shm_reader::Reader;
    /// # let shm = Reader::open(store.path())?;
    /// let view = shm.view()?;
    /// let entries: Vec<_> = view.try_iter().collect::<Result<_, _>>()?;
    /// assert_eq!(entries.len(), 3);
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn try_iter(&self) -> TryIter<'_> {
        TryIter::new(self.pinned())
    }

    /// Whether [`Reader::view`](crate::Reader::view) would still give this generation: two relaxed
    /// loads.
    #[inline]
    pub fn is_current(&self) -> bool {
        self.pinned().is_current()
    }

    /// Takes a new view from `reader` unless this one is current; on an error it stays as it is.
    ///
    /// What follows is as fresh as through a new view, for two loads instead of the two atomic
    /// read-modify-writes that taking and dropping a view costs: the thing for a loop. But see to it
    /// that a thread that falls idle does not keep its view, and with it a whole generation.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// use erlmcp_shm_reader::{Kind, Reader};
    /// let shm = Reader::open(store.path())?;
    /// let mut view = shm.view()?;
    /// for _ in 0..1000 {
    ///     view.refresh(&shm)?;
    ///     assert!(view.get(Kind::ToolSchema, "search")?.is_some());
    /// }
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    #[inline]
    pub fn refresh(&mut self, reader: &Reader) -> Result<(), ReadError> {
        if self.is_current() {
            return Ok(());
        }
        self.renew(reader)
    }

    /// Apart, so that the code of a loop that refreshes its view stays small.
    #[cold]
    #[inline(never)]
    fn renew(&mut self, reader: &Reader) -> Result<(), ReadError> {
        *self = reader.view()?;
        Ok(())
    }

    /// The number of the generation; it rises within one store.
    pub fn generation(&self) -> u64 {
        self.pinned().header.generation
    }

    /// 128 random bits, drawn when the store was started from nothing or cleared.
    pub fn store_id(&self) -> [u8; 16] {
        self.pinned().header.store_id
    }

    /// Checks every record and slot of this generation: see [`Verification`].
    pub fn verify(&self) -> Result<Verification, ReadError> {
        self.verify_with(|_, _| {})
    }

    /// The same, which says now and then how many bytes it has walked, and of how many. (The number of
    /// all is final once the index has been walked for the first time.)
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// # let shm = erlmcp_shm_reader::Reader::open(store.path())?;
    /// let found = shm.view()?.verify_with(|done, of| eprintln!("{done} of {of} bytes"))?;
    /// assert!(found.is_sound());
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn verify_with(
        &self,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Verification, ReadError> {
        crate::verify::verify(self.pinned(), &mut progress)
    }
}

impl<'a> IntoIterator for &'a View {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View")
            .field("generation", &self.generation())
            .field("is_current", &self.is_current())
            .finish_non_exhaustive()
    }
}
