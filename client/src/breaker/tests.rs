//! By hand what the states are for, and the whole machine against a model.

use super::*;
use crate::property;
use proptest::prelude::*;
use std::thread;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn breaker() -> Breaker {
    Breaker::new(BreakerOptions::default())
}

fn opened(at: Instant) -> Breaker {
    let breaker = breaker();
    (0..5).for_each(|_| breaker.record_failure(at));
    assert_eq!(breaker.state(at), BreakerState::Open);
    breaker
}

#[test]
fn only_failures_in_a_row_open_it() {
    let (breaker, now) = (breaker(), Instant::now());
    for _ in 0..10 {
        (0..4).for_each(|_| breaker.record_failure(now));
        breaker.record_success(now);
    }
    assert_eq!(breaker.state(now), BreakerState::Closed);
}

#[test]
fn it_stays_open_for_the_timeout_whatever_is_recorded() {
    let start = Instant::now();
    let breaker = opened(start);
    breaker.record_success(start + ms(1));
    breaker.record_failure(start + ms(29_000));
    assert!(!breaker.is_available(start + ms(29_999)));
    assert!(breaker.is_available(start + ms(30_000)));
    assert_eq!(breaker.state(start + ms(30_000)), BreakerState::HalfOpen);
}

#[test]
fn a_failed_probe_opens_it_for_a_whole_timeout_again() {
    let start = Instant::now();
    let breaker = opened(start);
    let half = start + ms(30_000);
    breaker.acquire(half).unwrap().success(half);
    breaker.acquire(half).unwrap().failure(half + ms(10));
    assert!(!breaker.is_available(half + ms(30_009)));
    assert!(breaker.is_available(half + ms(30_010)));
    // The success before that failure does not count any more.
    let again = half + ms(30_010);
    breaker.acquire(again).unwrap().success(again);
    assert_eq!(breaker.state(again), BreakerState::HalfOpen);
}

#[test]
fn who_knows_better_need_not_wait_for_the_timeout() {
    let start = Instant::now();
    let breaker = opened(start);
    assert!(breaker.acquire_early(start + ms(99), ms(100)).is_none());
    let early = start + ms(100);
    let probe = breaker.acquire_early(early, ms(100)).unwrap();
    // Still one at a time, and a failure opens it as ever.
    assert!(breaker.acquire_early(early, ms(100)).is_none());
    probe.failure(early);
    assert!(breaker.acquire_early(early + ms(99), ms(100)).is_none());
    assert!(!breaker.is_available(early + ms(29_999)));
    breaker
        .acquire_early(early + ms(100), ms(100))
        .unwrap()
        .success(early);
    assert_eq!(breaker.state(early + ms(100)), BreakerState::HalfOpen);
    // Later than the timeout it never is.
    let breaker = opened(start);
    assert!(
        breaker
            .acquire_early(start + ms(30_000), ms(60_000))
            .is_some()
    );
}

#[test]
fn a_dropped_probe_makes_room_for_the_next() {
    let start = Instant::now();
    let breaker = opened(start);
    let half = start + ms(30_000);
    for _ in 0..3 {
        let probe = breaker.acquire(half).unwrap();
        assert!(breaker.acquire(half).is_none());
        drop(probe);
        assert_eq!(breaker.state(half), BreakerState::HalfOpen);
    }
}

#[test]
fn what_was_sent_before_it_opened_has_no_say_afterwards() {
    let start = Instant::now();
    let breaker = breaker();
    let late: Vec<_> = (0..4).map(|_| breaker.acquire(start).unwrap()).collect();
    (0..5).for_each(|_| breaker.record_failure(start));
    let half = start + ms(30_000);
    let probe = breaker.acquire(half).unwrap();
    let mut late = late.into_iter();
    late.next().unwrap().success(half);
    late.next().unwrap().success(half);
    assert_eq!(breaker.state(half), BreakerState::HalfOpen);
    late.next().unwrap().failure(half);
    assert_eq!(breaker.state(half), BreakerState::HalfOpen);
    // Nor does its end make room beside the probe that is out.
    drop(late);
    assert!(!breaker.is_available(half));
    probe.success(half);
    assert!(breaker.is_available(half));
}

#[test]
fn disabled_it_never_opens() {
    let now = Instant::now();
    let breaker = Breaker::new(BreakerOptions {
        enabled: false,
        ..BreakerOptions::default()
    });
    for _ in 0..100 {
        breaker.record_failure(now);
        breaker.acquire(now).unwrap().failure(now);
    }
    breaker.force_open(now);
    assert_eq!(breaker.state(now), BreakerState::Closed);
    assert!(breaker.is_available(now));
}

