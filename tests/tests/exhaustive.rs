//! Every interleaving of small worlds keeps every promise; and where one is broken on purpose, it is found.
#![allow(clippy::print_stderr)] // Figures and transcripts are for whoever reads the test's output.

use etcd_watch_core::{KeyRange, ServerVersion};
use etcd_watch_testkit::explore::{
    Bug, Consumers, Faults, Plan, Promise, ServerPlan, Violation, all_worlds, explore, small_worlds,
};

fn search(worlds: &[Plan]) -> usize {
    let reports = worlds.iter().map(|plan| {
        let report = explore(plan).unwrap_or_else(|violation| panic!("{violation}"));
        eprintln!("{report}");
        assert!(report.ends > 0 && report.depth <= report.longest, "{report}");
        report.states
    });
    reports.sum()
}

/// The violation in a world with something wrong in it.
fn found(plan: &Plan) -> Violation {
    let violation = explore(plan).expect_err("something is wrong in this world");
    eprintln!("{violation}");
    assert!(!violation.transcript.is_empty());
    *violation
}

#[test]
fn every_run_of_a_small_world_keeps_every_promise() {
    let states = search(&small_worlds());
    assert!(states > 10_000, "only {states} states: something does not happen any more");
}

#[test]
#[ignore = "takes minutes: `cargo run --release -p etcd-watch-testkit --example explore` is quicker"]
fn every_run_of_every_world_keeps_every_promise() {
    search(&all_worlds());
}

#[test]
fn a_search_finds_the_same_every_time() {
    let plan = Plan::new("twice", ServerPlan::etcd()).faults(Faults { fragments: 0, ..Faults::any(1) });
    let figures = || {
        let report = explore(&plan).unwrap_or_else(|violation| panic!("{violation}"));
        (report.states, report.transitions, report.depth, report.longest, report.ends)
    };
    assert_eq!(figures(), figures());
}

/// One watch, so that a violation is found in few states.
fn lonely(name: &str, server: ServerPlan) -> Plan {
    let mut plan = Plan::new(name, server);
    plan.watches.truncate(1);
    plan
}

/// A server whose manual progress overtakes events, and whose version says that it doesn't.
fn overtaking_in_disguise() -> Plan {
    let version = Some(ServerVersion::new(3, 5, 30));
    let server = ServerPlan { version, ..ServerPlan::old_etcd() };
    lonely("overtaking progress that is believed", server).asks(1)
}

#[test]
fn a_planted_trust_in_overtaking_progress_is_found_where_the_machine_would_go_on() {
    let promise = found(&overtaking_in_disguise()).promise;
    assert!(matches!(promise, Promise::Resume | Promise::Bookmark), "{promise:?}");
}

#[test]
fn a_planted_trust_in_overtaking_progress_is_found_by_what_a_cut_then_loses() {
    let cut = Faults { fragments: 0, compactions: 0, cancels: 0, ..Faults::any(1) };
    let mut plan = overtaking_in_disguise().faults(cut);
    plan.watches[0].progress_notify = false;
    plan.is_blind = true;
    let violation = found(&plan);
    assert!(matches!(violation.promise, Promise::History | Promise::Live), "{violation}");
    assert!(violation.transcript.iter().any(|line| line.contains("the connection is lost")), "{violation}");
}

#[test]
fn a_planted_driver_that_delivers_a_cut_streams_frames_is_found() {
    // Ids that are counted mean something on the next stream too.
    let plan = lonely("frames of a cut stream", ServerPlan::numbering()).faults(Faults::any(2));
    let violation = found(&plan.bug(Bug::StaleFrames));
    assert_eq!(violation.promise, Promise::History, "{violation}");
}

#[test]
fn a_planted_driver_that_loses_a_response_is_found() {
    let violation = found(&lonely("a response is lost", ServerPlan::etcd()).bug(Bug::LostResponse));
    assert!(matches!(violation.promise, Promise::History | Promise::Live), "{violation}");
}

#[test]
fn a_planted_driver_that_forgets_cancels_is_found() {
    // The other watch keeps the stream.
    let plan = Plan::new("cancels are forgotten", ServerPlan::etcd()).faults(Faults::any(1));
    assert_eq!(found(&plan.bug(Bug::ForgottenCancels)).promise, Promise::Leak);
}

#[test]
fn a_planted_read_from_a_member_that_lags_is_found() {
    let plan = lonely("reads lag", ServerPlan::etcd()).from_now(0);
    assert_eq!(found(&plan.bug(Bug::StaleReads)).promise, Promise::Start);
}

#[test]
fn a_planted_consumer_that_does_not_take_everything_is_found() {
    let plan = lonely("single takes", ServerPlan::etcd()).consumers(Consumers::AtAnyTime);
    let violation = found(&plan.bug(Bug::SingleTakes));
    // It misses events, or the end.
    assert!(matches!(violation.promise, Promise::Live | Promise::Leak), "{violation}");
}

#[test]
fn a_planted_server_whose_notifications_are_early_is_found() {
    let plan = lonely("early notifications", ServerPlan::etcd()).notifications(1);
    let mut plan = plan.bug(Bug::EarlyNotifications);
    assert_eq!(found(&plan).promise, Promise::Bookmark);
    plan.watches[0].progress_notify = false;
    assert_eq!(found(&plan).promise, Promise::Resume);
}

#[test]
fn a_transcript_says_what_happened_step_by_step() {
    let mut plan = lonely("reads lag", ServerPlan::etcd()).from_now(0);
    plan.watches[0].range = KeyRange::key("b");
    let transcript = found(&plan.bug(Bug::StaleReads)).transcript;
    let steps: Vec<&str> =
        transcript.iter().map(String::as_str).filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(steps.last().copied(), Some("3. the read is answered: revision 1"), "{transcript:#?}");
    assert!(transcript.iter().any(|line| line.contains("Range")), "{transcript:#?}");
}
