//! History that is gone: always reported, never a gap; and the next revision is kept out of its way.

use std::time::Duration;

use etcd_watch_client::{CloseReason, Overflow};
use etcd_watch_testkit::proxy::Cut;

use crate::{
    observer::{Ask, Observer},
    world::{Backend, Setup, World, quick, stats},
};

pub(crate) async fn a_start_that_is_compacted_is_reported(backend: Backend) {
    let world = World::start(backend).await;
    let revision = world.put_many("k/", 30, b"v").await;
    let compacted = revision - 10;
    world.compact(compacted).await;
    let client = world.client();
    for start in [1, 2, compacted - 1] {
        let mut observer = Ask::prefix("k/").from(start).open(&client);
        let reason = observer.end().await;
        assert_eq!(reason, CloseReason::Compacted { compact_revision: compacted, next_revision: start });
        assert_eq!(observer.events(), 0);
    }
    let mut next = Ask::prefix("k/").from(compacted + 1).open(&client);
    let mut future = Ask::prefix("k/").from(revision + 1).open(&client);
    let last = world.put("k/0", "after").await;
    next.check_through(&world, last).await;
    future.check_through(&world, last).await;
    world.watchers(2).await;
}

pub(crate) async fn a_compaction_while_disconnected_is_reported(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut seen = Ask::prefix("k/").from(1).open(&client);
    let mut quiet = Ask::prefix("quiet/").open(&client);
    quiet.created(&world).await;
    let revision = world.put_many("k/", 10, b"v").await;
    seen.through(revision).await;
    world.disconnect();
    let compacted = world.put_many("k/", 10, b"v").await;
    world.compact(compacted).await;
    world.reconnect();
    let reason = seen.end().await;
    assert_eq!(
        reason,
        CloseReason::Compacted { compact_revision: compacted, next_revision: revision + 1 },
        "nothing was skipped"
    );
    seen.check(&world, revision).await;
    // It had no event, but where it would have gone on is gone as well.
    assert!(matches!(quiet.end().await, CloseReason::Compacted { .. }));
}

pub(crate) async fn a_compaction_under_a_synced_watch_disturbs_nothing(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observer = Ask::prefix("k/").from(1).open(&client);
    for _ in 0..5 {
        let revision = world.put_many("k/", 20, b"v").await;
        observer.through(revision).await;
        world.compact(revision).await;
        // The next revision after the compaction is there.
        world.proxy.cut_all(Cut::Reset);
    }
    let last = world.put("k/0", "after").await;
    observer.check_through(&world, last).await;
}

pub(crate) async fn a_compaction_while_a_slow_consumer_lags_is_reported(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let lags =
        |request: etcd_watch_client::WatchRequest| request.overflow(Overflow::Replay).buffer_bytes(64 << 10);
    let mut slow = Ask::prefix("k/").from(1).with(lags).open(&client);
    slow.created(&world).await;
    let mut swift = Ask::prefix("k/").from(1).open(&client);
    let mut last = 0;
    for _ in 0..10 {
        last = world.put_many("k/", 50, &[b'v'; 1_000]).await;
        swift.through(last).await;
    }
    stats(&client, "the buffer is full", |stats| stats.overflows > 0).await;
    world.compact(last).await;
    let CloseReason::Compacted { compact_revision, next_revision } = slow.end().await else {
        panic!("it is the compaction that ends it")
    };
    assert_eq!(compact_revision, last);
    assert!(slow.events() > 0 && next_revision <= last);
    slow.check(&world, next_revision - 1).await;
    // The neighbour never noticed.
    let last = world.put("k/0", "after").await;
    swift.check_through(&world, last).await;
}

/// A quiet watch on a busy store resumes past the compaction, since progress keeps its resume point fresh.
pub(crate) async fn a_quiet_watch_stays_ahead_of_compaction(backend: Backend) {
    let interval = Duration::from_millis(200);
    let setup = Setup { progress_interval: Some(interval), ..Setup::default() };
    let world = World::with(backend, setup).await;
    let client = world.client_with(quick().progress_interval(Some(interval)));
    let mut observers: Vec<Observer> =
        [Ask::key("quiet").from(1), Ask::key("quiet")].map(|ask| ask.open(&client)).into();
    for observer in &mut observers {
        observer.created(&world).await;
    }
    let revision = world.put_many("busy/", 50, b"v").await;
    // How another consumer sees that everyone has been told.
    let mut told =
        Ask::key("quiet").from(revision + 1).with(|request| request.progress_notify(true)).open(&client);
    let resumes = world.put("busy/0", "again").await;
    told.progress_to(resumes).await;
    let second = told.progress;
    world.put("busy/0", "and again").await;
    told.progress_to(second + 1).await;
    // Nobody asks for progress here, and yet they know: the next compaction doesn't reach them.
    world.compact(resumes).await;
    world.disconnect();
    stats(&client, "the client notices", |stats| stats.reconnects > 0).await;
    world.reconnect();
    let last = world.put("quiet", "at last").await;
    for observer in &mut observers {
        observer.check_through(&world, last).await;
        assert_eq!(observer.events(), 1);
    }
}
