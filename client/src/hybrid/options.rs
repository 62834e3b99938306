//! How a client behaves.

use crate::UpstreamOptions;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a [`HybridClient`](super::HybridClient) behaves; the defaults are those of `config.toml`.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes that the first tier may hold; 0 turns it off (10 MiB).
    pub l1_bytes: usize,
    /// How long values from the server may be served from the first tier at most (1 s).
    pub l1_ttl: Duration,
    /// How long shared memory is trusted after its writer's last heartbeat (10 s).
    pub l2_ttl: Duration,
    /// Whose private entries may be seen.
    pub partition: String,
    /// Whether an old answer is better than none (false).
    pub stale_on_error: bool,
    /// What a call of a tool invalidates: by the tool's name, or `*` for every tool, the keys, or `prefix*`.
    pub invalidate: BTreeMap<String, Vec<String>>,
    /// For a request (5 s).
    pub request_timeout: Duration,
    /// For a call of a tool (60 s).
    pub call_timeout: Duration,
    /// Of the third tier.
    pub upstream: UpstreamOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            l1_bytes: 10 << 20,
            l1_ttl: Duration::from_secs(1),
            l2_ttl: Duration::from_secs(10),
            partition: String::new(),
            stale_on_error: false,
            invalidate: BTreeMap::new(),
            request_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(60),
            upstream: UpstreamOptions::default(),
        }
    }
}

/// Which tiers a request may be answered from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// The nearest that has it.
    #[default]
    Use,
    /// The server; its answer replaces what the first tier holds.
    Refresh,
    /// The server, and nothing is kept.
    Bypass,
}
