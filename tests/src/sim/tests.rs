//! The simulator itself: the same seed is the same run.

use super::*;

#[test]
fn a_seed_is_the_same_run_bit_for_bit() {
    for seed in [3, 4] {
        let plan = Plan::generate(seed, Settings::default());
        let transcript = || Failure { plan: plan.clone(), what: String::new() }.transcript();
        let first = transcript();
        assert!(first.len() > 100);
        assert!(first == transcript(), "seed {seed} is not the same run twice");
    }
}

#[test]
fn runs_keep_every_promise() {
    let mut counts = Counts::default();
    for seed in 0..25 {
        match simulate(seed, Settings::default()) {
            Ok(run) => counts += &run,
            Err(failure) => panic!("{}", failure.shrink()),
        }
    }
    assert!(counts.events > 10_000 && counts.all_faults() > 100, "{counts}");
}
