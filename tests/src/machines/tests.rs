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
