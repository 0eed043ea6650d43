//! What the client promises, under every fault, with a few seeds.

use crate::scenarios::register::{self, Additions, Holder};
use crate::{LASTS, named, scenarios, seeds};

fn hold(name: &str, count: u64) {
    match scenarios::run(named(name), LASTS, seeds(count)) {
        Ok(report) => println!("{name}: {report}"),
        Err(failure) => panic!("{name}: {failure}"),
    }
}

#[test]
fn a_watch_receives_exactly_the_stores_history() {
    hold("watch", 15);
}

#[test]
fn watches_agree_on_the_history_of_their_keys() {
    hold("agreement", 6);
}

#[test]
fn a_put_tells_whether_it_was_executed() {
    hold("calls", 10);
}

#[test]
fn calls_and_reads_of_caches_are_those_of_one_store() {
    hold("linearizable", 6);
}

#[test]
fn a_holder_that_has_slept_knows_that_its_lock_is_lost() {
    hold("sleeper", 6);
}

#[test]
fn a_cache_is_the_store_at_one_revision() {
    hold("cache", 10);
}

#[test]
fn a_session_is_told_of_its_loss_no_later_than_the_server_ends_its_lease() {
    hold("session", 2);
}

#[test]
fn a_lock_has_one_holder_at_a_time_in_the_order_in_which_they_came() {
    hold("queue", 1);
}

#[test]
fn an_election_has_one_leader_at_a_time_and_observers_see_each_of_them() {
    hold("election", 1);
}

#[test]
fn a_configuration_is_the_last_good_one_and_never_a_mixture() {
    hold("config", 5);
}

#[test]
fn an_endpoint_is_listed_while_its_lease_is_there_and_gone_soon_after_its_process() {
    hold("discovery", 2);
}

#[test]
fn all_promises_hold_at_the_same_time() {
    hold("everything", 4);
}

#[test]
fn a_consumer_that_saves_whole_revisions_sees_everything() {
    hold("consumer", 4);
}

#[test]
fn additions_are_lost_under_a_lock_unless_the_fencing_token_is_checked() {
    let run = |holder| {
        let mut all = Additions::default();
        for seed in seeds(2) {
            all += register::run(holder, LASTS, seed).unwrap_or_else(|failure| panic!("{failure}"));
        }
        all
    };
    let (believes, asks, fenced) = (run(Holder::Believes), run(Holder::Asks), run(Holder::Fenced));
    println!("no check: {believes:?}\nis_held: {asks:?}\nfencing token: {fenced:?}");
    assert!(believes.lost > 0, "holders that stand still do no harm: {believes:?}");
    assert!(asks.executed > 30, "{asks:?}");
    assert!(fenced.executed > 30 && fenced.lost == 0, "{fenced:?}");
}