#[test]
fn threads_get_one_probe_between_them() {
    let start = Instant::now();
    for _ in 0..100 {
        let breaker = opened(start);
        let half = start + ms(30_000);
        let line = std::sync::Barrier::new(4);
        let given: usize = thread::scope(|scope| {
            let threads = [(); 4].map(|()| {
                scope.spawn(|| {
                    line.wait();
                    let permit = breaker.acquire(half);
                    line.wait(); // nobody gives his back before all have asked
                    usize::from(permit.is_some())
                })
            });
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(given, 1);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Acquire,
    /// How the permit with this index (modulo their number) ends: `None` is a drop.
    End(usize, Option<bool>),
    Record(bool),
    Pass(u64),
    Reset,
    ForceOpen,
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    prop_oneof![
        8 => Just(Step::Acquire),
        8 => (any::<usize>(), end).prop_map(|(n, how)| Step::End(n, how)),
        6 => prop::bool::weighted(0.3).prop_map(Step::Record),
        4 => (0u64..150).prop_map(Step::Pass),
        1 => Just(Step::Reset),
        1 => Just(Step::ForceOpen),
    ]
}

const TIMEOUT: u64 = 100;

/// What a breaker is, told by all that ever happened: each change of state with its time, and what was counted
/// since. Nothing is kept that could be found out from those.
struct Model {
    failure_threshold: usize,
    success_threshold: usize,
    changes: Vec<(u64, BreakerState)>,
    counted: Vec<bool>,
    /// The number of changes when the permit was given out, for every permit that is still out.
    permits: Vec<usize>,
}

impl Model {
    fn enter(&mut self, now: u64, state: BreakerState) {
        self.changes.push((now, state));
        self.counted.clear();
    }

    fn state(&mut self, now: u64) -> BreakerState {
        let (since, state) = *self.changes.last().unwrap();
        if state == BreakerState::Open && now >= since + TIMEOUT {
            self.enter(now, BreakerState::HalfOpen);
            return BreakerState::HalfOpen;
        }
        state
    }

    fn available(&mut self, now: u64) -> bool {
        match self.state(now) {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => !self.permits.contains(&self.changes.len()),
        }
    }

    fn count(&mut self, now: u64, success: bool) {
        let state = self.state(now);
        self.counted.push(success);
        let failures = self.counted.iter().rev().take_while(|ok| !**ok).count();
        let successes = self.counted.iter().filter(|ok| **ok).count();
        match state {
            BreakerState::Closed if failures == self.failure_threshold => {
                self.enter(now, BreakerState::Open)
            }
            BreakerState::HalfOpen if failures > 0 => self.enter(now, BreakerState::Open),
            BreakerState::HalfOpen if successes == self.success_threshold => {
                self.enter(now, BreakerState::Closed)
            }
            _ => {}
        }
    }
}

fn run(failure_threshold: u32, success_threshold: u32, steps: &[Step]) {
    let breaker = Breaker::new(BreakerOptions {
        failure_threshold,
        success_threshold,
        timeout: ms(TIMEOUT),
        ..BreakerOptions::default()
    });
    let mut model = Model {
        failure_threshold: failure_threshold as usize,
        success_threshold: success_threshold as usize,
        changes: vec![(0, BreakerState::Closed)],
        counted: vec![],
        permits: vec![],
    };
    let start = Instant::now();
    let mut now = 0;
    let mut permits = vec![];
    for step in steps {
        let at = start + ms(now);
        match *step {
            Step::Acquire => {
                let available = model.available(now);
                let permit = breaker.acquire(at);
                assert_eq!(permit.is_some(), available);
                if let Some(permit) = permit {
                    permits.push(permit);
                    model.permits.push(model.changes.len());
                }
            }
            Step::End(_, _) if permits.is_empty() => {}
            Step::End(n, how) => {
                let n = n % permits.len();
                let permit = permits.swap_remove(n);
                let given = model.permits.swap_remove(n);
                let current = {
                    model.state(now);
                    given == model.changes.len()
                };
                match how {
                    Some(true) => permit.success(at),
                    Some(false) => permit.failure(at),
                    None => drop(permit),
                }
                if let (Some(success), true) = (how, current) {
                    model.count(now, success);
                }
            }
            Step::Record(success) => {
                match success {
                    true => breaker.record_success(at),
                    false => breaker.record_failure(at),
                }
                model.count(now, success);
            }
            Step::Pass(by) => now += by,
            Step::Reset => {
                breaker.reset();
                model.enter(now, BreakerState::Closed);
            }
            Step::ForceOpen => {
                breaker.force_open(at);
                model.enter(now, BreakerState::Open);
            }
        }
        let at = start + ms(now);
        assert_eq!(breaker.state(at), model.state(now));
        assert_eq!(breaker.is_available(at), model.available(now));
    }
    // Whatever happened: once nobody holds a permit and the timeout has passed, there is leave again.
    drop(permits);
    assert!(breaker.is_available(start + ms(now + TIMEOUT)));
}

proptest! {
    #![proptest_config(property::config(500, "src/breaker/tests.regressions"))]

    #[test]
    fn it_does_what_the_model_does(
        (failures, successes) in (1u32..6, 1u32..4),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(failures, successes, &steps);
    }
}
