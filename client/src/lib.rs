//! MCP answers from the nearest tier that has them: decoded values in this process, published bytes in
//! shared memory, or the MCP server itself.

#![forbid(unsafe_code)]

pub mod config;
pub mod metrics;

mod breaker;
mod score;

#[cfg(test)]
#[path = "../../reader/tests/support/property.rs"]
mod property;

pub use breaker::{Breaker, BreakerOptions, BreakerState, Permit};
pub use config::Config;
pub use metrics::Metrics;
pub use score::{
    Candidate, Checks, FAIL_BACK_CHECKS, FAIL_BACK_MARGIN, Health, Latency, Throughput, best, score,
};
