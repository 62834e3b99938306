//! MCP answers from the nearest tier that has them: decoded values in this process, published bytes in
//! shared memory, or the MCP server itself.

pub mod transport;
