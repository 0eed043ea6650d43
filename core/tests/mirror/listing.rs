//! Lists: their pages, and what they come to for the consumer.

use std::time::Duration;

use etcd_watch_core::{
    ApiMisuse, CloseReason, EndpointHint, KeyRange, ListReason, Mirror, MirrorAction, MirrorEvent,
    MirrorRequest, Page, RequestError, StartAt, TimeoutReason, WatchConfig,
};

use crate::hand::{CLUSTER, Hand, compacted, of_k, page};

#[test]
fn bad_requests_and_configurations_are_refused() {
    let refused = |request| Mirror::new(&WatchConfig::default(), request, 1).err();
    let field = |request| match refused(request) {
        Some(ApiMisuse::Request(RequestError::OutOfRange { field, .. })) => field,
        other => panic!("{other:?}"),
    };
    for bad in [0, usize::MAX] {
        assert_eq!(field(of_k().page_bytes(bad)), "page_bytes");
        assert_eq!(field(of_k().buffer_bytes(bad)), "buffer_bytes");
    }
    let negative = RequestError::NegativeListRevision { revision: -1 };
    assert_eq!(refused(of_k().list_revision(-1)), Some(ApiMisuse::Request(negative)));
    let config = WatchConfig::default().buffer_bytes(0);
    assert!(matches!(Mirror::new(&config, of_k(), 1), Err(ApiMisuse::WatchConfig(_))));
}

#[test]
fn a_page_waits_until_the_one_before_has_been_taken() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    assert_eq!(hand.action(), None, "the consumer has taken nothing yet");
    assert!(matches!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { .. })));
    assert_eq!(hand.action(), None, "nor all of it");
    assert_eq!(hand.told(), "+k1 +k2");
    let (_, request) = hand.asked();
    let rest = KeyRange::range(&b"k2\0"[..], "l").expect("a range");
    assert_eq!((request.range, request.revision), (rest, 9));
    assert_eq!(hand.mirror.synced_revision(), None);
}

#[test]
fn a_page_without_news_does_not_wait_for_the_consumer() {
    let mut hand = Hand::of_k();
    hand.watching(9, &[("k1", 3), ("k2", 4)]);
    hand.watch_ends(compacted());
    hand.answer(Ok(page(20, &[("k1", 3)], true)));
    assert_eq!(hand.told(), "=20");
    hand.answer(Ok(page(20, &[("k2", 4)], true)));
    hand.answer(Ok(page(20, &[("k3", 5)], false)));
    assert_eq!(hand.told(), "+k3 !20");
}

#[test]
fn a_list_whose_revision_is_compacted_begins_again_and_corrects_itself() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    assert_eq!(hand.told(), "=9 +k1 +k2");
    hand.fail(11, "etcdserver: mvcc: required revision has been compacted");
    let list = hand.answer(Ok(page(12, &[("k2", 11), ("k3", 10)], false)));
    assert_eq!((list.revision, list.range), (0, KeyRange::prefix("k")), "from its start, at what is now");
    let event = hand.mirror.next(hand.now);
    assert_eq!(event, Some(MirrorEvent::Listing { revision: 12, reason: ListReason::Interrupted }));
    assert_eq!(hand.told(), "+k2 +k3 -k1 !12");
    assert_eq!(hand.mirror.synced_revision(), Some(12));
    assert_eq!(hand.mirror.index_keys(), 2);
}

/// A mirror whose first list is to be at revision 5.
fn at_5() -> Hand {
    Hand::new(&WatchConfig::default(), of_k().list_revision(5))
}

#[test]
fn a_list_at_a_revision_is_watched_on_from_there() {
    let mut hand = at_5();
    // The header has the newest revision, whatever the keys are of.
    let list = hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    assert_eq!((list.revision, list.may_stream), (5, false), "its member has proved nothing yet");
    let event = hand.mirror.next(hand.now);
    assert_eq!(event, Some(MirrorEvent::Listing { revision: 5, reason: ListReason::First }));
    assert_eq!(hand.told(), "+k1 +k2");
    assert_eq!(hand.answer(Ok(page(11, &[("k3", 5)], false))).revision, 5);
    assert_eq!(hand.told(), "+k3 !5");
    let Some(MirrorAction::Watch(watch)) = hand.action() else { panic!("it is watched") };
    assert_eq!(watch.start_at(), StartAt::Revision(6));
    hand.watch_ends(compacted());
    assert_eq!(hand.asked().1.revision, 0, "whoever lists again wants what is now");
}

#[test]
fn a_key_that_is_newer_than_the_list_was_asked_for_is_not_believed() {
    let mut hand = at_5();
    hand.answer(Ok(page(9, &[("k1", 6)], false)));
    assert_eq!(hand.told(), "");
    assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
    assert_eq!(hand.asked().1.revision, 5);
}

#[test]
fn where_the_revision_asked_for_is_compacted_the_newest_is_listed() {
    let mut hand = at_5();
    hand.fail(11, "etcdserver: mvcc: required revision has been compacted");
    assert_eq!(hand.answer(Ok(page(12, &[("k1", 11)], false))).revision, 0);
    let event = hand.mirror.next(hand.now);
    assert_eq!(event, Some(MirrorEvent::Listing { revision: 12, reason: ListReason::Compacted }));
    assert_eq!(hand.told(), "+k1 !12");
}

