//! Writes, and what is seen of them.

use etcd_watch_core::KeyRange;
use etcd_watch_proto::{
    etcdserverpb::{DeleteRangeRequest, RangeRequest, response_op::Response},
    mvccpb::Event,
};

use super::{
    super::{Answer, Demand, Operation, Outcome, Request, Rule, Truth, check},
    Story, delete, get, put,
    reads::{at_revision, cached, story},
    serializable,
    story::broken,
    txn,
};
use crate::model::ModelConfig;

#[test]
fn what_happened_one_after_the_other_is_accepted() {
    let mut story = story();
    story.ask(txn([get(""), put("b", "3"), get("")]));
    story.ask(delete("none"));
    story.ask(delete("a"));
    story.ask(at_revision(&get("a"), 3));
    story.ask(serializable(""));
    story.cached(Demand::Current);
    story.cached(Demand::AtLeast(4));
    story.is_refused(put("a", "not put"), false);
    story.ask_in_vain(put("a", "never put"), false);
    story.ask_in_vain(put("a", "put"), true);
    story.ask_in_vain(delete("b"), true);
    let checked = story.checked();
    assert_eq!((checked.operations, checked.writes, checked.reads), (14, 4, 6));
    assert_eq!((checked.unknown, checked.executed, checked.not_executed), (3, 2, 1));
    assert_eq!(checked.unverified, 0);
}

#[test]
fn nobody_sees_a_write_before_it_is_asked_for() {
    for read in [get("a"), serializable("a"), cached(Demand::Any)] {
        let mut story = story();
        story.history.truncate(2);
        let read = story.ask(read);
        story.move_before(read, 1);
        assert_eq!(story.broken(), [(Rule::Causal, Some(1), 3)]);
    }
    // Nor one that may have been executed.
    let mut story = Story::new();
    let write = story.ask_in_vain(put("a", "1"), true);
    let read = story.ask(serializable("a"));
    story.move_before(read, write);
    assert_eq!(story.broken(), [(Rule::Causal, Some(write), 2)]);
}

#[test]
fn writes_have_the_order_in_which_they_were_acknowledged() {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    story.ask(put("b", "2"));
    story.history.swap(0, 1);
    let (first, second) = (story.history[0].clone(), story.history[1].clone());
    (story.history[0].invoked, story.history[0].returned) = (second.invoked, second.returned);
    (story.history[1].invoked, story.history[1].returned) = (first.invoked, first.returned);
    assert_eq!(story.broken(), [(Rule::Causal, Some(1), 2)]);
}

#[test]
fn a_write_that_was_acknowledged_and_is_not_there_is_lost() {
    let mut story = story();
    let lost = story.ask(put("a", "3"));
    let events = story.events();
    let mut truth = Truth::of_all();
    truth.extend(&events[..2]);
    let checked = check(&story.history, &truth, &ModelConfig::default());
    assert_eq!(broken(&checked), [(Rule::Lost, Some(lost), 4)]);
}

#[test]
fn a_write_at_another_ones_revision_breaks_effect() {
    let mut story = Story::new();
    let write = story.ask(put("a", "1"));
    story.history[write].request = put("a", "2");
    assert_eq!(story.broken(), [(Rule::Effect, Some(write), 2)]);
}

#[test]
fn a_write_that_took_effect_twice_is_found() {
    // A retry that was acknowledged, after a first attempt that was executed as well.
    let mut story = Story::new();
    story.ask_in_vain(put("a", "1"), true);
    story.history.clear();
    let twice = story.ask(put("a", "1"));
    assert_eq!(story.broken(), [(Rule::Once, Some(twice), 2)]);
    // The same, and the retry isn't heard of, either.
    story.history[twice].outcome = Outcome::Unknown;
    story.history[twice].returned = None;
    assert_eq!(story.broken(), [(Rule::Once, Some(twice), 3)]);
}

#[test]
fn two_writes_at_one_revision_are_found() {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    let second = Operation { client: 1, ..story.history[0].clone() };
    story.history.push(second);
    assert_eq!(story.broken(), [(Rule::Once, Some(1), 2)]);
}

#[test]
fn a_delete_that_took_effect_twice_is_found() {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    story.ask_in_vain(delete("a"), true);
    story.ask(put("a", "2"));
    story.others(&delete("a"));
    assert_eq!(story.broken(), [(Rule::Once, Some(1), 5)]);
}

#[test]
fn what_was_not_executed_has_no_effect() {
    let mut story = Story::new();
    let write = story.is_refused(put("a", "1"), true);
    assert_eq!(story.broken(), [(Rule::NotExecuted, Some(write), 2)]);
    let mut story = self::story();
    let write = story.is_refused(delete("a"), true);
    assert_eq!(story.broken(), [(Rule::NotExecuted, Some(write), 4)]);
    let mut story = self::story();
    let write = story.is_refused(txn([put("b", "3"), delete("a")]), true);
    assert_eq!(story.broken(), [(Rule::NotExecuted, Some(write), 4)]);
}

#[test]
fn what_nobody_has_asked_for_is_found() {
    let mut story = story();
    story.others(&put("b", "who was that"));
    assert_eq!(story.broken(), [(Rule::Unasked, None, 4)]);
    let mut story = self::story();
    story.others(&delete("a"));
    assert_eq!(story.broken(), [(Rule::Unasked, None, 4)]);
}

