use etcd_watch_proto::etcdserverpb::watch_create_request::FilterType;
use etcd_watch_proto::mvccpb::event::EventType;
use etcd_watch_proto::prost::Message;

use super::*;
use crate::model::ModelError;

#[test]
fn a_watch_from_now_sees_what_comes_after_it() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "before");
    let stream = etcd.open_watch_stream();
    let reply = created(&mut etcd, stream, watch("a", ""));
    assert_eq!(revision(&reply), 2);
    put(&mut etcd, "a", "after");
    put(&mut etcd, "b", "other");
    let responses = drain(&mut etcd, stream);
    assert_eq!(events(&responses), owned(&[(3, "a")]));
    assert_eq!(revision(&responses[0]), 3);
}

#[test]
fn a_watch_from_the_past_sees_history_and_goes_on() {
    let mut etcd = etcd();
    for value in ["1", "2", "3"] {
        put(&mut etcd, "a", value);
    }
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 3, ..watch("a", "") });
    let responses = drain(&mut etcd, stream);
    assert_eq!(responses.len(), 1);
    assert_eq!(events(&responses), owned(&[(3, "a"), (4, "a")]));
    put(&mut etcd, "a", "4");
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(5, "a")]));
}

#[test]
fn a_watch_from_the_future_sees_nothing_before() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 4, ..watch("a", "") });
    for _ in 0..4 {
        put(&mut etcd, "a", "");
    }
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(4, "a"), (5, "a")]));
}

#[test]
fn ranges_from_key_and_the_empty_key_are_watched_as_they_are_read() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    for (id, (key, end)) in [("b", "c"), ("b", "\0"), ("", ""), ("", "\0")].into_iter().enumerate() {
        let watch_id = i64::try_from(id).expect("small") + 1;
        created(&mut etcd, stream, WatchCreateRequest { watch_id, ..watch(key, end) });
    }
    for key in ["\0", "a", "b", "ba", "c"] {
        put(&mut etcd, key, "");
    }
    let responses = drain(&mut etcd, stream);
    let seen = |id| {
        let of: Vec<_> =
            responses.iter().filter(|response| response.watch_id == id).cloned().collect::<Vec<_>>();
        events(&of).into_iter().map(|(_, key)| key).collect::<Vec<_>>()
    };
    assert_eq!(seen(1), ["b", "ba"]);
    assert_eq!(seen(2), ["b", "ba", "c"]);
    assert_eq!(seen(3), ["\0"]);
    assert_eq!(seen(4), ["\0", "a", "b", "ba", "c"]);
}

#[test]
fn a_revision_arrives_whole_in_one_response() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", "\0"));
    put_all(&mut etcd, &["a", "b", "c"]);
    let responses = drain(&mut etcd, stream);
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].events.len(), 3);
}

#[test]
fn a_delete_tells_key_and_revision_only() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "1");
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    delete(&mut etcd, "a", "");
    let event = drain(&mut etcd, stream).remove(0).events.remove(0);
    assert_eq!(event.r#type(), EventType::Delete);
    let kv = event.kv.expect("kv");
    assert_eq!((kv.mod_revision, kv.create_revision, kv.version), (3, 0, 0));
    assert!(kv.value.is_empty());
}

#[test]
fn filters_leave_out_their_kind() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    let filtered = |watch_id, filter: FilterType| WatchCreateRequest {
        watch_id,
        filters: vec![filter.into()],
        ..watch("a", "")
    };
    created(&mut etcd, stream, filtered(1, FilterType::Noput));
    created(&mut etcd, stream, filtered(2, FilterType::Nodelete));
    put(&mut etcd, "a", "1");
    delete(&mut etcd, "a", "");
    let got: Vec<_> = drain(&mut etcd, stream)
        .iter()
        .map(|response| (response.watch_id, response.events[0].r#type()))
        .collect();
    assert_eq!(got, [(2, EventType::Put), (1, EventType::Delete)]);
}

#[test]
fn a_watch_all_of_whose_history_is_filtered_is_up_to_date() {
    let mut etcd = etcd();
    for _ in 0..3 {
        put(&mut etcd, "a", "");
    }
    let stream = etcd.open_watch_stream();
    let request =
        WatchCreateRequest { start_revision: 1, filters: vec![FilterType::Noput.into()], ..watch("a", "") };
    created(&mut etcd, stream, request);
    assert!(drain(&mut etcd, stream).is_empty());
    delete(&mut etcd, "a", "");
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(5, "a")]));
}

#[test]
fn the_state_before_comes_along_if_asked_and_there_was_one() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { prev_kv: true, ..watch("a", "") });
    put(&mut etcd, "a", "1");
    put(&mut etcd, "a", "2");
    delete(&mut etcd, "a", "");
    let prevs: Vec<_> = drain(&mut etcd, stream)
        .into_iter()
        .flat_map(|response| response.events)
        .map(|event| event.prev_kv.map(|kv| kv.value))
        .collect();
    assert_eq!(prevs, [None, Some("1".into()), Some("2".into())]);
}

