//! How a client behaves.

use crate::UpstreamOptions;
use crate::config::{Config, Invalidate};
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
    /// What a call of a tool invalidates.
    pub invalidate: Invalidate,
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
            invalidate: Invalidate::default(),
            request_timeout: Duration::from_secs(5),
            call_timeout: Duration::from_secs(60),
            upstream: UpstreamOptions::default(),
        }
    }
}

impl Options {
    /// What a configuration says.
    pub(super) fn of(config: &Config) -> Self {
        let l1 = config.l1.as_ref();
        Self {
            l1_bytes: l1.map_or(0, |l1| usize::try_from(l1.size).unwrap_or(usize::MAX)),
            l1_ttl: l1.map_or(Duration::ZERO, |l1| l1.ttl),
            l2_ttl: config.l2.as_ref().map_or(Duration::ZERO, |l2| l2.ttl),
            partition: config.partition.clone(),
            stale_on_error: config.stale_on_error,
            invalidate: config.invalidate.clone(),
            request_timeout: config.request_timeout,
            call_timeout: config.call_timeout,
            upstream: UpstreamOptions {
                connect_timeout: config.connect_timeout,
                health_check_interval: config.health_check_interval,
                breaker: config.circuit_breaker,
            },
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
