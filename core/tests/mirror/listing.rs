//! Lists: their pages, and what they come to for the consumer.

use etcd_watch_core::{
    ApiMisuse, KeyRange, ListReason, Mirror, MirrorEvent, MirrorRequest, RequestError, WatchConfig,
};

use crate::hand::{Hand, compacted, of_k, page};

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