#[test]
fn where_the_revision_asked_for_is_not_reached_in_time_the_newest_is_listed() {
    let deadline = Duration::from_secs(10);
    let config = WatchConfig::default().lag_deadline(deadline);
    let mut hand = Hand::new(&config, of_k().list_revision(5));
    let began = hand.now;
    while hand.now.since(began) < deadline {
        let list = hand.fail(11, "etcdserver: mvcc: required revision is a future revision");
        assert_eq!(list.revision, 5);
        assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
    }
    hand.fail(11, "etcdserver: mvcc: required revision is a future revision");
    hand.answer(Ok(page(4, &[("k1", 3)], false)));
    let event = hand.mirror.next(hand.now);
    assert_eq!(event, Some(MirrorEvent::Listing { revision: 4, reason: ListReason::Interrupted }));
    assert_eq!(hand.told(), "+k1 !4");
}

#[test]
fn one_key_is_a_list_of_one_page_whatever_the_server_says() {
    let mut hand = Hand::new(&WatchConfig::default(), MirrorRequest::new(KeyRange::key("k1")));
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    assert_eq!(hand.told(), "=9 +k1 !9");
}

#[test]
fn without_an_index_every_page_is_handed_out_whole() {
    let mut hand = Hand::new(&WatchConfig::default(), of_k().keep_index(false));
    hand.watching(9, &[("k1", 3), ("k2", 4)]);
    assert_eq!(hand.mirror.index_keys(), 0);
    hand.watch_ends(compacted());
    hand.answer(Ok(page(20, &[("k1", 3)], true)));
    let event = hand.events().remove(1);
    let MirrorEvent::Snapshot(part) = event else { panic!("a part: {event:?}") };
    assert!(part.missing(["k0", "k1"]).eq(["k0"]));
    hand.answer(Ok(page(20, &[], false)));
    let event = hand.events().remove(0);
    let MirrorEvent::Snapshot(part) = event else { panic!("it says that there is no more: {event:?}") };
    assert!(part.missing(["k2", "k3"]).eq(["k2", "k3"]));
}

#[test]
fn reasons_to_list_are_told_in_words() {
    let reasons = [
        (ListReason::First, "first"),
        (ListReason::Compacted, "compacted"),
        (ListReason::Interrupted, "could not be read to its end"),
        (ListReason::Lagged, "lagged"),
        (ListReason::TooLarge, "larger than the limit"),
        (ListReason::StoreChanged { before: 0xab, after: 0xcd }, "cluster id ab became cd"),
        (ListReason::StoreRegressed { known: 9, revision: 5 }, "from revision 9 to 5"),
    ];
    for (reason, expected) in reasons {
        let text = reason.to_string();
        assert!(text.contains(expected), "{text}");
        assert_eq!(reason.is_other_store(), text.contains("the store"), "{text}");
    }
}

/// Pages that have other keys, all in all, than the first of them counts.
#[test]
fn a_list_that_is_at_odds_with_its_count_is_begun_again_elsewhere() {
    let first = || Page { count: 3, ..page(9, &[("k1", 3)], true) };
    let more = page(9, &[("k2", 3), ("k3", 3), ("k4", 3)], true);
    for (second, what) in [(page(9, &[("k2", 3)], false), "too few"), (more, "too many")] {
        let mut hand = Hand::of_k();
        hand.answer(Ok(first()));
        assert_eq!(hand.told(), "=9 +k1", "{what}");
        hand.answer(Ok(second));
        assert_eq!(hand.told(), "", "{what}");
        let again = hand.answer(Ok(Page { count: 1, ..page(9, &[("k2", 3)], false) }));
        assert_eq!((again.revision, again.endpoint), (0, EndpointHint::Another), "{what}");
        assert_eq!(hand.told(), "=9 +k2 -k1 !9", "{what}");
    }
}

#[test]
fn a_first_page_that_is_at_odds_with_its_own_count_is_not_handed_out() {
    for (count, more) in [(2, false), (3, false), (0, true)] {
        let mut hand = Hand::of_k();
        let kvs: &[_] = if count == 3 { &[("k1", 3), ("k2", 3)] } else { &[("k1", 3)] };
        hand.answer(Ok(Page { count, ..page(9, kvs, more) }));
        let told = if count == 0 { "=9 +k1" } else { "" };
        assert_eq!(hand.told(), told, "a count of 0 is none");
    }
}

#[test]
fn a_list_of_more_keys_than_there_may_be_ends_the_mirror() {
    let mut hand = Hand::new(&WatchConfig::default(), of_k().max_keys(2));
    hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    assert_eq!(hand.told(), "=9 +k1 +k2");
    hand.answer(Ok(page(9, &[("k3", 5)], false)));
    assert_eq!(hand.events(), [MirrorEvent::Closed(CloseReason::TooManyKeys { limit: 2 })]);
    assert!(hand.is_idle() && hand.mirror.is_closed());
}

#[test]
fn a_page_of_another_cluster_or_before_the_lists_revision_has_another_endpoint_asked() {
    let other = Page { cluster_id: CLUSTER + 1, ..page(9, &[("k2", 3)], false) };
    for (second, from) in [(other, 0), (page(8, &[("k2", 3)], false), 9)] {
        let mut hand = Hand::of_k();
        hand.answer(Ok(page(9, &[("k1", 3)], true)));
        assert_eq!(hand.told(), "=9 +k1");
        hand.answer(Ok(second));
        if hand.mirror.poll_timeout().is_some() {
            hand.sleep_to_timeout();
        }
        let again = hand.answer(Ok(page(9, &[("k2", 3)], true)));
        assert_eq!((again.revision, again.endpoint), (from, EndpointHint::Another));
        assert_eq!(hand.told(), if from == 0 { "=9 +k2 -k1" } else { "+k2" });
        let more = hand.answer(Ok(page(9, &[("k3", 3)], false)));
        assert_eq!((more.revision, more.endpoint), (9, EndpointHint::Any));
        assert_eq!(hand.told(), "+k3 !9");
    }
}
