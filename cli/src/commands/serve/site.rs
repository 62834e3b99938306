//! What is answered to whom.

use super::page;
use crate::snapshot::{By, Order, Sampler, Watched};
use bytes::Bytes;
use erlmcp_shm_client::metrics::{ShmFigures, shm_prometheus};
use http_body_util::Full;
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// So many keys the page shows.
const KEYS: usize = 100;
/// What the page is sorted by, as its address says it.
const ORDERS: [(&str, Order); 3] = [
    ("size", order(By::Size, false)),
    ("oldest", order(By::Age, false)),
    ("newest", order(By::Age, true)),
];
const STYLE: &str = include_str!("style.css");

const fn order(by: By, reversed: bool) -> Order {
    Order { by, reversed }
}

/// No script, nothing from elsewhere, and in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

pub struct Site {
    store: Watched,
    sampler: Mutex<Sampler>,
    /// Beside addresses and localhost.
    hosts: Vec<String>,
}

impl Site {
    pub fn new(store: Watched, interval: Duration, hosts: Vec<String>) -> Self {
        // All orders at once, so that it costs no walk of its own to ask for another one.
        let orders = ORDERS.map(|(_, order)| order);
        let sampler = Sampler::new(store.clone(), &orders, KEYS, interval);
        Self {
            store,
            sampler: Mutex::new(sampler),
            hosts,
        }
    }

    /// Notes the counters.
    pub fn note(&self) {
        // What is wrong with the store is told to who asks.
        let _ = self.sampler().note();
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !self.is_ours(request) {
            return text(
                StatusCode::FORBIDDEN,
                "This is not the host that was asked for. Use an address or localhost, or start with --allow-host.\n",
            );
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD.\n");
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        match request.uri().path() {
            "/" => self.page(request.uri().query().unwrap_or_default()),
            "/metrics" => self.metrics(),
            "/style.css" => of_type(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            _ => text(StatusCode::NOT_FOUND, "There are / and /metrics.\n"),
        }
    }

    /// Whether the request is for us by name, and for one host only.
    fn is_ours<B>(&self, request: &Request<B>) -> bool {
        let mut named = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (named.next(), named.next()) else {
            return false;
        };
        let host = host.to_str().ok().and_then(|host| host.parse().ok());
        host.is_some_and(|host: Authority| self.is_host(&host))
            && request
                .uri()
                .authority()
                .is_none_or(|host| self.is_host(host))
    }

    fn is_host(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let own = |name: &String| name.eq_ignore_ascii_case(host);
        address.unwrap_or(host).parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(own)
    }

    /// A store that is not there is an answer too: a scraper shall note that, and not that we are gone.
    fn metrics(&self) -> Response<Full<Bytes>> {
        let figures = self
            .store
            .look()
            .map(|(stats, liveness)| ShmFigures::new(&stats, liveness.heartbeat_age));
        of_type(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            shm_prometheus(figures.ok().as_ref()),
        )
    }

    fn page(&self, query: &str) -> Response<Full<Bytes>> {
        let wanted = query.strip_prefix("sort=");
        let known = ORDERS.iter().position(|(name, _)| Some(*name) == wanted);
        let order = known.unwrap_or(0);
        let snapshot = self.sampler().sample_by(order);
        let status = match &snapshot.store {
            Ok(_) => StatusCode::OK,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let names = ORDERS.map(|(name, _)| name);
        let page = page::page(self.store.path(), &snapshot, names[order], &names);
        of_type(status, "text/html; charset=utf-8", page)
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    of_type(status, "text/plain; charset=utf-8", text)
}

/// (To HEAD the server sends the same without the body.)
fn of_type(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    const HEADERS: [(HeaderName, &str); 4] = [
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
