//! A cache of them.

use std::time::Instant;

use etcd_watch_testkit::{harness::EtcdVersion, proxy::Cut};
use etcd_watch_tokio::cache::{Cache, CacheEvent, CacheRequest, SubscribeRequest};

use crate::{Changing, PAGE_BYTES, World, in_time, key, range, resident};

/// Compares with the store at the snapshot's revision.
async fn is_the_store(cache: &Cache, world: &World) -> usize {
    let snapshot = in_time(cache.consistent()).await.expect("it goes on");
    let mut held = snapshot.iter();
    let compare = |page: &[etcd_watch_tokio::OwnedKeyValue]| {
        for kv in page {
            let ours = held.next().expect("there is one more");
            assert_eq!((ours.key(), ours.value()), (&kv.key[..], &kv.value[..]));
            let told = (ours.mod_revision(), ours.create_revision(), ours.version(), ours.lease());
            assert_eq!(told, (kv.mod_revision, kv.create_revision, kv.version, kv.lease), "{ours:?}");
        }
    };
    world.stored(snapshot.revision(), compare).await;
    assert!(held.next().is_none(), "there is not one more");
    snapshot.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_keys_through_cuts_and_compaction() {
    let world = World::filled(EtcdVersion::V3_5).await;
    let World { keys, proxy, direct, client, .. } = &world;
    let keys = *keys;

    // The list alone, for its time and for what a key costs.
    let before = resident();
    let begun = Instant::now();
    let plain = direct.cache(CacheRequest::new(range())).expect("it is made");
    let listed = in_time(plain.ready()).await.expect("it is listed");
    let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
    let (per_key, own) = (grown / keys, listed.bytes() / keys);
    println!(
        "listed in {took:.1?}: {per_key} bytes resident for each key, of which {own} are its own and its value's"
    );
    assert_eq!(listed.len(), keys);
    assert!(per_key < own + 400, "a key costs {per_key} bytes");
    drop((plain, listed));

    // The same through cuts, while keys change, and what is left of the list is compacted.
    let changing = Changing::start(direct, keys);
    world.slow_down();
    let (begun, received) = (Instant::now(), proxy.bytes_downstream());
    let cache = client.cache(CacheRequest::new(range()).page_bytes(PAGE_BYTES)).expect("it is made");
    let mut changes = cache.subscribe(SubscribeRequest::new(range()).initial_state(true)).expect("valid");
    world.has_begun(received).await;
    world.compact().await;
    proxy.restore();
    // About two pages.
    proxy.cut_each_after_bytes(2 << 20, Cut::Reset);
    in_time(cache.ready()).await.expect("it is listed");
    println!("listed in {:.1?} through a compaction and {} cut connections", begun.elapsed(), proxy.cuts());
    assert!(proxy.cuts() > 0);
    assert_eq!(cache.stats().lists, 2);
    let event = in_time(changes.try_next()).await.expect("it goes on").expect("an event");
    let CacheEvent::Initial(first) = event else { panic!("{event:?}") };
    proxy.restore();

    // What it needs next is compacted while it can't be reached.
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    direct.put(key(1), "missed").await.expect("it is put");
    let last = world.compact().await;
    assert!(cache.snapshot().revision() < last);
    direct.put(key(1), "after the compaction").await.expect("it is put");
    let lists = cache.stats().lists;
    let begun = Instant::now();
    proxy.restore();
    let now = in_time(cache.wait_for(last)).await.expect("it goes on");
    println!("listed again in {:.1?}", begun.elapsed());
    assert!(cache.stats().lists > lists && now.revision() >= last);

    // And the watch is cut some more.
    for _ in 0..5 {
        proxy.cut_all(Cut::Close);
        in_time(cache.consistent()).await.expect("it goes on");
    }
    let changed = changing.stop().await;
    let begun = Instant::now();
    let compared = is_the_store(&cache, &world).await;
    println!(
        "{compared} keys compared in {:.1?}, after {changed} changes; {:?}",
        begun.elapsed(),
        cache.stats()
    );

    // A subscriber that took nothing all the while is told what it missed, and no more.
    let end = in_time(cache.consistent()).await.expect("it goes on");
    let (mut seen, mut told) = (first.snapshot().clone(), 0);
    while !seen.changes_since(&end).is_empty() {
        let event = in_time(changes.try_next()).await.expect("it goes on").expect("an event");
        let (CacheEvent::Changes(changes) | CacheEvent::Resynced { changes, .. }) = event else {
            panic!("{event:?}")
        };
        told += changes.changes().len();
        seen = changes.snapshot().clone();
    }
    println!("{told} changes told to a slow subscriber");
    assert!(told > 0 && told <= changed + 1);
}
