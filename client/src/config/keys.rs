//! Every key there is, once: the reader of a file asks this table which names it knows and what holds where one is
//! not set, and the commented file in `config/` is compared with it.

/// A key of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, from the top of the file.
    pub name: &'static str,
    /// What holds where it is not set, as TOML; empty where that is nothing.
    pub default: &'static str,
    /// What it is for.
    pub meaning: &'static str,
}

const fn key(name: &'static str, default: &'static str, meaning: &'static str) -> Key {
    Key {
        name,
        default,
        meaning,
    }
}

/// All of them, in the order in which a file is best read.
///
/// ```
/// use erlmcp_shm_client::config::KEYS;
/// let size = KEYS.iter().find(|key| key.name == "cache.l1.size").unwrap();
/// assert_eq!(size.default, "\"10MB\"");
/// ```
#[rustfmt::skip] // a table: one row, one line
pub const KEYS: &[Key] = &[
    key("mcp.transport", r#""hybrid""#, r#"Which transports lead to the server: "hybrid" is all that are configured below, by priority and health; "websocket", "http", "sse" or "stdio" that one only; "shared_memory" none."#),
    key("mcp.request_timeout", r#""5s""#, "How long a request may take, retries on other transports included; tools/call has a minute, or this if it is longer."),
    key("mcp.connect_timeout", r#""2s""#, "How long connecting and negotiating may take; three times that for a child process, which has to start."),
    key("mcp.health_check_interval", r#""30s""#, "How often each transport is asked whether it is well."),
    key("mcp.erlmcp.websocket.url", "", "Where the server listens for WebSockets: ws:// or wss://."),
    key("mcp.erlmcp.websocket.compression", "true", "Whether to negotiate permessage-deflate (RFC 7692)."),
    key("mcp.erlmcp.websocket.priority", "10", "Priority of the WebSocket, 0 to 10."),
    key("mcp.erlmcp.websocket.token", "", "Bearer token for the WebSocket's handshake."),
    key("mcp.erlmcp.http.url", "", "Where the server speaks Streamable HTTP: http:// or https://."),
    key("mcp.erlmcp.http.priority", "8", "Priority of Streamable HTTP, 0 to 10."),
    key("mcp.erlmcp.http.token", "", "Bearer token for Streamable HTTP."),
    key("mcp.erlmcp.sse.url", "", "Where the server speaks the older HTTP with server-sent events: http:// or https://."),
    key("mcp.erlmcp.sse.priority", "7", "Priority of HTTP with server-sent events, 0 to 10."),
    key("mcp.erlmcp.sse.token", "", "Bearer token for HTTP with server-sent events."),
    key("mcp.erlmcp.stdio.command", "", "The program to start as a server that is spoken to through stdin and stdout."),
    key("mcp.erlmcp.stdio.args", "[]", "Its arguments."),
    key("mcp.erlmcp.stdio.priority", "6", "Priority of the started program, 0 to 10."),
    key("mcp.erlmcp.stdio.token", "", "Handed to the started program in the environment variable ERLMCP_TOKEN."),
    key("mcp.erlmcp.shared_memory.enabled", "true", "Whether to read what an Erlang node publishes in shared memory."),
    key("mcp.erlmcp.shared_memory.path", r#""/dev/shm/erlmcp_export.bin""#, "The file it publishes in."),
    key("mcp.erlmcp.shared_memory.refresh_interval", r#""100ms""#, "How often to look whether another file has taken its place."),
    key("mcp.erlmcp.shared_memory.trust_owner", "", "The id of another user whose file is believed, too."),
    key("mcp.circuit_breaker.enabled", "true", "Whether a transport that fails again and again is left alone for a while."),
    key("mcp.circuit_breaker.failure_threshold", "5", "After how many failures in a row."),
    key("mcp.circuit_breaker.success_threshold", "2", "After how many successes it is trusted again."),
    key("mcp.circuit_breaker.timeout", r#""30s""#, "For how long it is left alone before it is tried again."),
    key("cache.l1.enabled", "true", "Whether to keep decoded values in this process."),
    key("cache.l1.size", r#""10MB""#, "How much of them."),
    key("cache.l1.ttl", r#""1s""#, "For how long one that came from the server is good; one from shared memory is good until it changes there."),
    key("cache.l2.enabled", "true", "Whether shared memory answers reads."),
    key("cache.l2.ttl", r#""10s""#, "For how long it still does after its writer's last sign of life."),
    key("cache.partition", r#""""#, "Which private entries are ours: those that name this partition in their metadata."),
    key("cache.stale_on_error", "false", "Whether a value that has run out is given where no fresh one can be had."),
    key("cache.invalidate", "{}", r#"Which keys a call of a tool invalidates: under the tool's name, or "*" for every tool, a list of keys and of prefixes with a "*" behind."#),
];
