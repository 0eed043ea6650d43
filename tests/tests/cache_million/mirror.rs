//! A mirror of them, with its index, and a consumer that folds it.

use std::time::Instant;

use etcd_watch_testkit::{folding::Folding, harness::EtcdVersion, proxy::Cut};
use etcd_watch_tokio::{Client, ListReason, MirrorRequest, OwnedKeyValue};

use crate::{Changing, DEADLINE, PAGE_BYTES, World, key, range, resident};

fn folding(client: &Client) -> Folding {
    Folding::open(client, MirrorRequest::new(range()).keep_index(true).page_bytes(PAGE_BYTES), DEADLINE)
}

async fn put(client: &Client, index: usize, value: &str) -> i64 {
    let put = client.put(key(index), value.to_owned()).await.expect("it is put");
    put.revision()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_of_a_million_keys_through_cuts_and_compaction() {
    let world = World::filled(EtcdVersion::V3_4).await;
    let World { keys, proxy, direct, client, .. } = &world;
    let keys = *keys;

    let before = resident();
    let begun = Instant::now();
    let mut plain = folding(direct);
    plain.through(1).await;
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    println!("listed and folded in {took:.1?}: {} bytes resident for each key", grown / keys);
    assert_eq!(plain.held.len(), keys);
    drop(plain);

    // Through cuts, while keys change, and what is left of the list is compacted.
    let changing = Changing::start(direct, keys);
    // About two pages.
    proxy.cut_each_after_bytes(2 << 20, Cut::Reset);
    let begun = Instant::now();
    let mut fold = folding(client);
    while fold.parts < 2 {
        fold.step().await;
    }
    assert_eq!((fold.held.len() < keys / 2, fold.mirror.synced_revision()), (true, None), "there is more");
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
    let mut held = fold.held.iter();
    let compare = |page: &[OwnedKeyValue]| {
        for kv in page {
            let (key, (value, revision)) = held.next().expect("there is one more");
            assert_eq!((&key[..], &value[..], *revision), (&kv.key[..], &kv.value[..], kv.mod_revision));
        }
    };
    world.stored(at, compare).await;
    assert!(held.next().is_none(), "there is not one more");
    println!("{} keys compared in {:.1?}, after {changed} changes", fold.held.len(), begun.elapsed());
}
