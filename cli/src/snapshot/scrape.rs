//! What a client, or a node for all of its clients, says of the tiers that answered: read as a scraper does.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use std::fmt::Display;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of text that are read.
const LONGEST: usize = 4 << 20;

/// How reads were answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiers {
    /// Shares of all reads: answered from the process, from shared memory, by neither.
    pub shares: [f64; 3],
    /// Reads per second, likewise; `None` until there are two texts to compare.
    pub rates: Option<[f64; 3]>,
    /// Seconds within which half, and 99 of 100, are answered.
    pub quantiles: Option<[f64; 2]>,
    /// Share of reads below 50 microseconds.
    pub compliance: f64,
    /// Reads so far.
    reads: f64,
}

/// Takes an URL of plain HTTP.
pub fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match (url.scheme(), url.host_str()) {
        ("http", Some(_)) => Ok(url),
        _ => Err("not an URL of the form http://HOST:PORT/PATH".into()),
    }
}

/// Asks again and again.
pub struct Scraper {
    url: Url,
    last: Option<(Instant, Tiers)>,
}

impl Scraper {
    pub fn new(url: Url) -> Self {
        Self { url, last: None }
    }

    /// What is said now, with what that makes since the time before.
    pub async fn ask(&mut self) -> Result<Tiers, String> {
        let text = match timeout(PATIENCE, fetch(&self.url)).await {
            Ok(text) => text?,
            Err(_) => return Err(format!("{}: no answer", self.url)),
        };
        let now = Instant::now();
        let mut tiers = Tiers::parse(&text)
            .ok_or_else(|| format!("{}: no metrics of reads in the answer", self.url))?;
        if let Some((then, before)) = self.last.replace((now, tiers)) {
            tiers.rates = tiers.since(&before, now - then);
        }
        Ok(tiers)
    }
}

async fn fetch(url: &Url) -> Result<String, String> {
    let failed = |error: &dyn Display| format!("{url}: {error}");
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    // An address of the sixth version stands in brackets in an URL.
    let address = (host.trim_matches(['[', ']']), port);
    let stream = TcpStream::connect(address).await.map_err(|e| failed(&e))?;
    let connection = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = connection.map_err(|e| failed(&e))?;
    let connection = tokio::spawn(connection);
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(
            HOST,
            &url[url::Position::BeforeHost..url::Position::AfterPort],
        )
        .body(Empty::<Bytes>::new())
        .map_err(|e| failed(&e))?;
    let response = sender.send_request(request).await.map_err(|e| failed(&e))?;
    if !response.status().is_success() {
        return Err(failed(&response.status()));
    }
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|e| failed(&e))?.to_bytes();
    connection.abort();
    String::from_utf8(body.into()).map_err(|e| failed(&e))
}

impl Tiers {
    /// Out of the text that a scraper gets; `None` if nothing of reads is in it.
    pub fn parse(text: &str) -> Option<Self> {
        let value = |sample: &str| {
            let name = format!("erlmcp_claude_flow_{sample} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        let quantile = |q| value(&format!("latency_seconds{{quantile=\"{q}\"}}"));
        let quantiles = quantile("0.5").zip(quantile("0.99"));
        Some(Self {
            shares: [
                value("cache_hit_rate{cache=\"l1\"}")?,
                value("cache_hit_rate{cache=\"l2\"}")?,
                value("cache_miss_rate")?,
            ],
            rates: None,
            quantiles: quantiles
                .filter(|(p50, p99)| p50.is_finite() && p99.is_finite())
                .map(<[f64; 2]>::from),
            compliance: value("sona_compliance_ratio")?,
            reads: value("latency_seconds_count")?,
        })
    }

    /// Reads per second of each tier since `before`; `None` if they were counted anew.
    fn since(&self, before: &Self, time: Duration) -> Option<[f64; 3]> {
        if self.reads < before.reads || time.is_zero() {
            return None;
        }
        let reads = |tiers: &Self, tier: usize| tiers.shares[tier] * tiers.reads;
        Some(
            [0, 1, 2].map(|tier| {
                ((reads(self, tier) - reads(before, tier)) / time.as_secs_f64()).max(0.0)
            }),
        )
    }
}
