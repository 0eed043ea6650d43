//! Mirrors that go on after a restart of the program.

use etcd_watch_core::{
    ApiMisuse, Checkpoint, CloseReason, ListReason, Mirror, MirrorAction, MirrorEvent, RequestError, StartAt,
    WatchConfig,
};

use crate::hand::{CLUSTER, Hand, compacted, of_k, page};

/// A mirror that resumes at revision 10, and its watch.
fn resumed() -> Hand {
    let checkpoint: Checkpoint = format!("10@{CLUSTER:x}").parse().expect("a checkpoint");
    let mut hand = Hand::new(&WatchConfig::default(), of_k().keep_index(false).resume(checkpoint));
    assert_eq!(hand.mirror.checkpoint(), Some(checkpoint));
    let Some(MirrorAction::Watch(watch)) = hand.action() else { panic!("no list before the watch") };
    assert_eq!(watch, of_k_watch().resume(checkpoint));
    assert_eq!(watch.start_at(), StartAt::Revision(10));
    hand
}

/// The watch of a mirror, but for where it starts.
fn of_k_watch() -> etcd_watch_core::WatchRequest {
    etcd_watch_core::WatchRequest::new(etcd_watch_core::KeyRange::prefix("k")).progress_notify(true)
}

#[test]
fn a_checkpoint_and_an_index_are_refused_together() {
    let request = of_k().resume(Checkpoint::after(etcd_watch_core::Header::default()));
    let refused = Mirror::new(&WatchConfig::default(), request, 1).err();
    assert_eq!(refused, Some(ApiMisuse::Request(RequestError::ResumedIndex)));
}

#[test]
fn a_resumed_mirror_lists_when_history_is_compacted() {
    let mut hand = resumed();
    hand.watch_ends(compacted());
    hand.answer(Ok(page(20, &[("k1", 15)], false)));
    let listing = hand.mirror.next(hand.now);
    assert_eq!(listing, Some(MirrorEvent::Listing { revision: 20, reason: ListReason::Compacted }));
    assert_eq!(hand.mirror.checkpoint(), None, "the fold is a mix");
    assert_eq!(hand.told(), "+k1 !20");
    assert_eq!(hand.mirror.checkpoint().map(|at| at.to_string()), Some(format!("21@{CLUSTER:x}")));
}

#[test]
fn a_checkpoint_is_of_the_store_that_was_taken_and_not_of_the_one_that_waits() {
    let mut hand = resumed();
    let before = hand.mirror.checkpoint();
    hand.watch_ends(CloseReason::StoreChanged { before: CLUSTER, after: 8 });
    assert_eq!((hand.mirror.checkpoint(), hand.mirror.synced_revision()), (before, Some(9)));
    hand.answer(Ok(etcd_watch_core::Page { cluster_id: 8, ..page(3, &[("k1", 2)], false) }));
    assert_eq!((hand.mirror.checkpoint(), hand.mirror.synced_revision()), (before, Some(9)));
    assert_eq!(hand.told(), "=3 +k1 !3");
    assert_eq!(hand.mirror.checkpoint().map(|at| at.to_string()).as_deref(), Some("4@8"));
}
