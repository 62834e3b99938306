//! The file `config.toml`: what it may say, and what holds where it says nothing.
//!
//! All keys, with their meanings and defaults, are in [`KEYS`]; the file `config/config.toml` of the source tree
//! shows each. A file is taken as a whole or refused as a whole: a key that is not known or a value that is
//! none ends in a [`ConfigError`] that lists all of them with line and column.
//!
//! Sizes are written `"10MB"`, `"512kB"` (a kB is 1024 bytes) or as a number of bytes; durations `"100ms"`, `"5s"`,
//! `"10m"`. A transport without a `url` or a `command` does not exist, and a tier that is not enabled is `None`.
//!
//! ```
//! use erlmcp_shm_client::config::{Config, Endpoint, Mode};
//! use std::time::Duration;
//!
//! let config = Config::parse(r#"
//!     [mcp]
//!     transport = "hybrid"
//!
//!     [mcp.erlmcp]
//!     websocket.url = "ws://localhost:8080/mcp/ws"
//!     stdio.command = "my-server"
//!
//!     [cache]
//!     l1.size = "64MB"
//!     l2.ttl = "30s"
//! "#)?;
//! assert_eq!(config.mode, Mode::Hybrid);
//! assert_eq!(config.transports.len(), 2); // the WebSocket first: its priority is higher
//! assert!(matches!(config.transports[0].endpoint, Endpoint::WebSocket { compression: true, .. }));
//! assert_eq!(config.l1.unwrap().size, 64 << 20);
//! assert_eq!(config.l2.unwrap().ttl, Duration::from_secs(30));
//! assert_eq!(config.request_timeout, Duration::from_secs(5));
//! # Ok::<(), erlmcp_shm_client::config::ConfigError>(())
//! ```

mod error;
mod invalidate;
mod keys;
mod reading;
#[cfg(test)]
mod tests;
mod transport;
mod value;

pub use error::{ConfigError, Fault, Problem};
pub use invalidate::{Invalidate, Pattern};
pub use keys::{KEYS, Key};
pub use transport::{Endpoint, Mode, TransportConfig, TransportKind};
pub use value::Token;

use crate::BreakerOptions;
use erlmcp_shm_reader::Reader;
use reading::Reading;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How a client is set up. [`Config::default`] is an empty file's: shared memory at its usual path, and no transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Which transports there are.
    pub mode: Mode,
    /// The transports that the mode leaves, highest priority first.
    pub transports: Vec<TransportConfig>,
    /// How long a request may take, retries on other transports included.
    pub request_timeout: Duration,
    /// How long a call of a tool may take: a minute, or the request's time if that is longer.
    pub call_timeout: Duration,
    /// How long connecting and negotiating may take; three times that for a child process, which has to start.
    pub connect_timeout: Duration,
    /// How often each transport is checked.
    pub health_check_interval: Duration,
    /// When a transport that fails is left alone.
    pub circuit_breaker: BreakerOptions,
    /// Decoded values in this process; `None` where that is switched off.
    pub l1: Option<L1Config>,
    /// Shared memory; `None` where that is switched off.
    pub l2: Option<L2Config>,
    /// Whose private entries we may read.
    pub partition: String,
    /// Whether a value that has run out is better than an error.
    pub stale_on_error: bool,
    /// What calls of tools invalidate.
    pub invalidate: Invalidate,
}

/// The tier in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct L1Config {
    /// Bytes of values.
    pub size: u64,
    /// For how long a value that came from the server is good.
    pub ttl: Duration,
}

/// The tier in shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct L2Config {
    /// The file.
    pub path: PathBuf,
    /// How often to look whether another file has taken its place.
    pub refresh_interval: Duration,
    /// The id of another user whose file is believed, too.
    pub trust_owner: Option<u32>,
    /// For how long it is trusted after its writer's last sign of life.
    pub ttl: Duration,
}

impl L2Config {
    /// How to read it.
    pub fn options(&self) -> erlmcp_shm_reader::Options {
        let options = Reader::options().refresh_interval(self.refresh_interval);
        match self.trust_owner {
            Some(uid) => options.trust_owner(uid),
            None => options,
        }
    }
}

/// The least that a tool gets.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

impl Config {
    /// Reads a file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|error| match error {
            ConfigError::Refused { problems, .. } => ConfigError::Refused {
                path: Some(path.to_owned()),
                problems,
            },
            error => error,
        })
    }

    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut file = Reading::new(text)?;
        let (mode, transports) = transport::read(&mut file);
        let l1 = L1Config {
            size: file.take("cache.l1.size", value::size),
            ttl: file.take("cache.l1.ttl", value::duration),
        };
        let l2 = L2Config {
            path: file.take("mcp.erlmcp.shared_memory.path", value::path),
            refresh_interval: file
                .take("mcp.erlmcp.shared_memory.refresh_interval", value::positive),
            trust_owner: file.optional("mcp.erlmcp.shared_memory.trust_owner", value::user),
            ttl: file.take("cache.l2.ttl", value::duration),
        };
        let l1_enabled = file.take("cache.l1.enabled", value::boolean);
        // Either switch turns it off; both are read, so that both are checked.
        let published = file.take("mcp.erlmcp.shared_memory.enabled", value::boolean);
        let l2_enabled = file.take("cache.l2.enabled", value::boolean) && published;
        let mut invalidate = Invalidate::default();
        for (tool, patterns) in file.each("cache.invalidate", invalidate::patterns) {
            invalidate.add(tool, patterns);
        }
        let request_timeout = file.take("mcp.request_timeout", value::positive);
        let config = Self {
            mode,
            transports,
            request_timeout,
            call_timeout: request_timeout.max(CALL_TIMEOUT),
            connect_timeout: file.take("mcp.connect_timeout", value::positive),
            health_check_interval: file.take("mcp.health_check_interval", value::positive),
            circuit_breaker: BreakerOptions {
                enabled: file.take("mcp.circuit_breaker.enabled", value::boolean),
                failure_threshold: file
                    .take("mcp.circuit_breaker.failure_threshold", value::threshold),
                success_threshold: file
                    .take("mcp.circuit_breaker.success_threshold", value::threshold),
                timeout: file.take("mcp.circuit_breaker.timeout", value::duration),
            },
            l1: l1_enabled.then_some(l1),
            l2: l2_enabled.then_some(l2),
            partition: file.take("cache.partition", value::text),
            stale_on_error: file.take("cache.stale_on_error", value::boolean),
            invalidate,
        };
        file.finish()?;
        Ok(config)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::parse("").expect("every key has a default or may be unset")
    }
}
