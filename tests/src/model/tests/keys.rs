use etcd_watch_proto::etcdserverpb::range_request::{SortOrder, SortTarget};

use super::*;
use crate::model::{EventKind, ModelError};

fn keys(etcd: &ModelEtcd, request: &RangeRequest) -> Vec<String> {
    let response = etcd.range(request).expect("range");
    response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
}

/// a=3 (rev 2), c=1 (rev 3), b=2 (rev 4), a=0 (rev 5).
fn filled() -> ModelEtcd {
    let mut etcd = etcd();
    put(&mut etcd, "a", "3");
    put(&mut etcd, "c", "1");
    put(&mut etcd, "b", "2");
    put(&mut etcd, "a", "0");
    etcd
}

#[test]
fn a_fresh_store_answers_with_revision_one_and_nothing() {
    let response = etcd().range(&read("a", "\0")).expect("range");
    assert_eq!(response.header.expect("header").revision, 1);
    assert_eq!((response.kvs.len(), response.count, response.more), (0, 0, false));
}

#[test]
fn a_key_is_found_and_a_missing_one_is_not() {
    let etcd = filled();
    let response = etcd.range(&read("a", "")).expect("range");
    let kv = &response.kvs[0];
    assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (2, 5, 2));
    assert_eq!(kv.value.as_ref(), b"0");
    assert!(keys(&etcd, &read("x", "")).is_empty());
}

#[test]
fn a_range_is_read_in_key_order_without_its_end() {
    let etcd = filled();
    assert_eq!(keys(&etcd, &read("a", "c")), ["a", "b"]);
    assert_eq!(keys(&etcd, &read("b", "\0")), ["b", "c"]);
    assert_eq!(keys(&etcd, &read("\0", "\0")), ["a", "b", "c"]);
}

#[test]
fn an_inverted_range_is_empty() {
    let response = filled().range(&read("c", "a")).expect("range");
    assert_eq!((response.kvs.len(), response.count), (0, 0));
}

#[test]
fn an_old_revision_is_read_as_it_was_under_the_newest_header() {
    let etcd = filled();
    let response = etcd.range(&RangeRequest { revision: 3, ..read("a", "\0") }).expect("range");
    assert_eq!(response.header.expect("header").revision, 5);
    assert_eq!(response.kvs[0].value.as_ref(), b"3");
    assert_eq!(response.count, 2);
}

#[test]
fn a_deleted_key_is_gone_from_its_delete_on_and_readable_before() {
    let mut etcd = filled();
    assert_eq!(delete(&mut etcd, "a", ""), 6);
    assert!(keys(&etcd, &read("a", "")).is_empty());
    assert_eq!(keys(&etcd, &RangeRequest { revision: 5, ..read("a", "") }), ["a"]);
}

#[test]
fn revisions_in_the_future_and_compacted_ones_are_refused() {
    let mut etcd = filled();
    let at = |revision| RangeRequest { revision, ..read("a", "") };
    assert_eq!(etcd.range(&at(6)), Err(ModelError::FutureRevision));
    compact(&mut etcd, 4);
    assert_eq!(etcd.range(&at(3)), Err(ModelError::Compacted));
    assert_eq!(keys(&etcd, &at(4)), ["a"]);
}

#[test]
fn a_limit_cuts_and_says_so_but_leaves_the_count() {
    let etcd = filled();
    let response = etcd.range(&RangeRequest { limit: 2, ..read("a", "\0") }).expect("range");
    assert_eq!((response.kvs.len(), response.more, response.count), (2, true, 3));
    let response = etcd.range(&RangeRequest { limit: 3, ..read("a", "\0") }).expect("range");
    assert_eq!((response.kvs.len(), response.more, response.count), (3, false, 3));
}

