//! What an entry is, and who may share it.

use core::fmt;
use core::str::FromStr;

/// The four name spaces of a store. The discriminant is the `Type` byte of the entry.
///
/// ```
/// use erlmcp_shm_layout::Kind;
/// assert_eq!(Kind::ToolSchema as u8, 2);
/// assert_eq!("tool".parse(), Ok(Kind::ToolSchema));
/// assert_eq!(Kind::from_u8(9), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An MCP resource: key is the URI, data the raw content.
    Resource = 1,
    /// A tool: key is its name, data its input schema as JSON text.
    ToolSchema = 2,
    /// A prompt template: key is its name, data JSON text.
    Prompt = 3,
    /// A server capability or server information: data JSON text.
    Capability = 4,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 4] = [
        Kind::Resource,
        Kind::ToolSchema,
        Kind::Prompt,
        Kind::Capability,
    ];

    /// The kind with this number, if there is one.
    #[inline]
    pub const fn from_u8(n: u8) -> Option<Kind> {
        match n {
            1 => Some(Kind::Resource),
            2 => Some(Kind::ToolSchema),
            3 => Some(Kind::Prompt),
            4 => Some(Kind::Capability),
            _ => None,
        }
    }

    /// The name on the command line and in Erlang: `resource`, `tool`, `prompt`, `capability`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Resource => "resource",
            Kind::ToolSchema => "tool",
            Kind::Prompt => "prompt",
            Kind::Capability => "capability",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(s: &str) -> Result<Self, UnknownKind> {
        Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == s)
            .ok_or(UnknownKind)
    }
}

/// The text names no [`Kind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a kind: use resource, tool, prompt or capability")]
pub struct UnknownKind;

/// Whether one cached copy may serve every user (MCP's `cacheScope`).
///
/// ```
/// assert_eq!(erlmcp_shm_layout::Scope::default().as_str(), "public");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Scope {
    /// May be shared between users.
    #[default]
    Public = 0,
    /// Belongs to one user.
    Private = 1,
}

impl Scope {
    /// MCP's name for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Public => "public",
            Scope::Private => "private",
        }
    }
}
