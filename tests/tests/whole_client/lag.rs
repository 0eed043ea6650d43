//! Members that lag: what they show is old, and what comes by them comes late and whole.

use std::time::Duration;

use etcd_watch_client::cache::CacheRequest;
use etcd_watch_client::concurrency::Session;
use etcd_watch_client::{BoxError, CallOptions, Client, CloseReason, Get, KeyRange, Put, WatchRequest};
use etcd_watch_testkit::sim::{Etcd, Fault, World};

use crate::scenarios::watch::{is_the_history, until_last};
use crate::well;

const SECOND: Duration = Duration::from_secs(1);

/// A client of one member, on a host of its own.
async fn client_of(world: &World, member: usize) -> Result<Client, BoxError> {
    let endpoint = world.etcd().endpoints().swap_remove(member);
    Ok(world.host(&format!("of-{member}")).client().endpoints([endpoint]).connect().await?)
}

/// The member that serves the only watch stream.
fn serving(etcd: &Etcd) -> usize {
    let serves = |member: &usize| etcd.with_member(*member, |model| !model.watch_streams().is_empty());
    let serving: Vec<usize> = (0..etcd.members()).filter(serves).collect();
    assert_eq!(serving.len(), 1, "{serving:?}");
    serving[0]
}

#[test]
fn members_are_about_as_far_as_each_other_while_nothing_is_wrong() {
    well(1, |world| async move {
        let etcd = world.etcd();
        let mut behind = 0;
        for _ in 0..300 {
            let revision = etcd.put("k", "v");
            world.sleep(SECOND / 1000).await;
            let revisions = (0..3).map(|member| etcd.with_member(member, |model| model.revision()));
            behind += revisions.filter(|applied| *applied < revision).count();
        }
        // Each takes 0 to 3 ms, and a millisecond has gone by.
        assert!((200..700).contains(&behind), "{behind} of 900 times");
        world.sleep(SECOND / 100).await;
        for member in 0..3 {
            etcd.with_member(member, |model| assert_eq!(model.history().len(), 300));
        }
        Ok(())
    });
}

#[test]
fn a_serializable_read_of_a_member_that_lags_is_old_and_a_linearizable_one_waits() {
    well(2, |world| async move {
        let etcd = world.etcd().clone();
        let client = client_of(&world, 1).await?;
        let before = client.put("k", "old").await?.revision();
        let lag = etcd.lag(1);
        etcd.put("k", "new");
        let old = client.get(Get::key("k").serializable(true)).await?;
        assert_eq!((old.revision(), old.first().expect("a key").value.clone()), (before, "old".into()));
        tokio::spawn(lag.lasting(4 * SECOND));
        let began = world.now();
        let new = client.get("k").await?;
        assert_eq!((new.revision(), new.first().expect("a key").value.clone()), (before + 1, "new".into()));
        assert!(world.now() - began >= 4 * SECOND, "{:?}", world.now() - began);
        let now = client.get(Get::key("k").serializable(true)).await?;
        assert_eq!(now.revision(), before + 1);
        Ok(())
    });
}

#[test]
fn a_write_by_a_member_that_lags_is_done_at_once_and_answered_late_or_not_at_all() {
    well(3, |world| async move {
        let etcd = world.etcd().clone();
        let client = client_of(&world, 1).await?;
        tokio::spawn(etcd.lag(1).lasting(4 * SECOND));
        let began = world.now();
        let put = tokio::spawn({
            let client = client.clone();
            async move { client.put("k", "v").await }
        });
        world.sleep(SECOND / 10).await;
        assert_eq!(etcd.revision(), 2, "the leader has done it");
        assert_eq!(put.await??.revision(), 2);
        assert!(world.now() - began >= 4 * SECOND, "{:?}", world.now() - began);
        let began = world.now();
        tokio::spawn(etcd.lag(1).lasting(8 * SECOND));
        let error = client.put("k", "w").await.expect_err("etcd waits for 7 s");
        assert!(error.to_string().contains("request timed out") && error.may_have_executed(), "{error}");
        let took = world.now() - began;
        assert!((7 * SECOND..15 * SECOND / 2).contains(&took), "{took:?}");
        assert_eq!(etcd.revision(), 3, "the leader has done that too, and once");
        Ok(())
    });
}

