//! Each rule is found broken, and nothing else is, where exactly that rule is broken.

use etcd_watch_proto::mvccpb::{KeyValue, event::EventType};

use super::*;

fn put(key: &str, revision: i64) -> Event {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        mod_revision: revision,
        create_revision: 2,
        version: revision,
        value: format!("{key}@{revision}").into(),
        lease: 0,
    };
    Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None }
}

fn delete(key: &str, revision: i64) -> Event {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(key.as_bytes()),
        mod_revision: revision,
        ..KeyValue::default()
    };
    Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None }
}

/// `a` and `b` at 3 and 4, a transaction on both at 5, `a` deleted at 6, and `x`, which isn't watched, at 7.
fn history() -> Vec<Event> {
    let mut events =
        vec![put("a", 3), put("b", 4), put("a", 5), put("b", 5), delete("a", 6), put("x", 7), put("b", 8)];
    for (at, before) in [(2, 0), (3, 1), (4, 2), (6, 3)] {
        events[at].prev_kv = events[before].kv.clone();
    }
    events
}

fn watched() -> Watched {
    Watched {
        key: "a".into(),
        range_end: "c".into(),
        from: 3,
        through: 8,
        no_put: false,
        no_delete: false,
        prev_kv: true,
    }
}

/// What a perfect watch of `watched()` receives: a response for each revision.
fn perfect() -> Vec<Received> {
    let events = history();
    [&events[0..1], &events[1..2], &events[2..4], &events[4..5], &events[6..7]]
        .map(|events| Received { events: events.to_vec(), bookmark: None })
        .to_vec()
}

fn broken(watched: &Watched, received: &[Received]) -> Vec<(Rule, i64)> {
    let violations = check(&history(), watched, received).err().unwrap_or_default();
    violations.into_iter().map(|violation| (violation.rule, violation.revision)).collect()
}

#[test]
fn a_perfect_watch_breaks_nothing() {
    assert_eq!(broken(&watched(), &perfect()), []);
    let mut bookmarked = perfect();
    bookmarked[2].bookmark = Some(5);
    bookmarked.insert(4, Received { events: Vec::new(), bookmark: Some(7) });
    assert_eq!(broken(&watched(), &bookmarked), []);
    // Revisions may travel together.
    let together = Received {
        events: perfect().into_iter().flat_map(|response| response.events).collect(),
        bookmark: Some(8),
    };
    assert_eq!(broken(&watched(), &[together]), []);
}

#[test]
fn an_event_not_asked_for_breaks_the_filter() {
    let mut received = perfect();
    received.insert(4, Received { events: vec![history()[5].clone()], bookmark: None });
    assert_eq!(broken(&watched(), &received), [(Rule::Filter, 7)]);
    let no_delete = Watched { no_delete: true, ..watched() };
    assert_eq!(broken(&no_delete, &perfect()), [(Rule::Filter, 6)]);
    let no_put = Watched { no_put: true, ..watched() };
    assert_eq!(broken(&no_put, &perfect()[3..4]), []);
    let one_key = Watched { range_end: Bytes::new(), ..watched() };
    assert_eq!(broken(&one_key, &perfect()), [(Rule::Filter, 4), (Rule::Filter, 5), (Rule::Filter, 8)]);
}

#[test]
fn revisions_that_go_down_break_the_order() {
    let mut received = perfect();
    received.swap(3, 4);
    assert_eq!(broken(&watched(), &received), [(Rule::Ordered, 6)]);
}

#[test]
fn an_event_that_comes_twice_is_not_unique() {
    let mut received = perfect();
    received.insert(4, received[3].clone());
    assert_eq!(broken(&watched(), &received), [(Rule::Unique, 6)]);
}

#[test]
fn a_revision_in_two_responses_or_in_part_is_not_atomic() {
    let mut received = perfect();
    let second = received[2].events.split_off(1);
    received.insert(3, Received { events: second, bookmark: None });
    assert_eq!(broken(&watched(), &received), [(Rule::Atomic, 5)]);
    received.remove(3);
    assert_eq!(broken(&watched(), &received), [(Rule::Atomic, 5)]);
}

