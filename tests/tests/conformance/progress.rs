//! Progress: periodic and manual, on quiet keys, behind a backlog, after a restart.

use std::time::Duration;

use etcd_watch_client::KeyRange;

use crate::{
    observer::Ask,
    world::{Backend, Setup, World, quick, stats},
};

const INTERVAL: Duration = Duration::from_millis(200);

fn often() -> Setup {
    Setup { progress_interval: Some(INTERVAL), ..Setup::default() }
}

pub(crate) async fn periodic_progress_comes_on_quiet_keys_if_asked_for(backend: Backend) {
    let world = World::with(backend, often()).await;
    let client = world.client();
    let mut quiet = Ask::key("quiet").with(|request| request.progress_notify(true)).open(&client);
    let mut unasked = Ask::key("quiet").open(&client);
    quiet.created(&world).await;
    unasked.created(&world).await;
    for _ in 0..2 {
        let revision = world.put_many("busy/", 10, b"v").await;
        quiet.progress_to(revision).await;
        assert_eq!(quiet.watch.resume_revision(), Some(quiet.progress + 1));
    }
    assert_eq!(quiet.events(), 0);
    let last = world.put("quiet", "v").await;
    quiet.check_through(&world, last).await;
    unasked.check_through(&world, last).await;
    assert_eq!(unasked.progress, 0, "progress comes to those who asked");
}

pub(crate) async fn manual_progress_is_believed_where_it_can_be(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut quiet = Ask::key("quiet").open(&client);
    let mut busy = Ask::prefix("busy/").from(1).open(&client);
    quiet.created(&world).await;
    let revision = world.put_many("busy/", 10, b"v").await;
    busy.through(revision).await;
    for asked in 1..4_u64 {
        quiet.watch.request_progress();
        if world.orders_progress() {
            quiet.progress_to(revision).await;
            assert_eq!(quiet.progress, revision);
            assert_eq!(client.stats().untrusted_progress, 0);
            quiet.progress = 0;
        } else {
            stats(&client, "the reply comes", |stats| stats.untrusted_progress >= asked).await;
        }
    }
    let last = world.put("quiet", "v").await;
    quiet.check_through(&world, last).await;
    let last = world.put("busy/0", "v").await;
    busy.check_through(&world, last).await;
    if !world.orders_progress() {
        assert_eq!(quiet.progress, 0, "what can't be believed isn't passed on");
    }
}

pub(crate) async fn progress_never_comes_before_the_backlog(backend: Backend) {
    let world = World::with(backend, often()).await;
    let last = world.put_many("b/", 3_500, &[b'v'; 200]).await;
    let client = world.client_with(quick().progress_interval(Some(Duration::from_millis(1))).batch_events(1));
    let mut observer = Ask::prefix("b/").from(1).with(|request| request.progress_notify(true)).open(&client);
    while observer.last < last {
        // The checker compares every progress with the events before and after it.
        observer.watch.request_progress();
        observer.step().await.expect("the watch goes on");
    }
    observer.progress_to(last).await;
    observer.check(&world, last).await;
}

pub(crate) async fn progress_goes_on_after_a_restart(backend: Backend) {
    let mut world = World::with(backend, often()).await;
    let client = world.client();
    let mut quiet = Ask::key("quiet").with(|request| request.progress_notify(true)).open(&client);
    quiet.created(&world).await;
    let revision = world.put("busy", "1").await;
    quiet.progress_to(revision).await;
    world.kill().await;
    world.restart().await;
    let revision = world.delete(KeyRange::key("busy")).await;
    quiet.progress_to(revision).await;
    let last = world.put("quiet", "v").await;
    quiet.check_through(&world, last).await;
    assert_eq!(quiet.created, 1);
}

pub(crate) async fn progress_of_a_future_watch_waits_for_its_start(backend: Backend) {
    let world = World::with(backend, often()).await;
    let client = world.client();
    let start = world.revision().await + 8;
    let mut future =
        Ask::prefix("f/").from(start).with(|request| request.progress_notify(true)).open(&client);
    future.created(&world).await;
    let mut quiet = Ask::key("quiet").with(|request| request.progress_notify(true)).open(&client);
    quiet.created(&world).await;
    for _ in 0..4 {
        world.put("f/a", "before its start").await;
    }
    // A neighbour has heard; asked by hand, the stream answers too.
    future.watch.request_progress();
    quiet.progress_to(start - 5).await;
    assert_eq!(future.watch.resume_revision(), Some(start), "nothing moves it before its start");
    for _ in 0..8 {
        world.put("f/a", "around its start").await;
    }
    let last = world.revision().await;
    future.check_through(&world, last).await;
    assert_eq!(future.events(), usize::try_from(last - start + 1).expect("few"));
}
