//! A failing run is repeated with fewer faults.

use std::time::Duration;

use etcd_watch_client::BoxError;
use etcd_watch_testkit::sim::{FaultKind, Faults, Sim, World};

/// Fails if the host was frozen for a second or more, three times.
async fn fails_by_three_faults(world: World) -> Result<(), BoxError> {
    let host = world.host("a");
    let client = host.client().connect_lazy()?;
    world.faults(Faults::all().without(FaultKind::Suspend).every(Duration::from_millis(500))).await;
    let mut frozen = Vec::new();
    for _ in 0..300 {
        let (before, clock, client) = (world.now(), host.clone(), client.clone());
        // There is traffic, which takes random numbers.
        let reading = host.spawn(async move { client.get("k").await.is_ok() });
        host.spawn(async move { clock.sleep(Duration::from_millis(100)).await }).await;
        reading.abort();
        if world.now() > before + Duration::from_secs(1) {
            frozen.push(world.now() - before);
            if frozen.len() == 3 {
                return Err(format!("frozen for {frozen:?}").into());
            }
        }
    }
    Ok(())
}

#[test]
fn the_faults_that_a_failure_needs_are_left() {
    let sim = Sim::new();
    let failure = sim.run_seeds(0..200, fails_by_three_faults).expect_err("it is frozen some time");
    let shrunk = sim.shrink(failure.seed, 100, fails_by_three_faults).expect("it fails again");
    println!("{shrunk}");
    assert!(shrunk.of > 3, "{}", shrunk.of);
    let kinds: Vec<FaultKind> = shrunk.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, [FaultKind::Freeze; 3]);
    // The plan says all: it fails again by it, to the last byte.
    let again = sim.run_with_faults(shrunk.failure.seed, &shrunk.faults, fails_by_three_faults);
    assert_eq!(again.expect_err("it fails again").hash, shrunk.failure.hash);
}

#[test]
fn a_run_by_the_plan_that_was_drawn_is_the_same_run() {
    let sim = Sim::new();
    let failure = sim.run_seeds(0..200, fails_by_three_faults).expect_err("it is frozen some time");
    let drawn = sim.shrink(failure.seed, 0, fails_by_three_faults).expect("it fails again");
    assert_eq!((drawn.faults.len(), drawn.failure.hash), (drawn.of, failure.hash));
    let again = sim.run_with_faults(failure.seed, &drawn.faults, fails_by_three_faults);
    assert_eq!(again.expect_err("it fails again").hash, failure.hash);
}

#[test]
fn what_does_not_fail_is_not_shrunk() {
    assert!(Sim::new().shrink(1, 10, |_| async { Ok(()) }).is_none());
}
