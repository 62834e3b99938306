//! Streamable HTTP.

use crate::config::Token;
use crate::upstream::{Connect, ConnectError, Connected, Listener, Revision};
use futures_util::future::BoxFuture;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use std::time::Duration;

/// A server behind one URL, by Streamable HTTP; `https` by rustls, with the system's roots.
///
/// ```
/// let server = erlmcp_shm_client::transport::Http {
///     url: "http://localhost:8080/mcp".into(),
///     token: None,
/// };
/// ```
#[derive(Clone, Debug)]
pub struct Http {
    /// `http://` or `https://`.
    pub url: String,
    /// Sent as a bearer token.
    pub token: Option<Token>,
}

impl Connect for Http {
    fn connect(
        &self,
        listener: Listener,
        within: Duration,
    ) -> BoxFuture<'_, Result<Connected, ConnectError>> {
        super::use_tls();
        let dial = || async {
            let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.clone());
            if let Some(token) = &self.token {
                config = config.auth_header(token.expose());
            }
            Ok(StreamableHttpClientTransport::from_config(config))
        };
        Box::pin(async move { Revision::Auto.negotiate(listener, within, dial).await })
    }
}
