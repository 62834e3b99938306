//! MCP answers from the nearest tier that has them: decoded values in this process, published bytes in
//! shared memory, or the MCP server itself.

#![forbid(unsafe_code)]

pub mod config;
pub mod metrics;
pub mod transport;

mod answer;
mod breaker;
mod dropin;
mod error;
mod hybrid;
mod object;
mod published;
mod score;
mod upstream;

#[cfg(test)]
#[path = "../../reader/tests/support/property.rs"]
mod property;

pub use answer::{Answer, Part, Passed, Tier};
pub use breaker::{Breaker, BreakerOptions, BreakerState, Permit};
pub use config::Config;
pub use dropin::ShmTransport;
pub use error::ClientError;
pub use hybrid::{CacheMode, Change, Changes, HybridClient, Options, Request};
pub use metrics::Metrics;
pub use score::{
    Candidate, Checks, FAIL_BACK_CHECKS, FAIL_BACK_MARGIN, Health, Latency, Throughput, best, score,
};
pub use upstream::{
    Connect, ConnectError, Listener, Notice, Revision, Route, Session, TransportStatus,
    UpstreamError, UpstreamOptions,
};
