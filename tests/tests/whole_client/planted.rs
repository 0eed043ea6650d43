//! Services and clients with a bug that seeds have to find.

use crate::{LASTS, scenarios};

/// Each is found, for the right reason, by one of a few seeds.
#[test]
fn planted_bugs_are_found() {
    for (what, told, scenario) in scenarios::PLANTED {
        let failure = scenarios::run(scenario, LASTS, 0..20).err();
        let failure = failure.unwrap_or_else(|| panic!("{what}: not found"));
        println!("{what}: found by seed {}: {}", failure.seed, failure.cause);
        assert!(failure.cause.to_string().contains(told), "{what}: {failure}");
    }
}
