//! Total: no sequence of calls, and nothing that a server or a driver may say, can panic a mirror, keep it
//! talking for ever, or have it say anything after its end.

use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{
    CloseReason, Delivery, Failure, Instant, KeyRange, ListKey, Mirror, MirrorAction, MirrorEvent,
    MirrorRequest, OwnedKeyValue, Page, Pairs, WatchConfig,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Call {
    Page { which: usize, page: Page },
    Failed { which: usize, code: i32, message: &'static str },
    TooLarge { which: usize },
    Chunk { which: usize, chunk: Page },
    StreamEnded { which: usize },
    Closed(usize),
    Next,
    RequestProgress,
    Cancel,
    Timeout { forward: bool, millis: u64 },
}

const MESSAGES: [&str; 6] = [
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: invalid auth token",
    "grpc: received message larger than max (9 vs. 4)",
    "etcdserver: no leader",
    "",
];

fn call() -> impl Strategy<Value = Call> {
    let revision =
        || prop_oneof![8 => 1..9_i64, 1 => Just(0), 1 => Just(-1), 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let key = prop_oneof![Just(""), Just("\0"), Just("a"), Just("b"), Just("b\0"), Just("c"), Just("\u{7f}")];
    let kv = (key, revision()).prop_map(|(key, mod_revision)| OwnedKeyValue {
        key: Bytes::from_static(key.as_bytes()),
        mod_revision,
        ..OwnedKeyValue::default()
    });
    let kvs =
        (prop::collection::vec(kv, 0..5), prop::bool::weighted(0.8)).prop_map(|(mut kvs, is_lawful)| {
            if is_lawful {
                kvs.sort_by(|a, b| a.key.cmp(&b.key));
                kvs.dedup_by(|a, b| a.key == b.key);
            }
            kvs
        });
    let page = (revision(), 0..3_u64, any::<bool>(), kvs).prop_map(|(revision, cluster_id, more, kvs)| {
        let kvs = Pairs::copied(&kvs).expect("they are few");
        Page { revision, cluster_id, more, count: revision, kvs }
    });
    let chunk = (page.clone(), any::<bool>()).prop_map(|(page, has_header)| {
        let (revision, cluster_id) = if has_header { (page.revision, page.cluster_id) } else { (0, 0) };
        Page { revision, cluster_id, more: page.more && has_header, ..page }
    });
    // Mostly the answer that is waited for, which is the last one asked for.
    let which = || prop_oneof![5 => Just(0_usize), 1 => 0..4_usize];
    prop_oneof![
        10 => (which(), page).prop_map(|(which, page)| Call::Page { which, page }),
        4 => (which(), 0..18_i32, prop::sample::select(&MESSAGES[..]))
            .prop_map(|(which, code, message)| Call::Failed { which, code, message }),
        1 => which().prop_map(|which| Call::TooLarge { which }),
        10 => (which(), chunk).prop_map(|(which, chunk)| Call::Chunk { which, chunk }),
        4 => which().prop_map(|which| Call::StreamEnded { which }),
        3 => (0..6_usize).prop_map(Call::Closed),
        20 => Just(Call::Next),
        1 => Just(Call::RequestProgress),
        1 => prop::bool::weighted(0.1).prop_map(|now| if now { Call::Cancel } else { Call::Next }),
        6 => (prop::bool::weighted(0.9), prop_oneof![0..4000_u64, Just(u64::MAX)])
            .prop_map(|(forward, millis)| Call::Timeout { forward, millis }),
    ]
}

fn end(which: usize) -> CloseReason {
    match which {
        0 => CloseReason::Compacted { compact_revision: i64::MAX, next_revision: 0 },
        1 => CloseReason::Lagged { queued_bytes: 0, next_revision: -1 },
        2 => CloseReason::StoreChanged { before: 0, after: 0 },
        3 => CloseReason::StoreRegressed { known: 0, revision: i64::MAX },
        4 => CloseReason::TooLarge { what: "a revision", bytes: 0, limit: 0 },
        _ => CloseReason::ShutDown,
    }
}

proptest! {
    #![proptest_config(crate::config(300))]

    #[test]
    fn no_sequence_of_calls_breaks_a_mirror(
        seed: u64,
        single: bool,
        keeps_index: bool,
        page_bytes in prop_oneof![1..4_usize, Just(isize::MAX as usize)],
        calls in prop::collection::vec(call(), 1..200),
    ) {
        let range = if single { KeyRange::key("b") } else { KeyRange::range("\0", "c").expect("a range") };
        let request = MirrorRequest::new(range).page_bytes(page_bytes).keep_index(keeps_index);
        let mut mirror = Mirror::new(&WatchConfig::default(), request, seed).expect("a valid request");
        let mut now = Instant::from_nanos(1);
        let mut lists: Vec<ListKey> = Vec::new();
        let mut has_ended = false;
        for call in calls {
            let list = |which: usize| lists.iter().rev().nth(which).copied();
            match call {
                Call::Page { which, page } => {
                    list(which).into_iter().for_each(|list| mirror.handle_page(now, list, Ok(page.clone())));
                }
                Call::Failed { which, code, message } => {
                    let failure = Failure::status(code, message);
                    list(which).into_iter().for_each(|list| {
                        mirror.handle_chunk(now, list, Err(failure.clone()));
                        mirror.handle_page(now, list, Err(failure.clone()));
                    });
                }
                Call::TooLarge { which } => {
                    let failure = Failure::ResponseTooLarge { bytes: 0, limit: 0 };
                    list(which).into_iter().for_each(|list| mirror.handle_page(now, list, Err(failure.clone())));
                }
                Call::Chunk { which, chunk } => {
                    list(which).into_iter().for_each(|list| mirror.handle_chunk(now, list, Ok(chunk.clone())));
                }
                Call::StreamEnded { which } => list(which).into_iter().for_each(|list| {
                    mirror.handle_chunk(now, list, Err(Failure::EndOfStream));
                }),
                Call::Closed(which) => mirror.handle_delivery(now, Delivery::Closed(end(which))),
                Call::Next => {
                    let event = mirror.next(now);
                    prop_assert!(!has_ended || event.is_none(), "after the end: {event:?}");
                    has_ended |= matches!(event, Some(MirrorEvent::Closed(_)));
                    prop_assert!(!has_ended || mirror.is_closed());
                }
                Call::RequestProgress => mirror.request_progress(now),
                Call::Cancel => mirror.cancel(now),
                Call::Timeout { forward, millis } => {
                    let at = mirror.poll_timeout().unwrap_or(now);
                    now = if forward { at.max(now) } else { Instant::from_nanos(millis) };
                    mirror.handle_timeout(now + Duration::from_millis(millis));
                }
            }
            let mut said = 0;
            while let Some(action) = mirror.poll_action() {
                said += 1;
                prop_assert!(said < 10, "it does not stop: {action:?}");
                match action {
                    MirrorAction::List { list, request } => {
                        prop_assert!(!lists.contains(&list) && request.limit > 0);
                        prop_assert!(!mirror.has_events() && mirror.wants_chunk(list) == request.may_stream);
                        lists.push(list);
                    }
                    MirrorAction::CloseList { list } => {
                        prop_assert!(lists.contains(&list) && !mirror.wants_chunk(list));
                    }
                    _ => {}
                }
            }
            prop_assert!(!mirror.has_actions());
            prop_assert!(!mirror.is_closed() || mirror.poll_timeout().is_none());
        }
    }
}
