//! Who leads, and who sees it.

use etcd_watch_client::{
    Put, Txn,
    concurrency::{Election, Leadership, Observe, Session, leader, observe},
};
use tokio::task::JoinHandle;

use crate::world::{SHORT, World, name, opened, session, within};

fn election(session: &Session) -> Election {
    Election::new(session, name("e"))
}

fn campaigning(session: &Session, value: &'static str) -> JoinHandle<Leadership> {
    let election = election(session);
    tokio::spawn(async move { election.campaign(value).await.expect("it is elected") })
}

async fn seen(observer: &mut Observe) -> String {
    let leader = within(observer.next()).await.expect("it goes on").expect("it goes well");
    String::from_utf8_lossy(&leader.value).into_owned()
}

async fn all_seen(observer: &mut Observe, last: &str) -> Vec<String> {
    let mut values = Vec::new();
    while values.last().is_none_or(|value| value != last) {
        values.push(seen(observer).await);
    }
    values
}

pub(crate) async fn one_leads_and_everybody_sees_every_value(world: World) {
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    assert_eq!(within(leader(&world.direct, &name("e"))).await, Ok(None));
    let mut early = observe(&world.direct, &name("e"));

    let first = within(election(&one).campaign("a1")).await.expect("it is elected");
    assert_eq!(first.key(), &format!("e/{:x}", one.id()));
    let second = campaigning(&two, "b1");
    world.queued("e", 2).await;
    let leader = within(election(&two).leader()).await.expect("it is told").expect("there is one");
    assert_eq!((&leader.key, &leader.value[..]), (first.key(), &b"a1"[..]));
    assert_eq!(leader.create_revision, first.fencing_token());
    let mut late = election(&two).observe();
    assert_eq!((seen(&mut early).await, seen(&mut late).await), ("a1".into(), "a1".into()));

    within(first.proclaim("a2")).await.expect("it is the leader");
    within(first.proclaim("a3")).await.expect("it is the leader");
    let fenced = Txn::new().when(first.is_owner()).and_then(Put::new("fenced", "a"));
    assert!(world.direct.txn(fenced.clone()).await.expect("it is made").succeeded());
    assert!(!second.is_finished());
    let token = first.fencing_token();
    within(first.resign()).await.expect("it resigns");
    assert!(!world.direct.txn(fenced).await.expect("it is made").succeeded());
    let second = within(second).await.expect("no panic");
    assert!(second.fencing_token() > token && second.is_held());
    within(second.proclaim("b2")).await.expect("it is the leader");
    for observer in [&mut early, &mut late] {
        assert_eq!(all_seen(observer, "b2").await, ["a2", "a3", "b1", "b2"]);
    }

    // Nobody, then the first again.
    drop(second);
    world.queued("e", 0).await;
    let again = within(election(&one).campaign("a4")).await.expect("it is elected");
    assert_eq!((seen(&mut early).await, seen(&mut late).await), ("a4".into(), "a4".into()));
    world.delete(again.key().clone()).await;
    within(again.lost()).await;
    within(again.proclaim("a5")).await.expect_err("it is lost");
}

pub(crate) async fn the_next_candidate_follows_a_leader_that_is_lost(world: World) {
    let remote = world.remote().await;
    let one = opened(Session::builder(&remote.client).ttl(SHORT)).await;
    let (two, three) = (session(&world.direct).await, session(&world.client()).await);
    let first = within(election(&one).campaign("a")).await.expect("it is elected");
    let second = campaigning(&two, "b");
    world.queued("e", 2).await;
    let third = campaigning(&three, "c");
    world.queued("e", 3).await;
    let mut observer = election(&three).observe();
    assert_eq!(seen(&mut observer).await, "a");

    // Cut off for good.
    remote.proxy.black_hole();
    let second = within(second).await.expect("no panic");
    assert!(!first.is_held());
    within(first.proclaim("a, still?")).await.expect_err("it is lost");
    // Closed.
    within(two.close()).await.expect("it closes");
    let third = within(third).await.expect("no panic");
    assert!(!second.is_held() && third.is_held());
    assert_eq!(all_seen(&mut observer, "c").await, ["b", "c"]);
}

pub(crate) async fn observers_miss_nothing_through_cuts_and_catch_up_after_compaction(world: World) {
    let remote = world.remote().await;
    let (one, two) = (session(&world.direct).await, session(&world.client()).await);
    let first = within(election(&one).campaign("a1")).await.expect("it is elected");
    let mut observer = observe(&remote.client, &name("e"));
    assert_eq!(seen(&mut observer).await, "a1");

    remote.disconnect();
    within(first.proclaim("a2")).await.expect("it is the leader");
    within(first.resign()).await.expect("it resigns");
    let second = within(election(&two).campaign("b1")).await.expect("it is elected");
    within(second.resign()).await.expect("it resigns");
    let first = within(election(&one).campaign("a3")).await.expect("it is elected");
    remote.reconnect();
    assert_eq!(all_seen(&mut observer, "a3").await, ["a2", "b1", "a3"]);

    // What history doesn't tell any more can't be seen, but the state it led to is.
    remote.disconnect();
    for value in ["a4", "a5", "a6"] {
        within(first.proclaim(value)).await.expect("it is the leader");
    }
    world.compact().await;
    remote.reconnect();
    assert_eq!(seen(&mut observer).await, "a6");
    within(first.proclaim("a7")).await.expect("it is the leader");
    assert_eq!(seen(&mut observer).await, "a7");
}

pub(crate) async fn a_campaign_given_up_is_withdrawn(world: World) {
    let (one, two, three) =
        (session(&world.direct).await, session(&world.client()).await, session(&world.client()).await);
    let first = within(election(&one).campaign("a")).await.expect("it is elected");
    let second = campaigning(&two, "b");
    world.queued("e", 2).await;
    let third = campaigning(&three, "c");
    world.queued("e", 3).await;
    second.abort();
    world.queued("e", 2).await;
    within(first.resign()).await.expect("it resigns");
    let third = within(third).await.expect("no panic");
    assert!(third.is_held());
    assert_eq!(world.keys("e").await.len(), 1);
}

pub(crate) async fn a_leadership_goes_over_with_its_lease(world: World) {
    let one = session(&world.direct).await;
    let first = within(election(&one).campaign("a")).await.expect("it is elected");
    let mut observer = election(&one).observe();
    assert_eq!(seen(&mut observer).await, "a");
    let heir = opened(Session::builder(&world.client()).lease(one.orphan())).await;
    assert!(!first.is_held());
    let second = within(election(&heir).campaign("b")).await.expect("its key is there already");
    assert_eq!(second.fencing_token(), first.fencing_token());
    assert_eq!(seen(&mut observer).await, "b");
    within(second.resign()).await.expect("it resigns");
    within(first.resign()).await.expect_err("it was lost");
}
