//! A child process that speaks MCP on its stdin and stdout.
//!
//! What it writes to stderr goes to ours. Lines on its stdout that are no messages are skipped. When the connection
//! ends, its stdin is closed; a child that has not ended three seconds later is sent SIGTERM, and SIGKILL as long after.

use crate::config::Token;
use crate::upstream::{Connect, ConnectError, Connected, Listener, Revision};
use futures_util::future::BoxFuture;
use rmcp::transport::TokioChildProcess;
use std::time::Duration;
use tokio::process::Command;

/// A child process.
///
/// ```
/// let server = erlmcp_shm_client::transport::Stdio {
///     command: "npx".into(),
///     args: vec!["-y".into(), "@modelcontextprotocol/server-everything".into()],
///     token: None,
/// };
/// ```
#[derive(Clone, Debug)]
pub struct Stdio {
    /// The program; looked up on the PATH if there is no slash in it.
    pub command: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Given to it in the environment variable `ERLMCP_TOKEN`.
    pub token: Option<Token>,
}

impl Connect for Stdio {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        let dial = || async {
            let mut command = Command::new(&self.command);
            command.args(&self.args);
            if let Some(token) = &self.token {
                command.env("ERLMCP_TOKEN", token.expose());
            }
            let spawned = TokioChildProcess::new(command);
            spawned.map_err(|error| format!("cannot start {:?}: {error}", self.command).into())
        };
        Box::pin(async move { Revision::Auto.negotiate(listener, within, dial).await })
    }
}
