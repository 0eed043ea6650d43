//! Pages that fail, or that nothing can be made of.

use etcd_watch_core::{
    CloseReason, Delivery, EndpointHint, Failure, KeyRange, ListReason, MirrorAction, MirrorEvent, Page,
    TimeoutReason, WatchConfig,
};

use crate::{
    hand::{CLUSTER, FIRST_PAIR_BYTES, Hand, compacted, of_k, page},
    support::ms,
};

#[test]
fn pages_that_are_too_large_are_halved_down_to_one_key() {
    let mut hand = Hand::new(&WatchConfig::default(), of_k().page_bytes(5 * FIRST_PAIR_BYTES));
    let large = || Err(Failure::ResponseTooLarge { bytes: 9000, limit: 4000 });
    assert_eq!(hand.answer(large()).limit, 5);
    let grpc = "grpc: received message larger than max (9000 vs. 4000)";
    assert_eq!(hand.fail(8, grpc).limit, 2);
    let request = hand.answer(Ok(page(9, &[("k1", 3)], true)));
    assert_eq!((request.limit, request.max_bytes), (1, usize::MAX), "a key has to come, whatever its size");
    assert_eq!(hand.told(), "=9 +k1");
    for limit in [64, 28, 12, 5, 2, 1] {
        assert_eq!(hand.answer(large()).limit, limit, "small pairs are followed by many");
    }
    let end = key_too_large(KeyRange::range("k1\0", "l").unwrap(), 9000, 4000);
    assert_eq!(hand.events(), [MirrorEvent::Closed(end)]);
}

fn key_too_large(range: KeyRange, bytes: usize, limit: usize) -> CloseReason {
    CloseReason::KeyTooLarge { range: Box::new(range), bytes, limit }
}

#[test]
fn a_key_over_the_limits_of_the_endpoints_ends_the_mirror_after_a_few_of_them() {
    let texts = [
        ("grpc: received message larger than max (5000000 vs. 4194304)", 5_000_000, 4_194_304),
        ("grpc: trying to send message larger than max (5000000 vs. 4194304)", 5_000_000, 4_194_304),
        ("grpc: received message after decompression larger than max 4194304", 0, 4_194_304),
    ];
    for (text, bytes, limit) in texts {
        let mut hand = Hand::new(&WatchConfig::default(), of_k().page_bytes(1));
        hand.answer(Ok(page(9, &[("k1", 3)], true)));
        assert_eq!(hand.told(), "=9 +k1");
        assert_eq!(hand.fail(8, text).endpoint, EndpointHint::Any);
        for _ in 0..2 {
            assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
            assert_eq!(hand.fail(8, text).endpoint, EndpointHint::Another);
        }
        let end = key_too_large(KeyRange::range("k1\0", "l").unwrap(), bytes, limit);
        assert_eq!(hand.events(), [MirrorEvent::Closed(end)]);
        assert!(hand.is_idle());
    }
}

#[test]
fn a_key_over_the_limit_of_one_endpoint_is_listed_by_another() {
    let mut hand = Hand::new(&WatchConfig::default(), of_k().page_bytes(1));
    for _ in 0..4 {
        hand.fail(8, "grpc: received message larger than max (5000000 vs. 4194304)");
        hand.sleep_to_timeout();
        assert_eq!(hand.answer(Ok(page(9, &[("k1", 3)], false))).endpoint, EndpointHint::Another);
        assert!(hand.told().ends_with("!9"));
        assert!(matches!(hand.action(), Some(MirrorAction::Watch(_))));
        hand.watch_ends(compacted());
        if hand.mirror.poll_timeout().is_some() {
            hand.sleep_to_timeout();
        }
    }
    assert!(!hand.mirror.is_closed());
}

