use std::time::Duration;

use rmcp::transport::{
    StreamableHttpClientTransport, streamable_http_client::StreamableHttpClientTransportConfig,
};
use url::Url;

use super::token::bearer;
use super::{CONNECT_TIMEOUT, MAX_MESSAGE_BYTES, Tls, Token, TransportError};

/// A server over Streamable HTTP.
///
/// ```
/// use erlmcp_shm_client::transport::{Http, Transport};
///
/// let server = Http::new("https://mcp.example/mcp").token("secret");
/// assert_eq!(Transport::from(server).name(), "http");
/// ```
#[derive(Clone, Debug)]
pub struct Http {
    /// The one endpoint, `http://` or `https://`.
    pub url: String,
    /// Sent as `Authorization: Bearer …`.
    pub token: Option<Token>,
    /// For the TCP connection and TLS; how long an answer may take is the caller's to bound.
    pub connect_timeout: Duration,
    /// The largest event and the largest JSON body that is read.
    pub max_message_bytes: usize,
    /// Whom https trusts.
    pub tls: Tls,
}

impl Http {
    /// No token, 2 s to connect, the system's certificates.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            token: None,
            connect_timeout: CONNECT_TIMEOUT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            tls: Tls::default(),
        }
    }

    /// Sets the bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    pub(super) fn connect(
        &self,
    ) -> Result<StreamableHttpClientTransport<reqwest::Client>, TransportError> {
        let url = parse_url(&self.url, &["http", "https"])?;
        let client = client(&url, &self.tls, self.connect_timeout)?;
        let mut config = StreamableHttpClientTransportConfig::with_uri(self.url.as_str());
        config.max_sse_event_size = self.max_message_bytes;
        config.max_json_response_size = self.max_message_bytes;
        if let Some(token) = &self.token {
            bearer(token)?;
            config = config.auth_header(token.expose());
        }
        Ok(StreamableHttpClientTransport::with_client(client, config))
    }
}

/// The HTTP client of both HTTP transports.
pub(super) fn client(
    url: &Url,
    tls: &Tls,
    connect_timeout: Duration,
) -> Result<reqwest::Client, TransportError> {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.config(url.scheme() == "https")?)
        .connect_timeout(connect_timeout)
        // A peer that vanished without a word is noticed on a stream that only listens, too.
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_keepalive_interval(Duration::from_secs(5))
        .tcp_keepalive_retries(3)
        .build()
        .map_err(TransportError::Http)
}

pub(super) fn parse_url(url: &str, schemes: &[&str]) -> Result<Url, TransportError> {
    let bad = |reason: String| TransportError::BadUrl {
        url: url.into(),
        reason,
    };
    let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
    if schemes.contains(&parsed.scheme()) {
        Ok(parsed)
    } else {
        Err(bad(format!("its scheme must be {}", schemes.join(" or "))))
    }
}
