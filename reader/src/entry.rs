//! One entry of a store.

use crate::generation::Generation;
use crate::map::{Found, Pinned};
use bytes::Bytes;
use erlmcp_shm_layout::{Attributes, Kind, RecordShape, Scope, SlotValue, attributes};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// A published entry, as it was when it was looked up.
///
/// Its bytes lie in the mapping and are pinned by the [`View`](crate::View) that it borrows from
/// (in [`pread`](crate::Options::pread) mode the entry owns a copy). They never change.
///
/// ```
/// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
/// # let store = support::doc_store();
/// use erlmcp_shm_reader::{Kind, Reader};
/// let shm = Reader::open(store.path())?;
/// let view = shm.view()?;
/// let entry = view.get(Kind::Resource, "file:///hello.txt")?.unwrap();
/// assert_eq!(entry.data(), b"hello");
/// assert_eq!(entry.metadata(), br#"{"mime_type":"text/plain"}"#);
/// assert_eq!(entry.key(), b"file:///hello.txt");
/// assert_eq!(entry.version(), 1);
/// assert!(entry.expires_at().is_none() && !entry.is_expired());
/// # Ok::<(), erlmcp_shm_reader::ReadError>(())
/// ```
#[derive(Clone)]
pub struct Entry<'a> {
    generation: &'a Arc<Generation>,
    value: SlotValue,
    body: Body<'a>,
}

/// Exactly the record that the entry's value describes, `RecordShape::of(&value).total` long.
#[derive(Clone)]
enum Body<'a> {
    Mapped(Found<'a>),
    Owned(Box<[u8]>),
}

impl<'a> Entry<'a> {
    #[inline(always)]
    pub(crate) fn mapped(
        generation: &'a Arc<Generation>,
        value: SlotValue,
        found: Found<'a>,
    ) -> Self {
        Self {
            generation,
            value,
            body: Body::Mapped(found),
        }
    }

    pub(crate) fn owned(
        generation: &'a Arc<Generation>,
        value: SlotValue,
        record: Vec<u8>,
    ) -> Self {
        Self {
            generation,
            value,
            body: Body::Owned(record.into()),
        }
    }

    #[inline(always)]
    fn record(&self) -> &[u8] {
        match &self.body {
            Body::Mapped(found) => found.record,
            Body::Owned(record) => record,
        }
    }

    #[inline(always)]
    fn shape(&self) -> RecordShape {
        RecordShape::of(&self.value)
    }

    /// The published bytes. They begin on a multiple of 8.
    #[inline]
    pub fn data(&self) -> &[u8] {
        match &self.body {
            Body::Mapped(found) => found.data,
            Body::Owned(record) => {
                &record[self.shape().data as usize..][..self.value.data_len as usize]
            }
        }
    }

    /// The metadata: JSON text, `{}` or nothing where there is none.
    #[inline]
    pub fn metadata(&self) -> &[u8] {
        &self.record()[self.shape().metadata as usize..][..self.value.metadata_len as usize]
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        &self.record()[self.shape().key as usize..][..usize::from(self.value.key_len)]
    }

    /// The name space that the key belongs to.
    #[inline]
    pub fn kind(&self) -> Kind {
        self.value.kind
    }

    /// Rises with every publish in the whole store. Versions compare within one
    /// [`store_id`](crate::View::store_id) only.
    #[inline]
    pub fn version(&self) -> u64 {
        self.value.version
    }

    fn attributes(&self) -> Attributes {
        attributes(self.record())
    }

    /// When the entry expires, in ns of the host's CLOCK_BOOTTIME; `None` is never.
    pub fn expires_at(&self) -> Option<u64> {
        Some(self.attributes().expires_at).filter(|at| *at != 0)
    }

    /// Whether the entry has expired. A lookup finds expired entries too, since it reads no clock;
    /// this reads one if the entry can expire at all. What was to expire in an earlier boot of the
    /// host has expired.
    pub fn is_expired(&self) -> bool {
        self.expires_at()
            .is_some_and(|at| !self.generation.same_boot || at <= crate::sys::boottime_now())
    }

    /// Whether one cached copy may serve every user.
    pub fn scope(&self) -> Scope {
        self.attributes().scope
    }

    /// The data as [`Bytes`] that outlive view and reader: no copy, but one small allocation, and
    /// the whole generation stays mapped while they live. For small values a copy is cheaper.
    ///
    /// ```
    /// # mod support { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/mod.rs")); }
    /// # let store = support::doc_store();
    /// # use erlmcp_shm_reader::{Kind, Reader};
    /// # let shm = Reader::open(store.path())?;
    /// let bytes = shm.view()?.get(Kind::ToolSchema, "search")?.unwrap().to_bytes();
    /// drop(shm);
    /// assert_eq!(bytes, r#"{"type":"object"}"#);
    /// # Ok::<(), erlmcp_shm_reader::ReadError>(())
    /// ```
    pub fn to_bytes(&self) -> Bytes {
        self.pin(self.data())
    }

    /// The metadata as [`Bytes`], on the same terms as [`to_bytes`](Self::to_bytes).
    pub fn metadata_to_bytes(&self) -> Bytes {
        self.pin(self.metadata())
    }

    fn pin(&self, part: &[u8]) -> Bytes {
        match Pinned::new(self.generation, part) {
            Some(pinned) => Bytes::from_owner(pinned),
            None => Bytes::copy_from_slice(part),
        }
    }

    /// The data, borrowed from the view for as long as that lives (a copy in pread mode).
    pub fn into_data(self) -> Cow<'a, [u8]> {
        match &self.body {
            Body::Mapped(found) => Cow::Borrowed(found.data),
            Body::Owned(_) => Cow::Owned(self.data().to_vec()),
        }
    }
}

impl fmt::Debug for Entry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("kind", &self.kind())
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("version", &self.version())
            .field("data_len", &self.value.data_len)
            .finish_non_exhaustive()
    }
}