#[test]
fn a_bookmark_before_its_events_is_none() {
    let mut received = perfect();
    received.insert(3, Received { events: Vec::new(), bookmark: Some(6) });
    let late = [(Rule::Bookmarkable, 6), (Rule::Bookmarkable, 6)];
    assert_eq!(broken(&watched(), &received), late, "once for the bookmark, once for the event after it");
    let mut received = perfect();
    received[0].bookmark = Some(4);
    assert_eq!(broken(&watched(), &received)[0], (Rule::Bookmarkable, 4));
}

#[test]
fn a_gap_is_not_reliable() {
    for missing in [1, 3, 4] {
        let mut received = perfect();
        let revision = Change::from(&received.remove(missing).events[0]).revision();
        assert_eq!(broken(&watched(), &received), [(Rule::Reliable, revision)]);
    }
}

#[test]
fn a_start_too_early_or_too_late_is_no_resumption() {
    assert_eq!(broken(&watched(), &perfect()[1..]), [(Rule::Resumable, 3)]);
    let later = Watched { from: 4, ..watched() };
    assert_eq!(broken(&later, &perfect()), [(Rule::Resumable, 3)]);
    assert_eq!(broken(&Watched { through: 3, ..watched() }, &[]), [(Rule::Resumable, 3)]);
}

#[test]
fn a_wrong_previous_pair_is_found() {
    let with = |prev: Option<KeyValue>| {
        let mut received = perfect();
        received[2].events[0].prev_kv = prev;
        received
    };
    let other = history()[1].kv.clone();
    assert_eq!(broken(&watched(), &with(other)), [(Rule::PrevValue, 5)]);
    assert_eq!(broken(&watched(), &with(None)), [(Rule::PrevValue, 5)]);
    let not_asked = Watched { prev_kv: false, through: 4, ..watched() };
    assert_eq!(broken(&not_asked, &perfect()[..3]), [(Rule::PrevValue, 5), (Rule::PrevValue, 5)]);
}

