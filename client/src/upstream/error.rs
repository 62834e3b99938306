//! Why the server gave no answer.

use std::time::Duration;

/// Why the server gave no answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// There is no transport at all.
    #[error("no transport to a server is configured: give one a url or a command")]
    NoTransport,
    /// Every transport failed: each with its reason, in the order in which they were tried.
    #[error("no transport works: {}", list(.0))]
    Unavailable(Vec<(String, String)>),
    /// The server answered with an error of the protocol.
    #[error("the server refused: {0}")]
    Refused(rmcp::ErrorData),
    /// The deadline passed.
    #[error("no answer within {0:?}: give the request more time, or look at the server")]
    Timeout(Duration),
    /// The transport was lost when the request was on its way. It may have been carried out, so it was not
    /// sent again.
    #[error(
        "{transport} was lost while the call was under way, which may have been carried out: {reason}"
    )]
    Lost {
        /// The transport's name.
        transport: String,
        /// What it said.
        reason: String,
    },
    /// An answer of the wrong kind.
    #[error("the server answered {0} with something else")]
    Unexpected(&'static str),
}

fn list(failures: &[(String, String)]) -> String {
    let each = failures
        .iter()
        .map(|(name, reason)| format!("{name}: {reason}"));
    each.collect::<Vec<_>>().join("; ")
}
