//! What the client promises, under every fault, with a few seeds.

use crate::{scenarios, seeds};

fn hold(name: &str, count: u64) {
    match scenarios::run(name, seeds(count)) {
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
fn a_lock_has_one_holder_at_a_time_and_everybody_gets_it() {
    hold("lock", 4);
}

#[test]
fn a_holder_that_has_slept_knows_that_its_lock_is_lost() {
    hold("sleeper", 15);
}

#[test]
fn a_cache_is_the_store_at_one_revision() {
    hold("cache", 10);
}
