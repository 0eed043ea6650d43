//! What happens to one watch is no business of another's.

use etcd_watch_client::{CloseReason, Put, Txn};
use etcd_watch_testkit::{model::Quirks, proxy::Cut};

use crate::{
    observer::{Ask, Observer},
    world::{Backend, World},
};

pub(crate) async fn one_watch_that_ends_leaves_the_rest_alone(backend: Backend) {
    let world = World::start(backend).await;
    let old = world.put_many("i/", 20, b"v").await;
    world.compact(old).await;
    let client = world.client();
    // Every tenth can't be served; all are queued before the first is sent.
    let mut observers: Vec<Observer> = (0..60)
        .map(|index| Ask::prefix("i/").from(if index % 10 == 5 { 2 } else { old + 1 }).open(&client))
        .collect();
    let last = world.put("i/0", "after").await;
    for (index, observer) in observers.iter_mut().enumerate() {
        if index % 10 == 5 {
            let reason = observer.end().await;
            assert_eq!(reason, CloseReason::Compacted { compact_revision: old, next_revision: 2 });
        } else {
            observer.check_through(&world, last).await;
        }
    }
    world.proxy.cut_all(Cut::Reset);
    let last = world.put("i/1", "after the cut").await;
    for (index, observer) in observers.iter_mut().enumerate() {
        if index % 10 != 5 {
            observer.check_through(&world, last).await;
        }
    }
    world.watchers(54).await;
}

/// For the model: a real server refuses creates only with users on.
pub(crate) async fn a_refused_create_among_queued_ones_ends_only_its_own_watch(backend: Backend) {
    const REASON: &str = "etcdserver: permission denied";
    let world = World::start(backend).await;
    world.model().with_model(|model| model.deny_watches("secret/", "secret0", REASON));
    let client = world.client();
    let mut observers: Vec<Observer> = (0..40)
        .map(|index| if index % 4 == 2 { Ask::prefix("secret/") } else { Ask::prefix("public/") })
        .map(|ask| ask.from(1).open(&client))
        .collect();
    for observer in observers.iter_mut().skip(2).step_by(4) {
        let reason = observer.end().await;
        assert_eq!(reason, CloseReason::PermissionDenied { message: REASON.into() });
    }
    let last = world.put("public/a", "v").await;
    for (index, observer) in observers.iter_mut().enumerate() {
        if index % 4 != 2 {
            observer.through(last).await;
        }
    }
    // The history is read by a watch, too.
    world.model().with_model(|model| model.allow_watches());
    for (index, observer) in observers.iter_mut().enumerate() {
        if index % 4 != 2 {
            observer.check(&world, last).await;
        }
    }
    world.watchers(30).await;
    assert_eq!(client.stats().misbehaved, 0);
}

/// For the model: no member does it.
pub(crate) async fn creates_through_a_proxy_that_reorders_replies_are_told_apart(backend: Backend) {
    let world = World::start(backend).await;
    world.model().with_model(|model| model.config_mut().quirks = Quirks::grpc_proxy());
    let client = world.client();
    let keys: Vec<String> = (0..50).map(|index| format!("k/{index}")).collect();
    let mut observers: Vec<Observer> = keys.iter().map(|key| Ask::key(key).from(1).open(&client)).collect();
    let txn = || keys.iter().fold(Txn::new(), |txn, key| txn.and_then(Put::new(key.clone(), key.clone())));
    for cut in [false, true] {
        if cut {
            world.proxy.cut_all(Cut::Reset);
        }
        let last = world.txn(txn()).await;
        for observer in &mut observers {
            observer.check_through(&world, last).await;
        }
    }
    world.watchers(50).await;
    assert_eq!(client.stats().misbehaved, 0);
}

/// For the model: a member does it to users who lose a permission.
pub(crate) async fn a_watch_the_server_cancels_says_why(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut ended = Ask::prefix("a/").from(1).open(&client);
    ended.created(&world).await;
    let mut stays = Ask::prefix("a/").from(1).open(&client);
    let revision = world.put("a/1", "v").await;
    ended.check_through(&world, revision).await;
    stays.check_through(&world, revision).await;
    let cancelled = world.model().with_model(|model| {
        let stream = model.watch_streams()[0];
        // The client's ids ascend.
        let first = model.watch_ids(stream)[0];
        model.cancel_watch(stream, first, "no more")
    });
    assert!(cancelled);
    assert_eq!(ended.end().await, CloseReason::CancelledByServer { message: "no more".into() });
    let last = world.put("a/2", "v").await;
    stays.check_through(&world, last).await;
}
