//! A request's way over the transports: which are tried, in which order, and what comes of it.

use super::link::Failed;
use super::{Repeat, Upstream, UpstreamError};
use crate::object::Json;
use rmcp::model::{ClientRequest, ServerResult};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often a request goes through all transports, where connections are lost again and again.
const MAX_ROUNDS: usize = 3;

const BREAKER_OPEN: &str = "its circuit breaker is open";

impl Upstream {
    /// Sends a request over the best transport that takes it.
    pub async fn request(
        &self,
        request: ClientRequest,
        repeat: Repeat,
        within: Duration,
    ) -> Result<ServerResult, UpstreamError> {
        if self.links.is_empty() {
            return Err(UpstreamError::NoTransport);
        }
        let deadline = Instant::now() + within;
        let mut failures = Vec::new();
        let (mut timed_out, mut lost_one) = (false, false);
        let mut rounds = 0;
        let mut order = self.order();
        let mut tried = 0;
        loop {
            if tried == order.len() {
                // A connection that was lost can be made again: once more from the start, if one was.
                rounds += 1;
                if !std::mem::take(&mut lost_one) || rounds == MAX_ROUNDS {
                    break;
                }
                (order, tried) = (self.order(), 0);
            }
            let n = order[tried];
            tried += 1;
            let link = &self.links[n];
            let Some(permit) = self.permit(link, Instant::now()) else {
                failures.push((link.kind.to_string(), BREAKER_OPEN.to_owned()));
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            // One that does not answer must leave time for the next.
            let is_last = tried == order.len() || repeat == Repeat::Never;
            let share = if is_last { left } else { left / 2 };
            let failed_over = !failures.is_empty();
            if failed_over {
                self.failovers.fetch_add(1, Ordering::Relaxed);
            }
            match link.request(request.clone(), share).await {
                Ok(result) => {
                    permit.success(Instant::now());
                    if failed_over {
                        self.failovers_that_worked.fetch_add(1, Ordering::Relaxed);
                        *self.active.lock() = Some(n);
                    }
                    return Ok(result);
                }
                Err(Failed::Refused(error)) => {
                    permit.success(Instant::now());
                    return Err(UpstreamError::Refused(error));
                }
                Err(Failed::NotSent(reason)) => {
                    permit.failure(Instant::now());
                    failures.push((link.kind.to_string(), reason));
                }
                Err(Failed::Lost { reason, first }) => {
                    // However many requests were under way, one connection was lost.
                    if first {
                        permit.failure(Instant::now());
                    }
                    lost_one = true;
                    if repeat == Repeat::Never {
                        let transport = link.kind.to_string();
                        return Err(UpstreamError::Lost { transport, reason });
                    }
                    failures.push((link.kind.to_string(), reason));
                }
                Err(Failed::Timeout) => {
                    permit.failure(Instant::now());
                    if repeat == Repeat::Never {
                        return Err(UpstreamError::Timeout(within));
                    }
                    timed_out = true;
                    failures.push((link.kind.to_string(), format!("no answer within {share:?}")));
                }
            }
        }
        if timed_out && deadline <= Instant::now() {
            return Err(UpstreamError::Timeout(within));
        }
        Err(UpstreamError::Unavailable(failures))
    }

    /// What the server says of itself, over the best transport that connects.
    pub async fn about(&self, within: Duration) -> Result<Json, UpstreamError> {
        if self.links.is_empty() {
            return Err(UpstreamError::NoTransport);
        }
        let deadline = Instant::now() + within;
        let mut failures = Vec::new();
        for n in self.order() {
            let link = &self.links[n];
            let Some(permit) = self.permit(link, Instant::now()) else {
                failures.push((link.kind.to_string(), BREAKER_OPEN.to_owned()));
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match link.about(left).await {
                Ok(about) => {
                    permit.success(Instant::now());
                    return Ok(about);
                }
                Err(reason) => {
                    permit.failure(Instant::now());
                    failures.push((link.kind.to_string(), reason));
                }
            }
        }
        Err(UpstreamError::Unavailable(failures))
    }
}