#[test]
fn keys_can_be_read_without_values_and_counted_without_keys() {
    let etcd = filled();
    let response = etcd.range(&RangeRequest { keys_only: true, ..read("a", "\0") }).expect("range");
    assert!(response.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    let response = etcd.range(&RangeRequest { count_only: true, ..read("a", "\0") }).expect("range");
    assert_eq!((response.kvs.len(), response.count), (0, 3));
}

#[test]
fn keys_are_sorted_by_any_field_in_either_direction() {
    let etcd = filled();
    let sorted = |target: SortTarget, order: SortOrder| {
        let request =
            RangeRequest { sort_target: target.into(), sort_order: order.into(), ..read("a", "\0") };
        keys(&etcd, &request).concat()
    };
    assert_eq!(sorted(SortTarget::Key, SortOrder::Descend), "cba");
    assert_eq!(sorted(SortTarget::Create, SortOrder::Ascend), "acb");
    assert_eq!(sorted(SortTarget::Mod, SortOrder::Ascend), "cba");
    assert_eq!(sorted(SortTarget::Mod, SortOrder::Descend), "abc");
    assert_eq!(sorted(SortTarget::Value, SortOrder::Ascend), "acb");
    // A target without an order sorts upwards.
    assert_eq!(sorted(SortTarget::Version, SortOrder::None), "bca");
}

#[test]
fn a_limit_applies_after_sorting() {
    let request = RangeRequest {
        sort_target: SortTarget::Mod.into(),
        sort_order: SortOrder::Descend.into(),
        limit: 1,
        ..read("a", "\0")
    };
    assert_eq!(keys(&filled(), &request), ["a"]);
}

#[test]
fn bounds_on_revisions_are_included_and_leave_the_count() {
    let etcd = filled();
    let request = RangeRequest { min_mod_revision: 4, max_mod_revision: 4, ..read("a", "\0") };
    assert_eq!(keys(&etcd, &request), ["b"]);
    assert_eq!(etcd.range(&request).expect("range").count, 3);
    let request = RangeRequest { min_create_revision: 2, max_create_revision: 3, ..read("a", "\0") };
    assert_eq!(keys(&etcd, &request), ["a", "c"]);
}

#[test]
fn an_unknown_sort_option_is_refused() {
    let request = RangeRequest { sort_target: 99, ..read("a", "") };
    assert_eq!(etcd().range(&request), Err(ModelError::InvalidSortOption));
}

#[test]
fn an_empty_key_is_refused_everywhere() {
    let mut etcd = etcd();
    assert_eq!(etcd.range(&read("", "\0")), Err(ModelError::EmptyKey));
    assert_eq!(etcd.put(&PutRequest::default()), Err(ModelError::EmptyKey));
    assert_eq!(etcd.delete_range(&delete_request("", "")), Err(ModelError::EmptyKey));
}

#[test]
fn a_put_returns_the_state_before_only_if_asked() {
    let mut etcd = filled();
    let request = PutRequest { key: "a".into(), prev_kv: true, ..PutRequest::default() };
    let prev = etcd.put(&request).expect("put").prev_kv.expect("prev");
    assert_eq!((prev.value.as_ref(), prev.mod_revision), (b"0".as_slice(), 5));
    assert_eq!(etcd.put(&PutRequest { prev_kv: false, ..request }).expect("put").prev_kv, None);
    let fresh = PutRequest { key: "new".into(), prev_kv: true, ..PutRequest::default() };
    assert_eq!(etcd.put(&fresh).expect("put").prev_kv, None);
}

#[test]
fn a_put_can_keep_the_value() {
    let mut etcd = filled();
    let keep = PutRequest { key: "a".into(), ignore_value: true, ..PutRequest::default() };
    etcd.put(&keep).expect("put");
    let response = etcd.range(&read("a", "")).expect("range");
    assert_eq!((response.kvs[0].value.as_ref(), response.kvs[0].version), (b"0".as_slice(), 3));
    let both = PutRequest { value: "v".into(), ..keep.clone() };
    assert_eq!(etcd.put(&both), Err(ModelError::ValueProvided));
    assert_eq!(etcd.put(&PutRequest { key: "x".into(), ..keep }), Err(ModelError::KeyNotFound));
}

#[test]
fn a_delete_counts_returns_what_was_and_uses_one_revision() {
    let mut etcd = filled();
    let request = DeleteRangeRequest { prev_kv: true, ..delete_request("a", "c") };
    let response = etcd.delete_range(&request).expect("delete");
    assert_eq!((response.deleted, response.prev_kvs.len()), (2, 2));
    assert_eq!(response.header.expect("header").revision, 6);
    let kinds: Vec<_> = etcd.history()[4..].iter().map(|event| (event.revision, event.kind)).collect();
    assert_eq!(kinds, [(6, EventKind::Delete), (6, EventKind::Delete)]);
}

#[test]
fn deleting_nothing_uses_no_revision() {
    let mut etcd = filled();
    assert_eq!(delete(&mut etcd, "x", ""), 5);
    assert_eq!(etcd.revision(), 5);
}

#[test]
fn compaction_is_told_and_refused_twice_or_in_the_future() {
    let mut etcd = filled();
    assert_eq!(etcd.compact_revision(), None);
    compact(&mut etcd, 4);
    assert_eq!(etcd.compact_revision(), Some(4));
    let again =
        |etcd: &mut ModelEtcd, revision| etcd.compact(&CompactionRequest { revision, physical: true });
    assert_eq!(again(&mut etcd, 4), Err(ModelError::Compacted));
    assert_eq!(again(&mut etcd, 6), Err(ModelError::FutureRevision));
}

#[test]
fn the_history_keeps_what_compaction_forgets() {
    let mut etcd = filled();
    delete(&mut etcd, "b", "");
    compact(&mut etcd, 6);
    let history: Vec<_> =
        etcd.history().iter().map(|event| (event.revision, event.key.as_ref(), event.version)).collect();
    assert_eq!(history, [(2, b"a".as_slice(), 1), (3, b"c", 1), (4, b"b", 1), (5, b"a", 2), (6, b"b", 0)]);
    let prev = etcd.history()[4].prev.as_ref().expect("prev");
    assert_eq!((prev.value.as_ref(), prev.mod_revision), (b"2".as_slice(), 4));
}

#[test]
fn a_request_that_is_too_large_is_refused() {
    let mut etcd = ModelEtcd::new(ModelConfig { max_request_bytes: 100, ..ModelConfig::default() });
    let large = PutRequest { key: "a".into(), value: vec![0; 100].into(), ..PutRequest::default() };
    assert_eq!(etcd.put(&large), Err(ModelError::RequestTooLarge));
    assert_eq!(etcd.revision(), 1);
}

#[test]
fn headers_tell_who_answers() {
    let etcd = etcd();
    let header = etcd.range(&read("a", "")).expect("range").header.expect("header");
    assert_eq!(header.cluster_id, etcd.config().cluster_id);
    assert_eq!(header.member_id, etcd.config().member_id);
    assert_eq!(header.raft_term, etcd.config().raft_term);
    assert_eq!(etcd.member_list().header.expect("header").revision, 0);
    assert_eq!(etcd.status().version, "3.5.30");
}

#[test]
fn a_clone_is_a_backup() {
    let mut etcd = filled();
    let backup = etcd.clone();
    put(&mut etcd, "d", "later");
    assert_eq!((etcd.revision(), backup.revision()), (6, 5));
    assert!(keys(&backup, &read("d", "")).is_empty());
}