#[test]
fn the_state_before_is_missing_once_compacted() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "1"); // 2
    put(&mut etcd, "a", "2"); // 3
    put(&mut etcd, "a", "3"); // 4
    compact(&mut etcd, 3);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { prev_kv: true, start_revision: 3, ..watch("a", "") });
    let response = drain(&mut etcd, stream).remove(0);
    assert_eq!(events(std::slice::from_ref(&response)), owned(&[(3, "a"), (4, "a")]));
    assert_eq!(response.events[0].prev_kv, None);
    assert!(response.events[1].prev_kv.is_some());
}

#[test]
fn ids_are_counted_from_zero_or_taken_from_the_client() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    let mut id =
        |watch_id| created(&mut etcd, stream, WatchCreateRequest { watch_id, ..watch("a", "") }).watch_id;
    assert_eq!([id(0), id(1), id(0), id(77), id(0)], [0, 1, 2, 77, 3]);
}

#[test]
fn a_taken_id_is_refused_and_the_watch_that_has_it_goes_on() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    let refused = created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("b", "") });
    assert_eq!((refused.watch_id, refused.canceled), (-1, true));
    assert_eq!(refused.cancel_reason, "mvcc: duplicate watch ID provided on the WatchStream");
    put(&mut etcd, "a", "");
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(2, "a")]));
    assert_eq!(etcd.watcher_count(), 1);
}

#[test]
fn refused_creates_are_answered_in_the_order_of_the_requests() {
    let mut etcd = etcd();
    etcd.deny_watches("secret/", "secret0", "etcdserver: permission denied");
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 1, ..watch("a", "") });
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 2, ..watch("secret/x", "") });
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 3, ..watch("z", "a") });
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 4, start_revision: -1, ..watch("a", "") });
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 5, ..watch("a", "") });
    let replies: Vec<_> = drain(&mut etcd, stream)
        .into_iter()
        .map(|reply| (reply.watch_id, reply.created, reply.canceled, reply.cancel_reason))
        .collect();
    assert_eq!(
        replies,
        [
            (1, true, false, String::new()),
            (-1, true, true, "etcdserver: permission denied".to_owned()),
            (-1, true, true, "mvcc: watcher range is empty".to_owned()),
            (-1, true, true, "etcdserver: mvcc: required revision has been compacted".to_owned()),
            (5, true, false, String::new()),
        ]
    );
    etcd.allow_watches();
    assert!(!created(&mut etcd, stream, watch("secret/x", "")).canceled);
}

#[test]
fn a_cancel_is_answered_and_ends_the_watch() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    cancel(&mut etcd, stream, 7);
    put(&mut etcd, "a", "");
    let responses = drain(&mut etcd, stream);
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].watch_id, responses[0].canceled, responses[0].created), (7, true, false));
    assert_eq!((responses[0].compact_revision, responses[0].cancel_reason.as_str()), (0, ""));
    assert_eq!(etcd.watcher_count(), 0);
}

#[test]
fn a_cancel_for_no_watch_is_not_answered() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    cancel(&mut etcd, stream, 7);
    assert!(drain(&mut etcd, stream).is_empty());
}

#[test]
fn a_watch_can_be_cancelled_before_its_reply_is_read() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    cancel(&mut etcd, stream, 7);
    let replies: Vec<_> =
        drain(&mut etcd, stream).iter().map(|reply| (reply.created, reply.canceled)).collect();
    assert_eq!(replies, [(true, false), (false, true)]);
}

#[test]
fn the_server_can_cancel_a_watch_with_a_reason() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    assert!(etcd.cancel_watch(stream, 7, "because"));
    assert!(!etcd.cancel_watch(stream, 7, "because"));
    let response = etcd.poll_watch_response(stream).expect("cancelled");
    assert_eq!((response.canceled, response.cancel_reason.as_str()), (true, "because"));
}

#[test]
fn the_server_says_the_end_of_a_watch_behind_what_is_on_its_way() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    put(&mut etcd, "a", "");
    assert!(etcd.cancel_watch(stream, 7, "because"));
    let responses = drain(&mut etcd, stream);
    let said: Vec<_> = responses.iter().map(|said| (said.events.len(), said.canceled)).collect();
    assert_eq!(said, [(1, false), (0, true)]);
}

#[test]
fn late_events_of_a_cancelled_watch_reach_a_new_one_with_its_id() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    put(&mut etcd, "a", "");
    cancel(&mut etcd, stream, 7);
    assert_eq!(drain(&mut etcd, stream).len(), 1);
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("b", "") });
    let responses = drain(&mut etcd, stream);
    assert!(responses[0].created);
    assert_eq!(events(&responses), owned(&[(2, "a")]));
}

#[test]
fn a_compacted_start_is_told_after_created_with_the_revision_and_no_reason() {
    let mut etcd = etcd();
    for _ in 0..5 {
        put(&mut etcd, "a", "");
    }
    compact(&mut etcd, 4);
    let stream = etcd.open_watch_stream();
    let reply =
        created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, start_revision: 3, ..watch("a", "") });
    assert!(!reply.canceled);
    let end = drain(&mut etcd, stream).remove(0);
    assert_eq!((end.watch_id, end.canceled, end.compact_revision), (7, true, 4));
    assert_eq!((end.cancel_reason.as_str(), end.events.len()), ("", 0));
    // Measured on 3.4.23 and 3.5.30: it is held until its client cancels it.
    assert_eq!(etcd.watcher_count(), 1);
    cancel(&mut etcd, stream, 7);
    assert!(drain(&mut etcd, stream)[0].canceled);
    assert_eq!(etcd.watcher_count(), 0);
}