#[test]
fn a_watch_on_a_member_that_lags_is_told_everything_late() {
    well(4, |world| async move {
        let etcd = world.etcd().clone();
        let client = client_of(&world, 1).await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        etcd.put("k", "0");
        assert_eq!(watch.try_next().await?.expect("it goes on").len(), 1);
        let lag = etcd.lag(1);
        let began = world.now();
        tokio::spawn(lag.lasting(30 * SECOND));
        for value in 1..10_u8 {
            etcd.put("k", vec![value]);
            world.sleep(SECOND).await;
        }
        let mut values = Vec::new();
        while values.len() < 9 {
            let response = watch.try_next().await?.expect("it goes on");
            assert!(world.now() >= began + 30 * SECOND);
            values.extend(response.events().map(|event| event.value()[0]));
        }
        assert_eq!(values, (1..10).collect::<Vec<u8>>());
        Ok(())
    });
}

/// Makes the two members that don't serve the watch lag, lets the third one tell it more, and stops that one.
async fn fail_over(world: &World) -> Result<Fault, BoxError> {
    let etcd = world.etcd().clone();
    let first = serving(&etcd);
    for member in (0..3).filter(|member| *member != first) {
        tokio::spawn(etcd.lag(member).lasting(15 * SECOND));
    }
    for value in 0..10_u8 {
        etcd.put("k", vec![value]);
        world.sleep(SECOND / 20).await;
    }
    let stopped = etcd.stop(first);
    world.sleep(SECOND).await;
    let second = serving(&etcd);
    let behind = etcd.revision() - etcd.with_member(second, |model| model.revision());
    assert!(second != first && behind == 10, "it was at {first}, and is at {second}, {behind} behind");
    Ok(stopped)
}

/// 15 s is more than the deadline of 10 s after which another member is tried; that one lags, too.
#[test]
fn a_watch_that_comes_from_an_up_to_date_member_to_those_that_lag_gets_everything_once() {
    for seed in 0..10 {
        well(seed, |world| async move {
            let client = world.client().connect().await?;
            let request = WatchRequest::new(KeyRange::key("k")).start_revision(1).prev_kv(true);
            let watching = tokio::spawn(until_last(client.watch(request)?));
            world.etcd().put("k", "first");
            world.sleep(SECOND).await;
            let _stopped = fail_over(&world).await?;
            let last = world.etcd().put("k", "last");
            let received = watching.await??;
            assert!(world.now() >= 15 * SECOND, "{:?}", world.now());
            is_the_history(world.etcd(), &KeyRange::key("k"), last, &received)
        });
    }
}

#[test]
fn a_watch_believes_that_the_store_went_back_when_two_members_have_lagged_for_their_time() {
    well(6, |world| async move {
        let client = world.client().connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        let etcd = world.etcd();
        etcd.put("k", "v");
        watch.try_next().await?.expect("it goes on");
        let first = serving(etcd);
        let _lag: Vec<Fault> =
            (0..3).filter(|member| *member != first).map(|member| etcd.lag(member)).collect();
        etcd.put("k", "w");
        watch.try_next().await?.expect("it goes on");
        let _stopped = etcd.stop(first);
        let began = world.now();
        let ended = watch.try_next().await.expect_err("nobody can show the store as it was");
        assert!(matches!(ended.reason(), CloseReason::StoreRegressed { .. }), "{ended}");
        let took = world.now() - began;
        assert!((20 * SECOND..25 * SECOND).contains(&took), "{took:?}");
        Ok(())
    });
}

