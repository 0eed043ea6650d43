use etcd_watch_proto::etcdserverpb::{LeaseGrantRequest, range_request::SortTarget, response_op::Response};

use super::*;
use crate::model::{ProgressMode, Quirks};

fn with(quirks: Quirks) -> ModelEtcd {
    ModelEtcd::new(ModelConfig { quirks, ..ModelConfig::default() })
}

#[test]
fn a_proxy_assigns_ids_of_its_own() {
    let mut etcd = with(Quirks { assign_ids: true, ..Quirks::default() });
    let stream = etcd.open_watch_stream();
    for expected in 0..3 {
        let reply = created(&mut etcd, stream, WatchCreateRequest { watch_id: 77, ..watch("a", "") });
        assert_eq!(reply.watch_id, expected);
    }
    put(&mut etcd, "a", "");
    let ids: Vec<_> = drain(&mut etcd, stream).iter().map(|response| response.watch_id).collect();
    assert_eq!(ids, [0, 1, 2]);
}

#[test]
fn a_proxy_makes_up_created_replies() {
    let mut etcd = with(Quirks { synthetic_created: true, ..Quirks::default() });
    let stream = etcd.open_watch_stream();
    let reply = created(&mut etcd, stream, WatchCreateRequest { start_revision: 55, ..watch("a", "") });
    let header = reply.header.expect("header");
    assert_eq!((header.cluster_id, header.member_id, header.revision), (0, 0, 55));
}

#[test]
fn a_proxy_may_reorder_created_replies() {
    let mut etcd = with(Quirks { reorder_created: true, ..Quirks::default() });
    let stream = etcd.open_watch_stream();
    for watch_id in 1..=3 {
        create(&mut etcd, stream, WatchCreateRequest { watch_id, ..watch("a", "") });
    }
    let ids: Vec<_> = drain(&mut etcd, stream).iter().map(|response| response.watch_id).collect();
    assert_eq!(ids, [2, 3, 1]);
    create(&mut etcd, stream, WatchCreateRequest { watch_id: 4, ..watch("a", "") });
    cancel(&mut etcd, stream, 4);
    let kinds: Vec<_> = drain(&mut etcd, stream).iter().map(|response| response.created).collect();
    assert_eq!(kinds, [true, false]);
}

#[test]
fn a_proxy_ignores_fragments_and_progress_requests() {
    let config = ModelConfig { quirks: Quirks::grpc_proxy(), fragment_bytes: 10, ..ModelConfig::default() };
    let mut etcd = ModelEtcd::new(config);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { fragment: true, ..watch("a", "\0") });
    put_all(&mut etcd, &["a", "b"]);
    request_progress(&mut etcd, stream);
    let responses = drain(&mut etcd, stream);
    assert_eq!(responses.len(), 1);
    assert_eq!((responses[0].events.len(), responses[0].fragment), (2, false));
}

#[test]
fn an_old_server_reports_progress_below_the_start_of_a_watch() {
    let mut etcd = with(Quirks { progress_before_start: true, ..Quirks::default() });
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 9, ..watch("a", "") });
    request_progress(&mut etcd, stream);
    assert_eq!(revision(&drain(&mut etcd, stream)[0]), 1);
}

#[test]
fn an_old_server_takes_a_start_below_zero_for_a_compacted_one() {
    let mut etcd = with(Quirks { negative_start: true, ..Quirks::default() });
    put(&mut etcd, "a", "");
    compact(&mut etcd, 2);
    let stream = etcd.open_watch_stream();
    let reply = created(&mut etcd, stream, WatchCreateRequest { start_revision: -1, ..watch("a", "") });
    assert!(!reply.canceled);
    let responses = drain(&mut etcd, stream);
    assert_eq!((responses.len(), responses[0].compact_revision), (1, 2));
}

#[test]
fn an_old_server_loses_a_delete_at_the_compacted_revision() {
    let mut etcd = with(Quirks { lose_deletes: true, ..Quirks::default() });
    put(&mut etcd, "a", ""); // 2
    put_all(&mut etcd, &["b", "c"]); // 3
    delete(&mut etcd, "a", "c"); // 4
    put(&mut etcd, "a", ""); // 5
    compact(&mut etcd, 4);
    for (key, end, expected) in [("a", "", &[(5, "a")][..]), ("b", "", &[]), ("a", "\0", &[(5, "a")])] {
        let stream = etcd.open_watch_stream();
        created(&mut etcd, stream, WatchCreateRequest { start_revision: 4, ..watch(key, end) });
        assert_eq!(events(&drain(&mut etcd, stream)), owned(expected));
    }
}

