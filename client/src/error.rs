//! Why a client has no answer.

use crate::UpstreamError;
use erlmcp_shm_reader::{Kind, ReadError};
use std::time::Duration;

/// Why there is no answer. `Clone`, because several callers may wait for the same one.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No tier has it.
    #[error("no {kind} {key:?}: neither in shared memory nor at the server")]
    NotFound {
        /// What was asked for.
        kind: Kind,
        /// Under which key.
        key: String,
    },
    /// Shared memory cannot be read, and there is no server to ask instead.
    #[error("shared memory: {0}")]
    Shared(ReadError),
    /// The writer has been silent for longer than `l2.ttl`, and there is no server to ask instead.
    #[error(
        "the writer of shared memory has been silent for {0:?}: start it, or raise cache.l2.ttl"
    )]
    Silent(Duration),
    /// What is published under the key is not what MCP says it should be.
    #[error("what is published cannot be understood: {0}")]
    Undecodable(String),
    /// A prompt was asked for without an argument that it requires.
    #[error("the prompt requires the argument {0:?}")]
    MissingArgument(String),
    /// The server gave no answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}