#[test]
fn what_the_store_never_did_is_found() {
    let with = |change: fn(&mut Event)| {
        let mut received = perfect();
        change(&mut received[1].events[0]);
        broken(&watched(), &received)
    };
    assert_eq!(with(|event| event.kv.as_mut().unwrap().value = "other".into()), [(Rule::Content, 4)]);
    assert_eq!(with(|event| event.kv.as_mut().unwrap().create_revision = 4), [(Rule::IsCreate, 4)]);
    assert_eq!(with(|event| event.r#type = EventType::Delete.into()), [(Rule::Content, 4)]);
    let no_pair = with(|event| event.kv = None);
    assert!(no_pair.contains(&(Rule::Content, 0)) && no_pair.contains(&(Rule::Reliable, 4)), "{no_pair:?}");
}

/// `perfect` as a watch of this name received it, which asked for what [`watched`] did.
fn log(name: &str, received: &[Received]) -> WatchLog {
    let mut log = WatchLog::new(name, watched());
    received.iter().for_each(|response| log.push(response.clone()));
    log
}

fn disagreements(one: &[Received], other: &[Received]) -> Vec<(String, i64, Difference)> {
    match agree(&[log("one", one), log("other", other)], 8) {
        Verdict::Disagreed(pairs) => {
            pairs.into_iter().map(|pair| (pair.other, pair.revision, pair.difference)).collect()
        }
        verdict => panic!("{verdict}"),
    }
}

#[test]
fn watches_agree_however_their_revisions_travel() {
    let together = Received {
        events: perfect().into_iter().flat_map(|response| response.events).collect(),
        bookmark: Some(8),
    };
    let without_prev = Watched { prev_kv: false, ..watched() };
    let mut bare = WatchLog::new("bare", without_prev);
    for mut response in perfect() {
        response.events.iter_mut().for_each(|event| event.prev_kv = None);
        bare.push(response);
    }
    let logs = [log("one", &perfect()), log("together", &[together]), bare];
    assert!(matches!(agree(&logs, 8), Verdict::Agreed { pairs: 3, events: 18 }), "{}", agree(&logs, 8));
}

#[test]
fn only_what_two_watches_both_asked_for_is_compared() {
    // The first one doesn't see `b`, and the second one no deletes and nothing before 5.
    let mut a = WatchLog::new("a", Watched { range_end: Bytes::new(), ..watched() });
    let mut late = WatchLog::new("late", Watched { from: 5, no_delete: true, ..watched() });
    for response in perfect() {
        let of_a = response.events.iter().filter(|event| event.kv.as_ref().is_some_and(|kv| kv.key == "a"));
        a.push(Received { events: of_a.cloned().collect(), bookmark: None });
        let is_late = |event: &&Event| {
            event.kv.as_ref().is_some_and(|kv| kv.mod_revision >= 5) && event.r#type() == EventType::Put
        };
        late.push(Received {
            events: response.events.iter().filter(is_late).cloned().collect(),
            bookmark: None,
        });
    }
    a.push(Received { events: Vec::new(), bookmark: Some(8) });
    assert!(matches!(agree(&[a, late], 8), Verdict::Agreed { pairs: 1, events: 1 }));
}

#[test]
fn a_watch_that_lacks_an_event_disagrees_with_one_that_has_it() {
    for (missing, revision) in [(0, 3), (2, 5), (3, 6)] {
        let mut other = perfect();
        other[missing].events.pop();
        let found = |by: &str| vec![(by.to_owned(), revision, Difference::Missing)];
        assert_eq!(disagreements(&perfect(), &other), found("other"));
        assert_eq!(disagreements(&other, &perfect()), found("one"));
    }
}

#[test]
fn a_watch_that_has_a_revision_in_parts_or_twice_disagrees_with_one_that_does_not() {
    let mut parts = perfect();
    let second = parts[2].events.split_off(1);
    parts.insert(3, Received { events: second, bookmark: None });
    let mut twice = perfect();
    twice.push(twice[4].clone());
    let mut again = perfect();
    again.insert(3, again[1].clone());
    for (other, revision) in [(parts, 5), (twice, 8), (again, 4)] {
        let found = |by: &str| vec![(by.to_owned(), revision, Difference::Parts)];
        assert_eq!(disagreements(&perfect(), &other), found("other"));
        assert_eq!(disagreements(&other, &perfect()), found("one"));
    }
}

#[test]
fn watches_with_other_values_or_another_order_disagree() {
    let mut value = perfect();
    value[1].events[0].kv.as_mut().expect("a pair").value = "another".into();
    assert_eq!(disagreements(&perfect(), &value), [("other".to_owned(), 4, Difference::Content)]);
    let mut order = perfect();
    order[2].events.swap(0, 1);
    assert_eq!(disagreements(&perfect(), &order), [("other".to_owned(), 5, Difference::Content)]);
    let mut prev = perfect();
    let before = prev[3].events[0].prev_kv.as_mut().expect("a pair before");
    before.value = "another".into();
    assert_eq!(disagreements(&perfect(), &prev), [("other".to_owned(), 6, Difference::Content)]);
}

#[test]
fn a_watch_that_stops_makes_the_verdict_unknown_unless_it_has_ended() {
    let mut stopped = log("stopped", &perfect()[..3]);
    let logs = |stopped: &WatchLog| [log("one", &perfect()), stopped.clone()];
    let behind = Behind { name: "stopped".to_owned(), reached: 5 };
    assert_eq!(agree(&logs(&stopped), 8), Verdict::Unknown(vec![behind]));
    stopped.end();
    assert!(matches!(agree(&logs(&stopped), 8), Verdict::Agreed { .. }));
    // One that was never told where it begins has seen nothing, whatever has happened since.
    let never = WatchLog::from_now("never", watched());
    let behind = Behind { name: "never".to_owned(), reached: 0 };
    assert_eq!(agree(&[log("one", &perfect()), never.clone()], 8), Verdict::Unknown(vec![behind]));
    let mut from_now = never;
    from_now.push(Received { events: Vec::new(), bookmark: Some(7) });
    from_now.push(perfect()[4].clone());
    assert!(matches!(agree(&[log("one", &perfect()), from_now], 8), Verdict::Agreed { pairs: 1, events: 1 }));
}
