//! Requests that are under way: who asks for the same thing waits for the same answer.

use crate::ClientError;
use crate::object::Object;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// What a request is for, and in which epoch of the cache it began: one that is older than an invalidation is not
/// joined by anyone who asks after it.
pub(crate) type Flight = (What, u64);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Resource(String),
    Prompt(String),
    Tools,
    Resources,
    ResourceTemplates,
    Prompts,
}

pub(crate) type Fetched = Result<Arc<Object>, ClientError>;
type Fetching = Shared<BoxFuture<'static, Fetched>>;

#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<Flight, Fetching>>);

impl Flights {
    /// Waits for the request that is under way, or makes it. It goes on for as long as anybody waits.
    pub async fn join(
        self: &Arc<Self>,
        flight: Flight,
        fetch: impl FnOnce() -> BoxFuture<'static, Fetched>,
    ) -> Fetched {
        let fetching = {
            let mut flights = self.0.lock();
            match flights.get(&flight) {
                Some(fetching) if fetching.peek().is_none() => fetching.clone(),
                _ => {
                    let fetching = fetch().shared();
                    flights.insert(flight.clone(), fetching.clone());
                    fetching
                }
            }
        };
        let landing = Landing {
            flights: self,
            flight,
            fetching: fetching.clone(),
        };
        let fetched = fetching.await;
        drop(landing);
        fetched
    }
}

/// Takes the request off the list when it has landed, or when its last waiter goes away.
struct Landing<'a> {
    flights: &'a Flights,
    flight: Flight,
    fetching: Fetching,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let landed = self.fetching.peek().is_some();
        // Ours and the listed one; what the caller awaited is dropped before us.
        let alone = self.fetching.strong_count().is_some_and(|count| count <= 2);
        if (landed || alone)
            && let Some(listed) = flights.get(&self.flight)
            && listed.ptr_eq(&self.fetching)
        {
            flights.remove(&self.flight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::oneshot;

    fn flight() -> Flight {
        (What::Tools, 0)
    }

    #[tokio::test]
    async fn those_who_ask_together_share_one_request() {
        let flights = Arc::new(Flights::default());
        let made = Arc::new(AtomicU32::new(0));
        let (land, landed) = oneshot::channel::<()>();
        let landed = landed.shared();
        let ask = || {
            let (made, landed) = (Arc::clone(&made), landed.clone());
            flights.join(flight(), move || {
                made.fetch_add(1, Ordering::Relaxed);
                Box::pin(async move {
                    let _ = landed.await;
                    Ok(Arc::new(Object::Tools(vec![])))
                })
            })
        };
        let all = futures_util::future::join_all((0..10).map(|_| ask()));
        let (answers, _) = tokio::join!(all, async {
            tokio::task::yield_now().await;
            land.send(())
        });
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(flights.0.lock().is_empty());
        ask().await.unwrap();
        assert_eq!(made.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_forgotten() {
        let flights = Arc::new(Flights::default());
        let never = || -> BoxFuture<'static, Fetched> { Box::pin(std::future::pending()) };
        {
            let one = flights.join(flight(), never);
            let other = flights.join(flight(), never);
            tokio::pin!(one, other);
            assert!(futures_util::poll!(&mut one).is_pending());
            assert!(futures_util::poll!(&mut other).is_pending());
            assert_eq!(flights.0.lock().len(), 1);
        }
        assert!(flights.0.lock().is_empty());
    }
}