#[test]
fn the_end_by_a_key_that_is_too_large_names_the_keys_and_the_sizes() {
    let of_all = |range, bytes, limit| key_too_large(range, bytes, limit).to_string();
    let text = of_all(KeyRange::range("k1\0", "l").unwrap(), 5_000_000, 4_194_304);
    for part in [r#"from b"k1\0" up to b"l""#, "limit of 4194304 bytes", "its 5000000"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let text = of_all(KeyRange::key("k1"), 0, 0);
    assert!(text.contains(r#"the key b"k1""#) && text.contains("neither its size nor the limit"), "{text}");
    let text = of_all(KeyRange::from_key("k1"), 0, 7);
    assert!(text.contains(r#"from b"k1" on"#) && text.contains("its size was not told"), "{text}");
    assert!(of_all(KeyRange::key("k1"), 7, 0).contains("7 bytes (the limit was not told)"));
}

#[test]
fn a_new_list_dares_larger_pages_again() {
    let mut hand = Hand::new(&WatchConfig::default(), of_k().page_bytes(5 * FIRST_PAIR_BYTES));
    hand.answer(Err(Failure::ResponseTooLarge { bytes: 9000, limit: 4000 }));
    hand.watching(9, &[]);
    hand.watch_ends(compacted());
    assert_eq!(hand.asked().1.limit, 5);
}

#[test]
fn failures_that_may_pass_are_retried_elsewhere_after_a_backoff() {
    let mut hand = Hand::of_k();
    hand.answer(Err(Failure::connection("refused")));
    assert!(hand.is_idle());
    assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
    let request = hand.fail(14, "etcdserver: no leader");
    assert_eq!(request.endpoint, EndpointHint::Another);
    hand.sleep_to_timeout();
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    hand.events();
    hand.answer(Err(Failure::connection("refused")));
    hand.sleep_to_timeout();
    let request = hand.answer(Ok(page(11, &[], false)));
    assert_eq!((request.revision, &request.range.start()[..]), (9, &b"k1\0"[..]), "it goes on where it was");
    assert_eq!(hand.told(), "!9");
}

#[test]
fn failures_that_do_not_pass_end_the_mirror() {
    let reasons = [
        (7, "etcdserver: permission denied", "permission denied"),
        (3, "etcdserver: authentication failed, invalid user ID or password", "authentication failed"),
        (12, "unknown service etcdserverpb.KV", "no etcd v3"),
    ];
    for (code, message, expected) in reasons {
        let mut hand = Hand::of_k();
        hand.fail(code, message);
        let events = hand.events();
        let [MirrorEvent::Closed(reason)] = &events[..] else { panic!("{events:?}") };
        assert!(reason.to_string().contains(expected), "{reason}");
    }
}

#[test]
fn what_a_proxy_says_does_not_end_the_mirror() {
    let mut hand = Hand::of_k();
    let foreign = [
        (14, "connect: permission denied"),
        (7, "RBAC: access denied"),
        (12, "unknown service"),
        (16, "Jwt is expired"),
        (3, "user name not found"),
        (11, "the required revision has been compacted, or not"),
    ];
    for (code, message) in foreign {
        hand.fail(code, message);
        assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList, "{message}");
    }
    assert_eq!(hand.answer(Ok(page(9, &[("k1", 3)], false))).endpoint, EndpointHint::Another);
    assert_eq!(hand.told(), "=9 +k1 !9");
}

#[test]
fn a_refused_token_is_replaced_until_there_have_been_too_many() {
    let mut hand = Hand::of_k();
    let mut fresh = Vec::new();
    while !hand.mirror.is_closed() {
        let request = hand.fail(16, "etcdserver: invalid auth token");
        fresh.push(request.fresh_token);
        if !hand.mirror.is_closed() {
            hand.sleep_to_timeout();
        }
    }
    assert_eq!(fresh, [false, true, true, true, true, true, true, true, true]);
    let events = hand.events();
    assert!(matches!(events[..], [MirrorEvent::Closed(CloseReason::TokenRefused { tokens: 8, .. })]));
}

#[test]
fn an_answer_shows_that_a_token_is_good() {
    let mut hand = Hand::of_k();
    let refuse = |hand: &mut Hand| {
        let fresh = hand.fail(16, "etcdserver: invalid auth token").fresh_token;
        hand.sleep_to_timeout();
        fresh
    };
    assert_eq!([(); 8].map(|()| refuse(&mut hand)), [false, true, true, true, true, true, true, true]);
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    hand.events();
    assert_eq!([(); 8].map(|()| refuse(&mut hand)), [false, true, true, true, true, true, true, true]);
}

#[test]
fn an_answer_begins_the_time_until_it_gives_up_anew() {
    let mut hand = Hand::new(&WatchConfig::default().unreachable_deadline(Some(ms(3000))), of_k());
    let fail_for_2_s = |hand: &mut Hand| {
        let until = hand.now + ms(2000);
        while hand.now < until {
            hand.answer(Err(Failure::connection("refused")));
            assert_eq!(hand.sleep_to_timeout(), TimeoutReason::RetryList);
            hand.now = hand.now + ms(500);
        }
    };
    fail_for_2_s(&mut hand);
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    assert_eq!(hand.told(), "=9 +k1");
    fail_for_2_s(&mut hand);
    hand.answer(Ok(page(9, &[("k2", 3)], false)));
    assert_eq!(hand.told(), "+k2 !9");
}

#[test]
fn members_without_a_leader_have_a_deadline_of_their_own() {
    let config = WatchConfig::default().no_leader_deadline(Some(ms(3000)));
    let mut hand = Hand::new(&config, of_k());
    let until = hand.now + ms(9000);
    while hand.now < until {
        hand.answer(Err(Failure::connection("refused")));
        hand.sleep_to_timeout();
    }
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    hand.events();
    while !hand.mirror.is_closed() {
        hand.fail(14, "etcdserver: no leader");
        if !hand.mirror.is_closed() {
            hand.sleep_to_timeout();
        }
    }
    let events = hand.events();
    assert!(matches!(events[..], [MirrorEvent::Closed(CloseReason::NoLeader { .. })]), "{events:?}");
}

#[test]
fn a_server_that_is_out_of_something_else_is_asked_for_as_much_later() {
    for (code, message) in [(8, "etcdserver: too many requests"), (13, "larger than max")] {
        let mut hand = Hand::of_k();
        hand.fail(code, message);
        assert!(hand.is_idle(), "{message}: not at once");
        hand.sleep_to_timeout();
        assert_eq!(hand.asked().1.limit, 2, "{message}");
    }
}

#[test]
fn it_gives_up_when_the_deadline_for_an_answer_has_passed() {
    let mut hand = Hand::new(&WatchConfig::default().unreachable_deadline(Some(ms(3000))), of_k());
    hand.asked();
    assert_eq!(hand.sleep_to_timeout(), TimeoutReason::GiveUp);
    let events = hand.events();
    assert!(matches!(events[..], [MirrorEvent::Closed(CloseReason::Unreachable { millis: 3000, .. })]));
}

#[test]
fn a_consumer_that_takes_its_time_is_no_reason_to_give_up() {
    let mut hand = Hand::new(&WatchConfig::default().unreachable_deadline(Some(ms(3000))), of_k());
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    assert_eq!(hand.mirror.poll_timeout(), None);
    hand.now = hand.now + ms(60_000);
    hand.mirror.handle_timeout(hand.now);
    assert_eq!(hand.told(), "=9 +k1");
    hand.asked();
}

#[test]
fn a_list_behind_what_was_seen_is_doubted_until_the_deadline_and_then_believed() {
    let mut hand = Hand::new(&WatchConfig::default().lag_deadline(ms(200)), of_k());
    hand.watching(9, &[("k1", 3), ("k2", 4)]);
    hand.watch_ends(compacted());
    let start = hand.now;
    while !hand.mirror.has_events() {
        let request = hand.answer(Ok(page(5, &[("k1", 3)], false)));
        assert!(request.endpoint == EndpointHint::Another || hand.now == start);
        if !hand.mirror.has_events() {
            hand.sleep_to_timeout();
        }
    }
    assert_eq!(hand.now, start + ms(200));
    let reason = ListReason::StoreRegressed { known: 9, revision: 5 };
    assert_eq!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { revision: 5, reason }));
    assert_eq!(hand.told(), "+k1 -k2 !5", "k1 is another one, even at its old revision");
}

#[test]
fn a_list_at_a_revision_that_no_member_has_is_begun_again() {
    let mut hand = Hand::new(&WatchConfig::default().lag_deadline(ms(200)), of_k());
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    hand.events();
    let start = hand.now;
    let future = "etcdserver: mvcc: required revision is a future revision";
    while hand.now < start + ms(200) {
        assert_eq!(hand.fail(11, future).revision, 9);
        hand.sleep_to_timeout();
    }
    assert_eq!(hand.fail(11, future).revision, 9, "at the deadline it is asked for once more");
    let request = hand.answer(Ok(page(9, &[("k1", 3)], false)));
    assert_eq!(request.revision, 0);
    assert_eq!(hand.told(), "=9 !9");
}

#[test]
fn another_cluster_in_the_middle_of_a_list_begins_it_again() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3), ("k2", 4)], true)));
    hand.events();
    hand.answer(Ok(Page { cluster_id: 8, ..page(30, &[("k5", 4)], false) }));
    assert!(!hand.mirror.has_events(), "nothing of that page is handed out");
    hand.answer(Ok(Page { cluster_id: 8, ..page(4, &[("k2", 4)], false) }));
    let reason = ListReason::StoreChanged { before: CLUSTER, after: 8 };
    assert_eq!(hand.mirror.next(hand.now), Some(MirrorEvent::Listing { revision: 4, reason }));
    assert_eq!(hand.told(), "+k2 -k1 !4");
}