#[test]
fn a_version_decides_what_the_model_is_like() {
    let like = |text: &str| ModelConfig::like(text.parse().expect("a version"));
    for (version, progress, quirks) in [
        (
            "3.4.23",
            ProgressMode::Overtaking,
            Quirks {
                progress_before_start: true,
                lose_deletes: true,
                negative_start: true,
                ..Quirks::default()
            },
        ),
        (
            "3.6.1",
            ProgressMode::Fixed,
            Quirks { progress_before_start: true, negative_start: true, ..Quirks::default() },
        ),
        ("3.5.30", ProgressMode::Fixed, Quirks::default()),
        ("3.7.3", ProgressMode::Fixed, Quirks { bare_keys: true, ..Quirks::default() }),
    ] {
        let config = like(version);
        assert_eq!((config.version.as_str(), config.progress, config.quirks), (version, progress, quirks));
    }
}

#[test]
fn a_new_server_leaves_out_the_lease_of_keys_without_values() {
    for (bare_keys, lease) in [(false, 7), (true, 0)] {
        let mut etcd = with(Quirks { bare_keys, ..Quirks::default() });
        etcd.lease_grant(&LeaseGrantRequest { id: 7, ttl: 60 }, Duration::ZERO).expect("a lease");
        let put = PutRequest { key: "a".into(), value: "1".into(), lease: 7, ..PutRequest::default() };
        etcd.put(&put).expect("put");
        let of =
            |etcd: &mut ModelEtcd, request: &RangeRequest| etcd.range(request).expect("read").kvs[0].lease;
        let keys = RangeRequest { keys_only: true, ..read("a", "") };
        let by_value = RangeRequest { sort_target: SortTarget::Value.into(), ..keys.clone() };
        assert_eq!(
            (of(&mut etcd, &keys), of(&mut etcd, &by_value), of(&mut etcd, &read("a", ""))),
            (lease, 7, 7)
        );
        let txn =
            TxnRequest { success: vec![operation(Request::RequestRange(keys))], ..TxnRequest::default() };
        let answer = etcd.txn(&txn).expect("txn");
        let Some(Response::ResponseRange(found)) = &answer.responses[0].response else {
            panic!("{answer:?}")
        };
        assert_eq!(found.kvs[0].lease, lease);
    }
}

#[test]
fn headers_can_be_left_out() {
    let mut etcd = with(Quirks { omit_headers: true, ..Quirks::default() });
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "a", "");
    assert!(drain(&mut etcd, stream).iter().all(|response| response.header.is_none()));
}

#[test]
fn with_a_seed_replies_and_events_interleave_but_events_never_come_before_their_created() {
    let mut orders = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let config = ModelConfig { interleave_seed: Some(seed), ..ModelConfig::default() };
        let mut etcd = ModelEtcd::new(config);
        let stream = etcd.open_watch_stream();
        for watch_id in 1..=4 {
            create(&mut etcd, stream, WatchCreateRequest { watch_id, ..watch("a", "") });
            put(&mut etcd, "a", "");
        }
        let responses = drain(&mut etcd, stream);
        for id in 1..=4 {
            let of: Vec<_> = responses.iter().filter(|response| response.watch_id == id).cloned().collect();
            assert!(of[0].created);
            let expected: Vec<_> = (id + 1..=5).map(|revision| (revision, "a".to_owned())).collect();
            assert_eq!(events(&of), expected);
        }
        orders.insert(responses.iter().map(|response| response.watch_id).collect::<Vec<_>>());
    }
    assert!(orders.len() > 1, "the seed makes a difference");
}

#[test]
fn events_that_waited_for_their_created_are_not_fragmented() {
    let interleaved = (0..50).any(|seed| {
        let config =
            ModelConfig { interleave_seed: Some(seed), fragment_bytes: 10, ..ModelConfig::default() };
        let mut etcd = ModelEtcd::new(config);
        let stream = etcd.open_watch_stream();
        create(&mut etcd, stream, WatchCreateRequest { fragment: true, ..watch("a", "\0") });
        put_all(&mut etcd, &["a", "b"]);
        drain(&mut etcd, stream).iter().any(|response| response.events.len() == 2)
    });
    assert!(interleaved);
}

#[test]
fn a_watch_that_a_proxy_has_lost_gets_what_is_on_its_way_and_is_there_until_it_is_cancelled() {
    let mut etcd = with(Quirks::grpc_proxy());
    let stream = etcd.open_watch_stream();
    let ids = [0, 1].map(|_| created(&mut etcd, stream, watch("a", "\0")).watch_id);
    put(&mut etcd, "a", "");
    assert!(etcd.lose_watch(stream, ids[0]) && !etcd.lose_watch(stream, ids[0]));
    assert_eq!(drain(&mut etcd, stream).len(), 2);
    put(&mut etcd, "b", "");
    let heard: Vec<_> = drain(&mut etcd, stream).iter().map(|response| response.watch_id).collect();
    assert_eq!((heard, etcd.lost_watches(stream), etcd.watch_ids(stream).len()), (vec![ids[1]], 1, 2));
    cancel(&mut etcd, stream, ids[0]);
    assert!(drain(&mut etcd, stream)[0].canceled);
    assert_eq!((etcd.lost_watches(stream), etcd.watch_ids(stream).len()), (0, 1));
}
