//! A slice of the simulator's runs: whole clusters and clients in virtual time, with everything that can go wrong.
//!
//! `SIMULATE_SEEDS` runs more of them, `SIMULATE_FIRST` others; hours of it are for
//! `cargo xtask simulate`.

#![allow(clippy::print_stdout)]

use std::env;

use etcd_watch_testkit::machines::{Counts, Plan, Planted, Settings, run, simulate};

fn number(variable: &str, default: u64) -> u64 {
    let Ok(value) = env::var(variable) else { return default };
    value.parse().unwrap_or_else(|_| panic!("{variable}={value}: not a number"))
}

#[test]
fn no_promise_is_broken_whatever_fails() {
    let (first, seeds) = (number("SIMULATE_FIRST", 0), number("SIMULATE_SEEDS", 400));
    let mut counts = Counts::default();
    for seed in first..first + seeds {
        match simulate(seed, Settings::default()) {
            Ok(run) => counts += &run,
            Err(failure) => panic!("{}", failure.shrink()),
        }
    }
    println!("{counts}");
    assert!(counts.runs == seeds && counts.events > 0 && counts.folds > 0);
}

/// Seeds of which one has to find a bug.
const ENOUGH: u64 = 300;

fn found(planted: Planted) -> bool {
    let found = (0..ENOUGH).find_map(|seed| {
        let plan = Plan { planted: Some(planted), ..Plan::generate(seed, Settings::default()) };
        run(&plan).err()
    });
    if let Some(failure) = &found {
        println!("{planted:?}: found by seed {}: {}", failure.plan.seed, failure.what);
    }
    found.is_some()
}

#[test]
fn planted_bugs_are_found() {
    let missed: Vec<Planted> = Planted::ALL.into_iter().filter(|&planted| !found(planted)).collect();
    assert_eq!(missed, [], "not found by {ENOUGH} seeds");
}

#[test]
fn a_failure_is_made_short_enough_to_read() {
    let failure = (0..ENOUGH).find_map(|seed| {
        let planted = Some(Planted::ReadsStale);
        run(&Plan { planted, ..Plan::generate(seed, Settings::default()) }).err()
    });
    let failure = failure.expect("it is found");
    let before = failure.plan.steps.len();
    let shrunk = failure.shrink();
    let text = shrunk.to_string();
    println!("{text}");
    assert!(shrunk.plan.steps.len() < 20 && before > 100, "{} of {before} steps", shrunk.plan.steps.len());
    assert!(text.contains("!! ") && text.ends_with(&shrunk.what), "the transcript ends with what was broken");
    assert_eq!(run(&shrunk.plan).expect_err("it fails again").what, shrunk.what);
}
