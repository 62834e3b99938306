//! MCP answers from the nearest tier that has them: decoded values in this process, published bytes in
//! shared memory, or the MCP server itself.

#![forbid(unsafe_code)]

mod breaker;

pub use breaker::{Breaker, BreakerOptions, BreakerState, Permit};
