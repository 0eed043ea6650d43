//! A mirror with a key that no list can bring.

use etcd_watch_core::{
    CloseReason, Failure, Instant, KeyRange, Mirror, MirrorAction, MirrorEvent, MirrorRequest, OwnedKeyValue,
    Page, Pairs, WatchConfig,
};

use crate::support::*;

const TOO_LARGE: &str = "grpc: received message larger than max (5000000 vs. 4194304)";

/// Lists `services/` until the mirror ends, for an hour at most; every list of this key fails, so that
/// only those before it can be listed. How it ends, after how many lists.
fn list_with_large_key(before: &[&'static str], page_bytes: usize) -> (Option<CloseReason>, usize) {
    let request = MirrorRequest::new(KeyRange::prefix("services/")).page_bytes(page_bytes);
    let mut mirror = Mirror::new(&WatchConfig::default(), request, 1).expect("a valid request");
    let mut now = Instant::from_nanos(1);
    let until = now + ms(3_600_000);
    let (mut end, mut lists) = (None, 0);
    while now < until && lists <= 10_000 {
        while let Some(action) = mirror.poll_action() {
            let MirrorAction::List { list, request } = action else { panic!("{action:?}") };
            lists += 1;
            let left: Vec<&str> =
                before.iter().copied().filter(|key| request.range.contains(key.as_bytes())).collect();
            now = now + ms(1);
            let page = if request.limit <= left.len() {
                Ok(page(&left[..request.limit]))
            } else {
                Err(Failure::status(8, TOO_LARGE))
            };
            mirror.handle_page(now, list, page);
        }
        while let Some(event) = mirror.next(now) {
            if let MirrorEvent::Closed(reason) = event {
                end = Some(reason);
            }
        }
        if mirror.is_closed() {
            break;
        }
        if !mirror.has_actions() {
            now = now.max(mirror.poll_timeout().expect("something to wait for"));
            mirror.handle_timeout(now);
        }
    }
    (end, lists)
}

fn page(keys: &[&'static str]) -> Page {
    let kv = |&key: &&'static str| OwnedKeyValue {
        key: key.into(),
        value: "v".into(),
        create_revision: 3,
        mod_revision: 3,
        version: 1,
        lease: 0,
    };
    let kvs: Vec<OwnedKeyValue> = keys.iter().map(kv).collect();
    let kvs = Pairs::copied(&kvs).expect("they are few");
    Page { revision: 100, cluster_id: CLUSTER, more: true, count: 0, kvs }
}

#[test]
fn a_mirror_ends_at_a_key_that_no_list_can_bring_and_names_the_range_and_the_size() {
    let three = ["services/a", "services/b", "services/c"];
    for (before, page_bytes) in [(&[][..], 1), (&[], 8 << 20), (&three, 8 << 20)] {
        let (end, lists) = list_with_large_key(before, page_bytes);
        let case = format!("{before:?}, pages of {page_bytes} bytes, {lists} lists");
        let Some(reason) = end else { panic!("it lists for ever: {case}") };
        assert!(matches!(reason, CloseReason::KeyTooLarge { bytes: 5_000_000, .. }), "{reason:?}: {case}");
        assert!(lists <= 30, "{case}");
        let text = reason.to_string();
        assert!(text.contains("5000000") && text.contains("services/"), "{text}: {case}");
    }
}
