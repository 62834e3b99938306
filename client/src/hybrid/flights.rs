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
            fetching: Some(fetching.clone()),
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
    /// `None` in the drop alone.
    fetching: Option<Fetching>,
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let Some(ours) = self.fetching.take() else {
            return;
        };
        let Some(listed) = flights.get(&self.flight) else {
            return;
        };
        if !listed.ptr_eq(&ours) {
            return;
        }
        let landed = ours.peek().is_some();
        // Let go of under the lock, so that of two waiters that go at once one finds that it was the last. (What they
        // awaited was dropped before.)
        drop(ours);
        if landed || listed.strong_count().is_some_and(|count| count <= 1) {
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

    /// Pair by pair in two threads, each pair at the same moment as nearly as can be.
    #[test]
    fn those_who_go_at_once_leave_nothing() {
        const PAIRS: u64 = 20_000;
        let flights = Arc::new(Flights::default());
        let waiter = |epoch| {
            let never = || -> BoxFuture<'static, Fetched> { Box::pin(std::future::pending()) };
            let mut waiter = Box::pin(flights.join((What::Tools, epoch), never));
            assert!(waiter.as_mut().now_or_never().is_none());
            waiter
        };
        let pairs = (0..PAIRS).map(|epoch| (waiter(epoch), waiter(epoch)));
        let (ones, others): (Vec<_>, Vec<_>) = pairs.unzip();
        let come = &AtomicU32::new(0);
        std::thread::scope(|threads| {
            for waiters in [ones, others] {
                threads.spawn(move || {
                    for (n, waiter) in waiters.into_iter().enumerate() {
                        come.fetch_add(1, Ordering::SeqCst);
                        let mut spins = 0;
                        while come.load(Ordering::SeqCst) < 2 * (n as u32 + 1) {
                            spins += 1;
                            if spins % 1_000 == 0 {
                                std::thread::yield_now();
                            }
                        }
                        drop(waiter);
                    }
                });
            }
        });
        assert!(flights.0.lock().is_empty());
    }
}
