//! How a run fails, and what is told of it.

use std::time::Duration;

use etcd_watch_client::BoxError;
use etcd_watch_testkit::sim::{Cause, Failure, Sim, World, run};

fn fails<S: Future<Output = Result<(), BoxError>>>(scenario: impl FnOnce(World) -> S) -> Failure {
    *run(7, scenario).expect_err("it fails")
}

#[test]
fn an_error_is_told_with_its_seed_its_time_and_what_was_noted() {
    let scenario = |world: World| async move {
        world.note("the beginning");
        world.sleep(Duration::from_millis(1500)).await;
        Err("not what was expected".into())
    };
    let failure = fails(scenario);
    assert_eq!(failure.cause, Cause::Error("not what was expected".into()));
    assert_eq!((failure.seed, failure.at), (7, Duration::from_millis(1500)));
    let text = failure.to_string();
    assert!(text.contains("--: the beginning\n"), "{text}");
    assert!(text.ends_with("seed 7: after 1.500000 s: not what was expected"), "{text}");
    assert_eq!(fails(scenario).hash, failure.hash);
}

#[test]
fn a_panic_fails_the_run_in_a_task_too() {
    let failure = fails(|_| async move { panic!("in the scenario") });
    assert_eq!(failure.cause, Cause::Panic("in the scenario".into()));
    let failure = fails(|world| async move {
        world.host("a").spawn(async { panic!("in a task") });
        std::future::pending().await
    });
    assert_eq!(failure.cause, Cause::Panic("in a task".into()));
}

#[test]
fn a_deadlock_is_told_apart_by_when_something_happened_last() {
    let failure = fails(|world| async move {
        world.sleep(Duration::from_secs(2)).await;
        world.note("the last thing");
        std::future::pending().await
    });
    let (limit, last_event) = (Duration::from_secs(3600), Duration::from_secs(2));
    assert_eq!(failure.cause, Cause::Limit { limit, last_event });
    let limit = Duration::from_secs(5);
    let slow = Sim::new().limit(limit).run(1, |_| async { std::future::pending().await });
    assert_eq!(slow.expect_err("it takes too long").at, limit);
}

#[test]
fn tasks_that_never_let_time_go_on_are_a_livelock() {
    let failure = fails(|world| async move {
        world.host("a").spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        std::future::pending().await
    });
    assert_eq!((failure.cause, failure.at), (Cause::Livelock, Duration::ZERO));
}

#[test]
fn the_first_seed_that_fails_is_told() {
    let run = Sim::new().run_seeds(10..20, |world| async move {
        if world.seed() < 15 { Ok(()) } else { Err(world.seed().to_string().into()) }
    });
    assert_eq!(run.expect_err("15 fails").seed, 15);
}