#[test]
fn a_watch_can_start_exactly_where_history_begins_even_with_a_delete() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "");
    delete(&mut etcd, "a", "");
    put(&mut etcd, "b", "");
    compact(&mut etcd, 3);
    for (key, end) in [("a", ""), ("a", "\0")] {
        let stream = etcd.open_watch_stream();
        created(&mut etcd, stream, WatchCreateRequest { start_revision: 3, ..watch(key, end) });
        assert_eq!(events(&drain(&mut etcd, stream))[0], (3, "a".to_owned()));
    }
}

#[test]
fn a_watch_that_is_up_to_date_survives_compaction() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    for _ in 0..5 {
        put(&mut etcd, "b", "");
    }
    compact(&mut etcd, 6);
    put(&mut etcd, "a", "");
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(7, "a")]));
}

#[test]
fn catching_up_goes_by_a_thousand_whole_revisions_under_the_newest_header() {
    let mut etcd = etcd();
    for _ in 0..2500 {
        put_all(&mut etcd, &["a", "b"]);
    }
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 2, ..watch("a", "\0") });
    let responses = drain(&mut etcd, stream);
    assert_eq!(
        responses.iter().map(|response| response.events.len()).collect::<Vec<_>>(),
        [2000, 2000, 1000]
    );
    assert!(responses.iter().all(|response| revision(response) == 2501));
    let firsts: Vec<_> =
        responses.iter().map(|response| events(std::slice::from_ref(response))[0].0).collect();
    assert_eq!(firsts, [2, 1002, 2002]);
}

#[test]
fn large_responses_are_cut_within_a_revision_only_if_asked() {
    let config = ModelConfig { fragment_bytes: 1000, ..ModelConfig::default() };
    let mut etcd = ModelEtcd::new(config);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 1, fragment: true, ..watch("a", "\0") });
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 2, ..watch("a", "\0") });
    let value = "x".repeat(400);
    let success = ["a", "b", "c", "d", "e"].map(|key| put_operation(key, &value)).to_vec();
    etcd.txn(&TxnRequest { success, ..TxnRequest::default() }).expect("txn");
    let responses = drain(&mut etcd, stream);
    let parts: Vec<_> = responses
        .iter()
        .map(|response| (response.watch_id, response.fragment, response.events.len()))
        .collect();
    assert_eq!(parts, [(1, true, 2), (1, true, 2), (1, false, 1), (2, false, 5)]);
    assert!(responses[..3].iter().all(|part| part.encoded_len() < 1000 && revision(part) == 2));
}

#[test]
fn streams_do_not_share_ids_or_fates() {
    let mut etcd = etcd();
    let first = etcd.open_watch_stream();
    let second = etcd.open_watch_stream();
    created(&mut etcd, first, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    created(&mut etcd, second, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    etcd.close_watch_stream(first);
    put(&mut etcd, "a", "");
    assert_eq!(etcd.watcher_count(), 1);
    assert_eq!(drain(&mut etcd, first), []);
    assert_eq!(events(&drain(&mut etcd, second)), owned(&[(2, "a")]));
    assert_eq!(etcd.watch_streams(), [second]);
}

#[test]
fn a_stream_is_ready_once_for_everything_that_waits() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    let other = etcd.open_watch_stream();
    assert_eq!(etcd.poll_ready(), None);
    create(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "a", "");
    put(&mut etcd, "a", "");
    create(&mut etcd, other, watch("b", ""));
    assert_eq!(etcd.poll_ready(), Some(stream));
    assert_eq!(etcd.poll_ready(), Some(other));
    assert_eq!(etcd.poll_ready(), None);
    drain(&mut etcd, stream);
    put(&mut etcd, "a", "");
    assert_eq!(etcd.poll_ready(), Some(stream));
}

#[test]
fn a_stream_that_lost_its_leader_says_why_and_nothing_else() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "a", "");
    etcd.poll_ready();
    etcd.fail_watch_streams(ModelError::NoLeader);
    assert_eq!(etcd.poll_ready(), Some(stream));
    assert_eq!(etcd.watch_stream_failure(stream), Some(ModelError::NoLeader));
    create(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "a", "");
    assert!(drain(&mut etcd, stream).is_empty());
    assert_eq!(etcd.watcher_count(), 0);
}

#[test]
fn a_restart_ends_streams_and_keeps_data() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "kept");
    let term = etcd.config().raft_term;
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, watch("a", ""));
    etcd.restart(SECOND);
    assert!(!etcd.has_watch_stream(stream));
    assert_eq!((etcd.watcher_count(), etcd.revision()), (0, 2));
    assert_eq!(etcd.config().raft_term, term + 1);
    assert_eq!(etcd.poll_ready(), None);
}