#[test]
fn a_mirror_that_comes_to_members_that_lag_never_goes_back() {
    for seed in 0..10 {
        well(seed, |world| async move {
            let client = world.client().connect().await?;
            world.etcd().put("k", "first");
            let mut mirror = client.mirror(KeyRange::key("k"))?;
            let following = tokio::spawn(async move {
                let (mut values, mut revisions) = (Vec::new(), Vec::new());
                while values.last().is_none_or(|value| value != b"last") {
                    let event = mirror.try_next().await?.ok_or("it has ended")?;
                    let updates = event.updates().filter_map(|(_, value)| value.map(<[u8]>::to_vec));
                    values.extend(updates);
                    revisions.extend(mirror.synced_revision());
                }
                Ok::<_, BoxError>((values, revisions))
            });
            world.sleep(SECOND).await;
            let _stopped = fail_over(&world).await?;
            world.etcd().put("k", "last");
            let (values, revisions) = following.await??;
            assert!(world.now() >= 15 * SECOND, "{:?}", world.now());
            let written = (0..10_u8).map(|value| vec![value]);
            let expected: Vec<Vec<u8>> =
                [b"first".to_vec()].into_iter().chain(written).chain([b"last".to_vec()]).collect();
            assert_eq!(values, expected);
            assert!(revisions.is_sorted(), "{revisions:?}");
            Ok(())
        });
    }
}

#[test]
fn a_cache_on_a_member_that_lags_waits_for_what_it_is_asked_for() {
    well(8, |world| async move {
        let etcd = world.etcd().clone();
        let (client, writer) = (client_of(&world, 1).await?, client_of(&world, 0).await?);
        let cache = client.cache(CacheRequest::new(KeyRange::key("k")))?;
        writer.put("k", "old").await?;
        cache.consistent().await?;
        for wait_for_revision in [true, false] {
            let lag = etcd.lag(1);
            let revision = writer.put("k", world.now().as_secs().to_string()).await?.revision();
            world.sleep(SECOND).await;
            assert!(cache.snapshot().revision() < revision, "the member can't have told");
            tokio::spawn(lag.lasting(6 * SECOND));
            let began = world.now();
            let snapshot =
                if wait_for_revision { cache.wait_for(revision).await? } else { cache.consistent().await? };
            assert!(snapshot.revision() >= revision);
            assert_eq!(snapshot.get("k").expect("a key").mod_revision(), revision);
            assert!(world.now() - began >= 6 * SECOND, "{:?}", world.now() - began);
        }
        Ok(())
    });
}

/// The read that says how far the cache has to go may be answered by another member than its watch's.
#[test]
fn a_consistent_read_of_a_cache_finds_every_write_whatever_member_lags() {
    for seed in 0..10 {
        well(seed, |world| async move {
            let etcd = world.etcd().clone();
            let client = world.client().connect().await?;
            let cache = client.cache(CacheRequest::new(KeyRange::key("k")))?;
            cache.ready().await?;
            let mut rng = world.rng();
            for _ in 0..20 {
                tokio::spawn(etcd.lag(rng.usize(..3)).lasting(Duration::from_millis(rng.u64(..5000))));
                let revision = etcd.put("k", "v");
                let snapshot = cache.consistent().await?;
                assert!(snapshot.revision() >= revision, "{} of {revision}", snapshot.revision());
            }
            Ok(())
        });
    }
}

#[test]
fn a_member_that_was_stopped_has_everything_when_it_starts_unless_it_lags() {
    well(9, |world| async move {
        let etcd = world.etcd();
        let at = |member| etcd.with_member(member, |model| model.revision());
        let stopped = [etcd.stop(1), etcd.stop(1), etcd.stop(2)];
        let lag = etcd.lag(2);
        let revision = etcd.put("k", "v");
        world.sleep(SECOND).await;
        assert_eq!([at(0), at(1), at(2)], [revision, 1, 1]);
        let [first, second, other] = stopped;
        drop((first, other));
        assert_eq!([at(0), at(1), at(2)], [revision, 1, 1], "one is stopped yet, and the other lags");
        drop(second);
        assert_eq!([at(0), at(1), at(2)], [revision, revision, 1]);
        drop(lag);
        assert_eq!(at(2), revision);
        Ok(())
    });
}

