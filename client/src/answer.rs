//! An answer, and where it came from.

use crate::object::Object;
use rmcp::model::{GetPromptResult, Prompt, ReadResourceResult, Resource, ResourceTemplate, Tool};
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// Where an answer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// In this process.
    L1,
    /// In shared memory.
    L2,
    /// At the MCP server.
    L3,
}

/// Why the second tier was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Passed {
    /// The writer's last heartbeat is longer ago than `l2.ttl`.
    Silent,
    /// A tool call is known to have changed what stands there.
    Invalidated,
    /// It cannot be read, or what it holds not be understood.
    Unreadable(String),
}

/// An answer: dereferences to what was asked for.
#[derive(Debug)]
pub struct Answer<T> {
    object: Arc<Object>,
    pub(crate) tier: Tier,
    pub(crate) version: Option<u64>,
    pub(crate) stale: bool,
    pub(crate) partial: bool,
    pub(crate) passed: Option<Passed>,
    part: PhantomData<fn() -> T>,
}

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        Self {
            object: Arc::clone(&self.object),
            passed: self.passed.clone(),
            ..*self
        }
    }
}

impl<T: Part> Answer<T> {
    /// `None` if the object is something else.
    pub(crate) fn new(object: Arc<Object>, tier: Tier) -> Option<Self> {
        Self::of_version(object, tier, None)
    }

    /// The same, of an entry in shared memory.
    #[inline]
    pub(crate) fn of_version(
        object: Arc<Object>,
        tier: Tier,
        version: Option<u64>,
    ) -> Option<Self> {
        T::of(&object)?;
        Some(Self {
            object,
            tier,
            version,
            stale: false,
            partial: false,
            passed: None,
            part: PhantomData,
        })
    }
}

impl<T> Answer<T> {
    /// Where it was found this time.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The version of the entry in shared memory, if it came from there.
    pub fn version(&self) -> Option<u64> {
        self.version
    }

    /// Whether it is an old answer, given because a fresh one could not be had (`stale_on_error`).
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Whether it is a list of what is published alone, because the server could not be asked for the rest.
    pub fn is_partial(&self) -> bool {
        self.partial
    }

    /// Why shared memory was passed over, if it was.
    pub fn passed(&self) -> Option<&Passed> {
        self.passed.as_ref()
    }
}

impl<T: Part> Deref for Answer<T> {
    type Target = T;

    fn deref(&self) -> &T {
        T::of(&self.object).expect("looked at when the answer was made")
    }
}

/// What a client can be asked for.
pub trait Part: sealed::Of {}

mod sealed {
    use super::Object;

    pub trait Of {
        fn of(object: &Object) -> Option<&Self>;
    }
}
pub(crate) use sealed::Of;

macro_rules! parts {
    ($($part:ty: $variant:ident,)*) => {$(
        impl Part for $part {}
        impl Of for $part {
            #[inline]
            fn of(object: &Object) -> Option<&Self> {
                match object {
                    Object::$variant(part) => Some(part),
                    _ => None,
                }
            }
        }
    )*};
}

parts! {
    ReadResourceResult: Resource,
    Tool: Tool,
    GetPromptResult: Prompt,
    serde_json::Value: Capability,
    Vec<Resource>: Resources,
    Vec<ResourceTemplate>: ResourceTemplates,
    Vec<Tool>: Tools,
    Vec<Prompt>: Prompts,
}