#[test]
fn others_may_do_what_they_like_outside_of_the_scope() {
    let mut story = Story::new();
    story.ask(put("a/1", "1"));
    story.others(&put("b", "who was that"));
    story.ask(put("a/2", "2"));
    let read = match get("a/") {
        Request::Range(range) => RangeRequest { range_end: "a0".into(), ..range },
        other => panic!("{other:?}"),
    };
    story.ask(Request::Range(read));
    let mut truth = Truth::starting_at(1, Vec::new(), KeyRange::prefix("a/"));
    truth.extend(&story.events());
    let checked = check(&story.history, &truth, &ModelConfig::default()).expect("it is lawful");
    assert_eq!((checked.writes, checked.reads), (2, 1));
}

#[test]
fn a_history_may_begin_in_the_middle() {
    let mut story = story();
    let pairs = story.store.range(&all()).expect("it can be read").kvs;
    let middle = story.events().len();
    let second = story.ask(delete("a"));
    let mut truth = Truth::starting_at(3, pairs, KeyRange::all());
    truth.extend(&story.events()[middle..]);
    let old = story.history[..2].to_vec();
    let checked = check(&story.history[2..], &truth, &ModelConfig::default()).expect("it is lawful");
    assert_eq!((checked.writes, checked.reads, second), (1, 1, 3));
    // What was written before it has no place in it.
    assert_eq!(broken(&check(&old, &truth, &ModelConfig::default())).len(), 3);
}

fn all() -> RangeRequest {
    match get("") {
        Request::Range(range) => range,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_transaction_that_saw_a_mixture_is_found() {
    let mut story = Story::new();
    story.ask(txn([put("a", "1"), put("b", "1+")]));
    story.ask(txn([put("a", "2"), put("b", "2+")]));
    let read = story.ask(txn([get("a"), get("b")]));
    if let Answer::Txn(txn) = story.answer(read)
        && let Some(Response::ResponseRange(range)) = &mut txn.responses[0].response
    {
        range.kvs[0] = etcd_watch_proto::mvccpb::KeyValue {
            value: "1".into(),
            mod_revision: 2,
            version: 1,
            ..range.kvs[0].clone()
        };
    }
    assert_eq!(story.broken(), [(Rule::Answer, Some(read), 3)]);
}

#[test]
fn a_transaction_whose_condition_did_not_hold_is_found() {
    let mut story = story();
    let write = story.ask(txn([put("a", "3")]));
    let Request::Txn(request) = &mut story.history[write].request else { panic!("it is one") };
    let compare = etcd_watch_proto::etcdserverpb::Compare { key: "a".into(), ..Default::default() };
    // Its version is compared with 0.
    request.compare = vec![compare];
    assert_eq!(story.broken(), [(Rule::Effect, Some(write), 4)]);
}

#[test]
fn a_wrong_pair_before_a_change_is_found() {
    let mut story = story();
    if let Answer::Put(put) = story.answer(1) {
        put.prev_kv.as_mut().expect("there was one").value = "0".into();
    }
    assert_eq!(story.broken(), [(Rule::Answer, Some(1), 3)]);
    if let Answer::Put(put) = story.answer(1) {
        put.prev_kv = None;
    }
    assert_eq!(story.broken(), [(Rule::Answer, Some(1), 3)]);
    let mut story = self::story();
    let gone = story.ask(delete("a"));
    if let Answer::Delete(delete) = story.answer(gone) {
        delete.prev_kvs[0].version = 1;
    }
    assert_eq!(story.broken(), [(Rule::Answer, Some(gone), 4)]);
}

#[test]
fn a_delete_that_found_nothing_has_to_have_found_nothing() {
    let mut story = story();
    let gone = story.ask(delete("none"));
    assert_eq!(story.broken(), []);
    story.history[gone].request = delete("a");
    assert_eq!(story.broken(), [(Rule::Answer, Some(gone), 3)]);
}

#[test]
fn deletes_that_nobody_heard_of_are_matched_with_what_is_left_over() {
    let mut story = Story::new();
    story.ask(put("a", "1"));
    let range = DeleteRangeRequest { key: "a".into(), range_end: "c".into(), prev_kv: false };
    // Either may have deleted `a`, but only the first one `b`: so it was the second one that deleted `a`.
    story.ask_in_vain(Request::Delete(range), false);
    story.ask_in_vain(delete("a"), true);
    story.ask(txn([put("b", "2"), put("c", "3")]));
    story.others(&delete("b"));
    let checked = story.checked();
    assert_eq!((checked.unknown, checked.executed), (2, 2));
    story.others(&delete("c"));
    assert_eq!(story.broken(), [(Rule::Unasked, None, 6)]);
}

#[test]
fn a_truth_with_a_gap_or_with_changes_that_can_not_be_is_none() {
    let story = story();
    let events = story.events();
    let judge = |events: &[Event]| {
        let mut truth = Truth::of_all();
        truth.extend(events);
        broken(&check(&[], &truth, &ModelConfig::default()))
    };
    assert_eq!(judge(&events[1..]), [(Rule::Truth, None, 3)]);
    let mut other = events[1..].to_vec();
    other[0].kv.as_mut().expect("it has one").mod_revision = 2;
    let found = judge(&other);
    assert!(found.contains(&(Rule::Truth, None, 2)), "{found:?}");
}