#[test]
fn a_missing_cluster_id_says_nothing() {
    let mut hand = Hand::of_k();
    hand.answer(Ok(page(9, &[("k1", 3)], true)));
    hand.events();
    hand.answer(Ok(Page { cluster_id: 0, ..page(9, &[("k5", 4)], false) }));
    assert_eq!(hand.told(), "+k5 !9");
}

#[test]
fn pages_that_nothing_can_be_made_of_are_asked_for_elsewhere() {
    let flawed = [
        page(0, &[("k1", 3)], false),
        page(9, &[], true),
        page(9, &[("k2", 3), ("k1", 3)], false),
        page(9, &[("k1", 3), ("k1", 4)], false),
        page(9, &[("a", 3)], false),
        page(9, &[("k1", 10)], false),
        page(9, &[("k1", 0)], false),
    ];
    for flawed in flawed {
        let mut hand = Hand::of_k();
        hand.answer(Ok(flawed));
        assert!(hand.is_idle());
        hand.sleep_to_timeout();
        let request = hand.answer(Ok(page(9, &[("k1", 3)], true)));
        assert_eq!(request.endpoint, EndpointHint::Another);
        assert_eq!(hand.told(), "=9 +k1");
        hand.answer(Ok(page(12, &[("k1", 3)], false)));
        assert!(hand.is_idle(), "a key comes once in a list");
    }
}

#[test]
fn answers_nobody_waits_for_are_ignored() {
    let mut hand = Hand::of_k();
    let (list, _) = hand.asked();
    hand.mirror.handle_page(hand.now, list, Err(Failure::connection("refused")));
    hand.mirror.handle_page(hand.now, list, Ok(page(9, &[("k1", 3)], false)));
    assert!(hand.is_idle());
    hand.mirror.handle_delivery(hand.now, Delivery::Closed(CloseReason::ShutDown));
    assert!(hand.is_idle() && !hand.mirror.is_closed(), "there is no watch yet");
}