#[test]
fn a_restored_store_is_that_of_all_members_whatever_they_had_yet_to_apply() {
    well(10, |world| async move {
        let etcd = world.etcd();
        let backup = etcd.backup();
        let lag = etcd.lag(1);
        for _ in 0..5 {
            etcd.put("k", "lost");
        }
        etcd.restore(&backup).await;
        drop(lag);
        etcd.put("k", "kept");
        world.sleep(SECOND).await;
        let told = |etcd: &Etcd, member| {
            etcd.with_member(member, |model| (model.config().cluster_id, model.history().to_vec()))
        };
        let store = etcd.look(|model| (model.config().cluster_id, model.history().to_vec()));
        assert_eq!(store.1.len(), 1);
        (0..3).for_each(|member| assert_eq!(told(etcd, member), store));
        Ok(())
    });
}

#[test]
fn history_is_there_on_a_member_until_it_has_applied_the_compaction() {
    well(11, |world| async move {
        let etcd = world.etcd().clone();
        let client = client_of(&world, 1).await?;
        for _ in 0..10 {
            etcd.put("k", "v");
        }
        world.sleep(SECOND).await;
        let lag = etcd.lag(1);
        etcd.compact(9)?;
        let from_start = || client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(2));
        assert_eq!(from_start()?.try_next().await?.expect("it goes on").len(), 10);
        drop(lag);
        let ended = from_start()?.try_next().await.expect_err("revision 2 is compacted");
        assert!(matches!(ended.reason(), CloseReason::Compacted { .. }), "{ended}");
        Ok(())
    });
}

/// A renewal goes to the leader: the member needn't have applied anything.
#[test]
fn a_session_lives_on_a_member_that_lags_and_its_keys_stay_there_when_it_is_over() {
    well(12, |world| async move {
        let etcd = world.etcd().clone();
        let client = client_of(&world, 1).await?;
        let session = Session::builder(&client).ttl(5 * SECOND).open().await?;
        client.put_with(Put::new("k", "v").lease(session.id())).await?;
        let lag = etcd.lag(1);
        world.sleep(60 * SECOND).await;
        assert!(!session.is_lost());
        world.host("of-1").suspend().lasting(20 * SECOND).await;
        world.sleep(SECOND).await;
        assert!(session.is_lost());
        assert!(etcd.look(|model| model.lease_leases().leases.is_empty()));
        let old = client.get(Get::key("k").serializable(true)).await?;
        assert_eq!(old.first().expect("its end is not applied").lease, session.id());
        drop(lag);
        assert!(client.get(Get::key("k").serializable(true)).await?.first().is_none());
        Ok(())
    });
}

#[test]
fn members_have_names_and_ids_of_their_own_and_one_of_them_leads() {
    well(13, |world| async move {
        let etcd = world.etcd().clone();
        let (first, second) = (client_of(&world, 0).await?, client_of(&world, 1).await?);
        let list = second.cluster().members().await?;
        let urls: Vec<_> = list.members().iter().map(|member| member.client_urls()[0].clone()).collect();
        assert_eq!(urls, etcd.endpoints());
        let lag = etcd.lag(1);
        etcd.put("k", "v");
        world.sleep(SECOND).await;
        let [url, other_url] = ["http://etcd-0:2379", "http://etcd-1:2379"];
        let leads = first.maintenance().status(url).await?;
        let lags = second.maintenance().status(other_url).await?;
        assert!(leads.is_leader() && !lags.is_leader(), "{leads:?} {lags:?}");
        assert_eq!(lags.raft_index(), leads.raft_applied_index());
        assert!(lags.raft_applied_index() < lags.raft_index(), "{lags:?}");
        drop(lag);
        let _stopped = etcd.stop(0);
        let status = second.maintenance().status(other_url).await?;
        assert!(status.is_leader() && status.raft_term() > leads.raft_term(), "{status:?}");
        Ok(())
    });
}

#[test]
fn a_read_that_the_only_member_can_not_serve_in_time_ends_with_its_time() {
    well(14, |world| async move {
        let client: Client = client_of(&world, 1).await?;
        let _lag = world.etcd().lag(1);
        world.etcd().put("k", "v");
        let began = world.now();
        let once = client.with_options(CallOptions::new().timeout(2 * SECOND))?;
        once.get("k").await.expect_err("it lags");
        let took = world.now() - began;
        assert!((2 * SECOND..5 * SECOND / 2).contains(&took), "{took:?}");
        Ok(())
    });
}
