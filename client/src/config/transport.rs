//! The ways to the server: which there are, and which of them are to be used.

use super::reading::Reading;
use super::value::{self, Token, Wrong};
use std::fmt::{self, Display, Formatter};
use toml::de::DeValue;

/// A kind of transport.
///
/// ```
/// use erlmcp_shm_client::config::TransportKind;
/// let names = TransportKind::ALL.map(TransportKind::name);
/// assert_eq!(names, ["websocket", "http", "sse", "stdio"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// JSON-RPC in the text frames of a WebSocket.
    WebSocket,
    /// Streamable HTTP.
    Http,
    /// HTTP with server-sent events, as it was before Streamable HTTP.
    Sse,
    /// A child process, spoken to through its stdin and stdout.
    Stdio,
}

impl TransportKind {
    /// All, in the order of their usual priorities.
    pub const ALL: [Self; 4] = [Self::WebSocket, Self::Http, Self::Sse, Self::Stdio];

    /// Its name in files, metrics and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Http => "http",
            Self::Sse => "sse",
            Self::Stdio => "stdio",
        }
    }
}

impl Display for TransportKind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The value of `mcp.transport`: which ways to the server are used. Shared memory and the tier in this process
/// have switches of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All that are configured, by priority and health.
    Hybrid,
    /// This one only.
    Only(TransportKind),
    /// None: what is not in shared memory is not to be had.
    SharedMemory,
}

/// A transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportConfig {
    /// Where it leads.
    pub endpoint: Endpoint,
    /// 0 to 10; the highest is tried first.
    pub priority: u8,
    /// Shown to the server as a bearer token; for a child process, the environment variable `ERLMCP_TOKEN`.
    pub token: Option<Token>,
    /// For a child process: what it writes on stderr is told in the error when it ends, and not passed on. No key of
    /// the file: it is for who shows errors to people.
    pub quiet: bool,
}

impl TransportConfig {
    /// A transport with its kind's usual priority and no token.
    ///
    /// ```
    /// use erlmcp_shm_client::config::{Config, Endpoint, TransportConfig};
    /// let mut config = Config::default();
    /// let url = "http://localhost:8080/mcp".to_owned();
    /// config.transports.push(TransportConfig::new(Endpoint::Http { url }));
    /// assert_eq!(config.transports[0].priority, 8);
    /// ```
    pub fn new(endpoint: Endpoint) -> Self {
        let priority = match endpoint.kind() {
            TransportKind::WebSocket => 10,
            TransportKind::Http => 8,
            TransportKind::Sse => 7,
            TransportKind::Stdio => 6,
        };
        Self {
            endpoint,
            priority,
            token: None,
            quiet: false,
        }
    }
}

/// Where a transport leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A WebSocket.
    WebSocket {
        /// `ws://` or `wss://`.
        url: String,
        /// Whether to negotiate permessage-deflate.
        compression: bool,
    },
    /// Streamable HTTP.
    Http {
        /// `http://` or `https://`.
        url: String,
    },
    /// HTTP with server-sent events.
    Sse {
        /// `http://` or `https://`.
        url: String,
    },
    /// A child process.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
    },
}

impl Endpoint {
    /// Its kind.
    pub fn kind(&self) -> TransportKind {
        match self {
            Self::WebSocket { .. } => TransportKind::WebSocket,
            Self::Http { .. } => TransportKind::Http,
            Self::Sse { .. } => TransportKind::Sse,
            Self::Stdio { .. } => TransportKind::Stdio,
        }
    }
}

/// The mode, and the transports that it leaves.
pub(super) fn read(file: &mut Reading<'_>) -> (Mode, Vec<TransportConfig>) {
    let mode = file.take("mcp.transport", mode);
    let mut transports: Vec<_> = (TransportKind::ALL.into_iter())
        .filter_map(|kind| transport(file, kind))
        .collect();
    match mode {
        Mode::Hybrid => {}
        Mode::Only(only) => {
            transports.retain(|transport| transport.endpoint.kind() == only);
            if transports.is_empty() && !file.is_set(needed(only)) {
                file.needs("mcp.transport", needed(only));
            }
        }
        Mode::SharedMemory => transports.clear(),
    }
    // Stable: of equal priorities the order of kinds decides.
    transports.sort_by_key(|transport| std::cmp::Reverse(transport.priority));
    (mode, transports)
}

fn mode(value: &DeValue<'_>) -> Result<Mode, Wrong> {
    const WORDS: [&str; 6] = [
        "hybrid",
        "websocket",
        "http",
        "sse",
        "stdio",
        "shared_memory",
    ];
    let expected = r#""hybrid", "websocket", "http", "sse", "stdio" or "shared_memory""#;
    Ok(match value::word(value, &WORDS, expected)? {
        "websocket" => Mode::Only(TransportKind::WebSocket),
        "http" => Mode::Only(TransportKind::Http),
        "sse" => Mode::Only(TransportKind::Sse),
        "stdio" => Mode::Only(TransportKind::Stdio),
        "shared_memory" => Mode::SharedMemory,
        _ => Mode::Hybrid,
    })
}

/// The key without which a transport does not exist.
fn needed(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::WebSocket => "mcp.erlmcp.websocket.url",
        TransportKind::Http => "mcp.erlmcp.http.url",
        TransportKind::Sse => "mcp.erlmcp.sse.url",
        TransportKind::Stdio => "mcp.erlmcp.stdio.command",
    }
}

/// Reads all keys of a transport, those of one that does not exist too: they are checked all the same.
fn transport(file: &mut Reading<'_>, kind: TransportKind) -> Option<TransportConfig> {
    let (priority, token) = match kind {
        TransportKind::WebSocket => (
            "mcp.erlmcp.websocket.priority",
            "mcp.erlmcp.websocket.token",
        ),
        TransportKind::Http => ("mcp.erlmcp.http.priority", "mcp.erlmcp.http.token"),
        TransportKind::Sse => ("mcp.erlmcp.sse.priority", "mcp.erlmcp.sse.token"),
        TransportKind::Stdio => ("mcp.erlmcp.stdio.priority", "mcp.erlmcp.stdio.token"),
    };
    let priority = file.take(priority, value::priority);
    let token = file.optional(token, value::token);
    let endpoint = match kind {
        TransportKind::WebSocket => {
            let compression = file.take("mcp.erlmcp.websocket.compression", value::boolean);
            let url = file.optional(needed(kind), value::websocket_url);
            url.map(|url| Endpoint::WebSocket { url, compression })
        }
        TransportKind::Http => {
            let url = file.optional(needed(kind), value::http_url);
            url.map(|url| Endpoint::Http { url })
        }
        TransportKind::Sse => {
            let url = file.optional(needed(kind), value::http_url);
            url.map(|url| Endpoint::Sse { url })
        }
        TransportKind::Stdio => {
            let args = file.take("mcp.erlmcp.stdio.args", value::arguments);
            let command = file.optional(needed(kind), value::command);
            command.map(|command| Endpoint::Stdio { command, args })
        }
    };
    endpoint.map(|endpoint| TransportConfig {
        endpoint,
        priority,
        token,
        quiet: false,
    })
}
