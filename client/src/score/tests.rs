//! The table of scores that both languages share, and what a choice must never do.

use super::*;
use crate::BreakerState;
use crate::property;
use proptest::prelude::*;
use std::time::{Duration, Instant};

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[track_caller]
fn near(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found}, not {expected}");
}

#[test]
fn the_shared_table_of_scores() {
    use Health::*;
    near(score(Healthy, None, None, 10), 0.75);
    near(score(Healthy, None, None, 8), 0.73);
    near(score(Healthy, None, None, 6), 0.71);
    near(score(Healthy, None, None, 5), 0.70);
    near(score(Degraded, Some(20.0), Some(5_000.0), 10), 0.64);
    near(score(Unhealthy, Some(150.0), Some(20_000.0), 5), 0.25);
}

#[test]
fn a_score_stays_between_0_and_1() {
    near(score(Health::Healthy, Some(0.0), Some(1e9), 255), 1.0);
    near(score(Health::Healthy, Some(-5.0), Some(1e9), 10), 1.0);
    near(score(Health::Unhealthy, Some(1e9), Some(0.0), 0), 0.0);
}

#[test]
fn latency_follows_a_change_within_some_round_trips() {
    let mut latency = Latency::default();
    (0..20).for_each(|_| latency.record(ms(10)));
    near(latency.ms().unwrap(), 10.0);
    (0..10).for_each(|_| latency.record(ms(110)));
    assert!((99.0..101.0).contains(&latency.ms().unwrap()));
}

#[test]
fn throughput_is_what_was_achieved_and_not_what_was_asked() {
    // One request a minute, answered in 1 ms each: as fast as a thousand a second.
    let (mut seldom, mut now) = (Throughput::default(), Instant::now());
    for _ in 0..10 {
        seldom.begin(now);
        seldom.end(now + ms(1));
        now += ms(60_000);
    }
    near(seldom.per_second(now).unwrap(), 1_000.0);

    // Under way together they share the time.
    let (mut together, start) = (Throughput::default(), Instant::now());
    (0..100).for_each(|_| together.begin(start));
    (1..=100).for_each(|n| together.end(start + ms(n)));
    near(together.per_second(start + ms(100)).unwrap(), 1_000.0);

    // What hangs lowers it while it hangs, and what ends without an answer does not count as done.
    let (mut hung, start) = (Throughput::default(), Instant::now());
    hung.begin(start);
    hung.begin(start);
    hung.end(start + ms(10));
    near(hung.per_second(start + ms(10)).unwrap(), 100.0);
    near(hung.per_second(start + ms(100)).unwrap(), 10.0);
    hung.abandon(start + ms(200));
    near(hung.per_second(start + ms(900)).unwrap(), 5.0);
}

#[test]
fn throughput_forgets_what_was_long_ago() {
    let (mut throughput, mut now) = (Throughput::default(), Instant::now());
    let mut serve = |each: Duration, count: u32| {
        for _ in 0..count {
            throughput.begin(now);
            now += each;
            throughput.end(now);
        }
        throughput.per_second(now).unwrap()
    };
    near(serve(ms(1), 1_000), 1_000.0);
    let steady = serve(ms(1), 20_000);
    assert!((999.9..1000.1).contains(&steady), "{steady}");
    let slower = serve(ms(10), 2_000);
    assert!((100.0..101.0).contains(&slower), "{slower}");
}

#[test]
fn health_says_what_checks_and_breaker_say() {
    use BreakerState::{Closed, HalfOpen, Open};
    let mut checks = Checks::default();
    assert_eq!(checks.health(Closed), Health::Healthy);
    assert_eq!(checks.health(HalfOpen), Health::Degraded);
    assert_eq!(checks.health(Open), Health::Unhealthy);
    checks.passed(ms(100));
    assert_eq!((checks.health(Closed), checks.good()), (Health::Healthy, 1));
    checks.passed(ms(101));
    assert_eq!(
        (checks.health(Closed), checks.good()),
        (Health::Degraded, 0)
    );
    checks.passed(ms(1));
    checks.passed(ms(1));
    assert_eq!((checks.health(Closed), checks.good()), (Health::Healthy, 2));
    checks.failed();
    checks.failed();
    assert_eq!(
        (checks.health(Closed), checks.good()),
        (Health::Degraded, 0)
    );
    checks.failed();
    assert_eq!(checks.health(Closed), Health::Unhealthy);
}

fn candidate(health: Health, score: f64, good_checks: u32) -> Candidate {
    Candidate {
        health,
        score,
        good_checks,
    }
}

#[test]
fn the_first_choice_is_the_best_score_and_the_earlier_of_equals() {
    use Health::*;
    assert_eq!(best(&[], None), None);
    assert_eq!(best(&[], Some(0)), None);
    let new = |score| candidate(Healthy, score, 0);
    assert_eq!(best(&[new(0.7), new(0.73), new(0.73)], None), Some(1));
    // Unhealthy, and still the best score: not while there is another.
    let fast = candidate(Unhealthy, 0.6, 0);
    assert_eq!(best(&[fast, candidate(Degraded, 0.2, 0)], Some(0)), Some(1));
    assert_eq!(best(&[candidate(Unhealthy, 0.1, 0), fast], None), Some(1));
    assert_eq!(
        best(&[candidate(Unhealthy, 0.1, 0), fast], Some(0)),
        Some(0)
    );
}

#[test]
fn fail_back_wants_two_good_checks_and_a_margin() {
    use Health::*;
    let active = candidate(Healthy, 0.70, 9);
    assert_eq!(
        best(&[candidate(Healthy, 0.75, 1), active], Some(1)),
        Some(1)
    );
    assert_eq!(
        best(&[candidate(Healthy, 0.749, 9), active], Some(1)),
        Some(1)
    );
    assert_eq!(
        best(&[candidate(Healthy, 0.75, 2), active], Some(1)),
        Some(0)
    );
    // Exactly the margin, in every sum that priorities can make.
    for low in 0..=5 {
        let at = |priority| candidate(Healthy, score(Healthy, None, None, priority), 2);
        assert_eq!(best(&[at(low + 5), at(low)], Some(1)), Some(0));
        assert_eq!(best(&[at(low + 4), at(low)], Some(1)), Some(1));
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    use Health::*;
    let health = prop_oneof![Just(Healthy), Just(Degraded), Just(Unhealthy)];
    let one = (health, 0u8..=20, 0u32..4)
        .prop_map(|(health, score, good)| candidate(health, f64::from(score) / 20.0, good));
    prop::collection::vec(one, 1..6)
}

proptest! {
    #![proptest_config(property::config(1000, "src/score/tests.regressions"))]

    #[test]
    fn a_choice_is_never_unhealthy_without_need_and_stands_until_something_changes(
        candidates in candidates(),
        active in prop::option::of(0usize..6),
    ) {
        let chosen = best(&candidates, active).unwrap();
        if candidates.iter().any(|c| c.health != Health::Unhealthy) {
            prop_assert_ne!(candidates[chosen].health, Health::Unhealthy);
        }
        prop_assert_eq!(best(&candidates, Some(chosen)), Some(chosen));
        // Nothing is left that it should have given way to.
        let active = active.filter(|n| *n < candidates.len());
        for (n, other) in candidates.iter().enumerate() {
            let well = other.health != Health::Unhealthy;
            if well && active.is_none() {
                prop_assert!(other.score < candidates[chosen].score || n >= chosen);
            }
            prop_assert!(
                !well || other.good_checks < 2 || n == chosen
                    || other.score - candidates[chosen].score < 0.0499
            );
        }
    }
}
