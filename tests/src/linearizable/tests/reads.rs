//! Reads: what may be stale, and what may not.

use std::time::Duration;

use etcd_watch_core::Refusal;
use etcd_watch_proto::etcdserverpb::{RangeRequest, TxnRequest};

use super::{
    super::{Answer, Demand, Outcome, Request, Rule},
    Story, delete, get, put, serializable, txn,
};

/// `a` is put twice, and read.
pub(super) fn story() -> Story {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    story.ask(put("a", "2"));
    story.ask(get("a"));
    story
}

/// What is read of `a` at revision 2, where it is 1.
fn stale(story: &mut Story, request: Request) -> usize {
    let stale = story.ask(at_revision(&request, 2));
    let operation = &mut story.history[stale];
    operation.request = request;
    if let Outcome::Answered(Answer::Range(range)) = &mut operation.outcome {
        range.header.as_mut().expect("it has one").revision = 2;
    }
    stale
}

pub(super) fn at_revision(request: &Request, revision: i64) -> Request {
    match request {
        Request::Range(range) | Request::Cached(range, _) => {
            Request::Range(RangeRequest { revision, ..range.clone() })
        }
        other => other.clone(),
    }
}

pub(super) fn cached(demand: Demand) -> Request {
    match get("") {
        Request::Range(range) => Request::Cached(range, demand),
        other => other,
    }
}

#[test]
fn a_stale_read_breaks_current_unless_it_is_serializable() {
    let mut story = story();
    let read = stale(&mut story, get("a"));
    assert_eq!(story.broken(), [(Rule::Current, Some(read), 2)]);
    story.history[read].request = serializable("a");
    assert_eq!(story.checked().reads, 2);
}

#[test]
fn a_read_may_miss_what_was_acknowledged_only_while_it_was_under_way() {
    let mut story = story();
    story.history.truncate(2);
    let read = stale(&mut story, get("a"));
    story.move_into(read, 1);
    assert_eq!(story.checked().reads, 1);
}

#[test]
fn a_read_that_saw_less_than_another_one_before_it_is_stale() {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    // Its client never hears of it, but somebody sees it.
    story.ask_in_vain(put("a", "2"), true);
    story.ask(serializable("a"));
    let read = stale(&mut story, get("a"));
    assert_eq!(story.broken(), [(Rule::Current, Some(read), 2)]);
}

#[test]
fn nobody_sees_a_revision_that_is_not_there() {
    let mut story = story();
    if let Answer::Range(range) = story.answer(2) {
        range.header.as_mut().expect("it has one").revision = 4;
    }
    assert_eq!(story.broken(), [(Rule::Causal, Some(2), 4)]);
}

#[test]
fn a_read_of_the_past_is_replayed() {
    let mut story = story();
    let read = story.ask(at_revision(&get("a"), 2));
    assert_eq!(story.broken(), []);
    story.history[read].request = at_revision(&get("a"), 3);
    assert_eq!(story.broken(), [(Rule::Answer, Some(read), 3)]);
}

#[test]
fn a_revision_of_the_past_is_not_refused_as_one_of_the_future() {
    let mut story = story();
    let read = story.is_refused(at_revision(&get("a"), 3), false);
    story.history[read].outcome = Outcome::NotExecuted(Some(Refusal::FutureRevision));
    assert_eq!(story.broken(), [(Rule::Refusal, Some(read), 3)]);
    story.history[read].request = at_revision(&get("a"), 4);
    assert_eq!(story.broken(), []);
}

#[test]
fn transactions_are_serializable_if_they_read_so_or_do_nothing() {
    let is_linearizable = |request: Request| {
        let mut story = Story::new();
        let number = story.ask(request);
        story.history[number].is_linearizable()
    };
    assert!(!is_linearizable(txn([serializable("a"), serializable("b")])));
    assert!(!is_linearizable(Request::Txn(TxnRequest::default())));
    assert!(is_linearizable(txn([serializable("a"), get("b")])));
    assert!(is_linearizable(txn([serializable("a"), delete("b")])));
    assert!(!is_linearizable(serializable("a")) && is_linearizable(get("a")));
}

#[test]
fn a_cache_keeps_what_each_of_its_reads_promises() {
    let mut story = story();
    let read = stale(&mut story, cached(Demand::Any));
    assert_eq!(story.broken(), []);
    for demand in [Demand::Current, Demand::AtLeast(3), Demand::Within(Duration::from_millis(1))] {
        story.history[read].request = cached(demand);
        assert_eq!(story.broken(), [(Rule::Current, Some(read), 2)], "{demand:?}");
    }
    for demand in [Demand::AtLeast(2), Demand::Within(Duration::from_millis(10))] {
        story.history[read].request = cached(demand);
        assert_eq!(story.broken(), [], "{demand:?}");
    }
    // It is only ever the store at one revision.
    if let Answer::Range(range) = story.answer(read) {
        range.kvs[0].value = "2".into();
    }
    assert_eq!(story.broken(), [(Rule::Answer, Some(read), 2)]);
}
