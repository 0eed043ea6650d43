//! Leases.

use std::time::Duration;

use etcd_watch_core::Refusal;
use etcd_watch_proto::etcdserverpb::LeaseRevokeRequest;

use super::{
    super::{Answer, Outcome, Request, Rule},
    Story, delete, get, put,
    story::put_request,
    txn,
};

const LEASE: i64 = 7;
const TTL: i64 = 10;

fn hang(key: &str, value: &str) -> Request {
    Request::Put(put_request(key, value, LEASE))
}

/// Two keys hang on a lease of 10 s, and one doesn't.
fn story() -> Story {
    let mut story = Story::new();
    story.grant(LEASE, TTL);
    story.ask(hang("a", "1"));
    story.ask(put("b", "2"));
    story.ask(hang("c", "3"));
    story
}

/// The lease runs out on the server, at some time.
fn runs_out(story: &mut Story) {
    story.store.handle_timeout(Duration::from_secs(TTL.unsigned_abs()));
    assert_eq!(story.store.revision(), 5);
}

fn end() -> Request {
    Request::Revoke(LeaseRevokeRequest { id: LEASE })
}

#[test]
fn keys_go_with_their_lease() {
    for end in 0..3 {
        let mut story = story();
        match end {
            0 => drop(story.revoke(LEASE)),
            1 => drop(story.ask_in_vain(end_request(), true)),
            _ => {
                runs_out(&mut story);
                story.now += Duration::from_secs(TTL.unsigned_abs());
            }
        }
        story.ask(get(""));
        let checked = story.checked();
        let found = (checked.writes, checked.executed, checked.expired);
        assert_eq!(found, [(4, 0, 0), (3, 1, 0), (3, 0, 1)][end]);
    }
}

fn end_request() -> Request {
    end()
}

#[test]
fn a_lease_that_deletes_its_keys_too_early_is_found() {
    let mut story = story();
    runs_out(&mut story);
    // That is seen after a few milliseconds.
    story.ask(get(""));
    assert_eq!(story.broken(), [(Rule::Lease, None, 5)]);
}

#[test]
fn a_renewal_puts_the_end_off() {
    let mut story = story();
    story.now += Duration::from_secs(8);
    story.ask(Request::KeepAlive(etcd_watch_proto::etcdserverpb::LeaseKeepAliveRequest { id: LEASE }));
    runs_out(&mut story);
    story.now += Duration::from_secs(8);
    story.ask(get(""));
    assert_eq!(story.broken(), [(Rule::Lease, None, 5)]);
    // One that found nothing didn't.
    if let Answer::KeepAlive(ttl) = story.answer(4) {
        *ttl = 0;
    }
    assert_eq!(story.broken(), []);
}

#[test]
fn all_keys_go_at_one_revision() {
    let mut story = story();
    story.others(&delete("a"));
    story.others(&delete("c"));
    let revoke = story.revoke(LEASE);
    assert_eq!(story.broken(), [(Rule::Unasked, None, 5)], "{revoke}");
    let mut story = self::story();
    story.others(&txn([delete("a"), delete("b"), delete("c")]));
    story.now += Duration::from_secs(2 * TTL.unsigned_abs());
    assert_eq!(story.broken(), [(Rule::Unasked, None, 5)]);
}

#[test]
fn keys_that_outlive_their_lease_are_found() {
    let mut story = story();
    let revision = story.store.revision();
    let revoke = story.ask(get("b"));
    story.history[revoke].request = end();
    story.history[revoke].outcome = Outcome::Answered(Answer::Revoke(revision));
    assert_eq!(story.broken(), [(Rule::Lease, Some(revoke), revision)]);
}

#[test]
fn nothing_hangs_on_a_lease_that_has_ended_or_was_not_asked_for() {
    let mut story = story();
    story.revoke(LEASE);
    story.grant(LEASE, TTL);
    let write = story.ask(hang("a", "4"));
    // It was not granted again.
    story.history.remove(write - 1);
    assert_eq!(story.broken(), [(Rule::Lease, Some(write - 1), 6)]);
    let mut story = self::story();
    story.history.remove(0);
    assert_eq!(story.broken(), [(Rule::Lease, Some(0), 2), (Rule::Lease, Some(2), 4)]);
}

#[test]
fn nothing_hangs_on_a_lease_before_it_is_asked_for() {
    let mut story = story();
    story.history[0].invoked = story.now;
    story.history[0].returned = Some(story.now + Duration::from_millis(1));
    assert_eq!(story.broken(), [(Rule::Lease, Some(1), 2), (Rule::Lease, Some(3), 4)]);
}

#[test]
fn a_refusal_for_a_lease_that_is_there_is_found() {
    for request in [hang("a", "5"), end()] {
        let mut story = story();
        let refused = story.is_refused(request, false);
        story.history[refused].outcome = Outcome::NotExecuted(Some(Refusal::LeaseNotFound));
        assert_eq!(story.broken(), [(Rule::Refusal, Some(refused), 4)]);
        // It may have run out by then.
        story.history[refused].returned = Some(Duration::from_secs(11));
        assert_eq!(story.broken(), []);
    }
}

#[test]
fn a_refusal_while_a_lease_is_being_ended_is_lawful() {
    let mut story = story();
    let refused = story.is_refused(hang("a", "5"), false);
    story.history[refused].outcome = Outcome::NotExecuted(Some(Refusal::LeaseNotFound));
    let revoke = story.revoke(LEASE);
    assert_eq!(story.broken(), [(Rule::Refusal, Some(refused), 4)]);
    story.history[refused].returned = story.history[revoke].returned;
    assert_eq!(story.broken(), []);
}
