//! A mirror of them, with its index, and a consumer that folds it.

use std::{collections::BTreeMap, time::Instant};

use etcd_watch_testkit::{harness::EtcdVersion, proxy::Cut};
use etcd_watch_tokio::{
    Client, EventKind, ListReason, Mirror, MirrorEvent, MirrorRequest, Put, TokioRuntime,
    proto::mvccpb::KeyValue,
};

use crate::{Changing, PAGE, World, in_time, key, range, resident};

/// A value and the revision it is of.
type Held = (Box<[u8]>, i64);

/// What a consumer holds.
struct Fold {
    mirror: Mirror<TokioRuntime>,
    state: BTreeMap<Box<[u8]>, Held>,
    reasons: Vec<ListReason>,
    parts: usize,
}

impl Fold {
    fn new(client: &Client) -> Self {
        let page = usize::try_from(PAGE).expect("a few thousand");
        let request = MirrorRequest::new(range()).keep_index(true).page_keys(page);
        let mirror = client.mirror(request).expect("it is opened");
        Self { mirror, state: BTreeMap::new(), reasons: Vec::new(), parts: 0 }
    }

    async fn step(&mut self) -> Option<i64> {
        let event = in_time(self.mirror.try_next()).await.expect("it goes on").expect("it does not end");
        match &event {
            MirrorEvent::Listing { reason, .. } => self.reasons.push(reason.clone()),
            MirrorEvent::Snapshot(part) => {
                self.parts += 1;
                for key in part.deletes() {
                    assert!(self.state.remove(&key[..]).is_some(), "what is deleted was there");
                }
                for kv in part.puts() {
                    self.state.insert(kv.key[..].into(), (kv.value[..].into(), kv.mod_revision));
                }
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    let pair = (event.value().into(), event.mod_revision());
                    match event.kind() {
                        EventKind::Delete => self.state.remove(event.key()),
                        _ => self.state.insert(event.key().into(), pair),
                    };
                }
            }
            MirrorEvent::Synced { .. } => {}
            other => panic!("{other:?}"),
        }
        event.synced_revision()
    }

    /// Folds until everything up to a revision is in; the revision it is at then.
    async fn through(&mut self, revision: i64) -> i64 {
        loop {
            if let Some(at) = self.step().await.filter(|at| *at >= revision) {
                return at;
            }
        }
    }
}

async fn put(client: &Client, index: usize, value: &str) -> i64 {
    let put = client.put(Put::new(key(index), value.to_owned())).await.expect("it is put");
    put.header.expect("a header").revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_a_million_keys_through_cuts_and_compaction() {
    let world = World::filled(EtcdVersion::V3_4).await;
    let World { keys, proxy, direct, client, .. } = &world;
    let keys = *keys;

    let before = resident();
    let begun = Instant::now();
    let mut plain = Fold::new(direct);
    plain.through(1).await;
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    println!("listed and folded in {took:.1?}: {} bytes resident for each key", grown / keys);
    assert_eq!(plain.state.len(), keys);
    drop(plain);

    // Through cuts, while keys change, and what is left of the list is compacted.
    let changing = Changing::start(direct, keys);
    // About two pages.
    proxy.cut_each_after_bytes(2 << 20, Cut::Reset);
    let begun = Instant::now();
    let mut fold = Fold::new(client);
    while fold.parts < 2 {
        fold.step().await;
    }
    assert_eq!((fold.state.len() < keys / 2, fold.mirror.synced_revision()), (true, None), "there is more");
    let last = world.compact().await;
    fold.through(last).await;
    println!("listed in {:.1?} through a compaction and {} cut connections", begun.elapsed(), proxy.cuts());
    assert!(proxy.cuts() > 0);
    assert_eq!(fold.reasons, [ListReason::First, ListReason::Interrupted]);

    // What it needs next is compacted while it can't be reached.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    put(direct, 1, "missed").await;
    world.compact().await;
    let last = put(direct, 1, "after the compaction").await;
    let begun = Instant::now();
    proxy.restore();
    fold.through(last).await;
    println!("listed again in {:.1?}", begun.elapsed());
    assert_eq!(fold.reasons.last(), Some(&ListReason::Compacted));
    let lists = fold.reasons.len();

    // And the watch is cut some more.
    for _ in 0..5 {
        proxy.cut_all(Cut::Close);
        let last = put(direct, 2, "after another cut").await;
        fold.through(last).await;
    }
    assert_eq!(fold.reasons.len(), lists, "cuts alone are no reason to list again");

    let changed = changing.stop().await;
    let last = put(direct, 3, "the last").await;
    let at = fold.through(last).await;
    let begun = Instant::now();
    let mut held = fold.state.iter();
    let compare = |page: &[KeyValue]| {
        for kv in page {
            let (key, (value, revision)) = held.next().expect("there is one more");
            assert_eq!((&key[..], &value[..], *revision), (&kv.key[..], &kv.value[..], kv.mod_revision));
        }
    };
    world.stored(at, compare).await;
    assert!(held.next().is_none(), "there is not one more");
    println!("{} keys compared in {:.1?}, after {changed} changes", fold.state.len(), begun.elapsed());
}
