//! The transports of MCP: each a way to [connect](crate::Connect).
//!
//! | transport | revisions | by |
//! |---|---|---|
//! | [`Stdio`]: a child process | both | rmcp |
//! | [`Http`]: Streamable HTTP | both | rmcp |

mod http;
mod stdio;

pub use http::Http;
pub use stdio::Stdio;

use crate::Route;
use crate::config::{Endpoint, TransportConfig};

/// Has rustls use ring, unless the program has chosen something itself.
fn use_tls() {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The way to a server that a configuration describes.
///
/// ```
/// use erlmcp_shm_client::config::{Endpoint, TransportConfig};
/// use erlmcp_shm_client::transport;
/// let url = "http://localhost:8080/mcp".to_owned();
/// let route = transport::route(&TransportConfig::new(Endpoint::Http { url }));
/// assert_eq!(route.priority, 8);
/// ```
pub fn route(config: &TransportConfig) -> Route {
    let token = config.token.clone();
    let connect: Box<dyn crate::Connect> = match &config.endpoint {
        Endpoint::Stdio { command, args } => Box::new(Stdio {
            command: command.clone(),
            args: args.clone(),
            token,
        }),
        Endpoint::Http { url } => Box::new(Http {
            url: url.clone(),
            token,
        }),
        Endpoint::WebSocket { .. } | Endpoint::Sse { .. } => todo!("merged from another branch"),
    };
    Route {
        kind: config.endpoint.kind(),
        connect,
        priority: config.priority,
    }
}
