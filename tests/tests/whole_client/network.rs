//! What the faults of the network and of the members do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use etcd_watch_client::{CallOptions, CloseReason, KeyRange, ResponseKind, Runtime as _, WatchRequest};
use etcd_watch_testkit::sim::{Direction, Server, Sim};

use crate::well;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_partition_holds_everything_back_and_lets_it_through_afterwards() {
    well(1, |world| async move {
        let client = world.client().connect().await?;
        let host = world.host("client");
        for member in 0..3 {
            tokio::spawn(world.link(&host, member).partition().lasting(3 * SECOND));
        }
        let began = world.now();
        client.put("k", "v").await?;
        assert!(world.now() >= began + 3 * SECOND, "{:?}", world.now());
        // One way is enough.
        for direction in [Direction::ToHost, Direction::ToMember] {
            for member in 0..3 {
                tokio::spawn(world.link(&host, member).hold(direction).lasting(2 * SECOND));
            }
            let began = world.now();
            client.put("k", "v").await?;
            assert!(world.now() >= began + 2 * SECOND, "{direction:?}");
        }
        Ok(())
    });
}

#[test]
fn members_without_a_leader_are_not_connected_to_again_for_each_attempt() {
    let report = well(1, |world| async move {
        let client = world.client().connect().await?;
        let leaderless = world.etcd().lose_leader();
        let error = client.put("k", "v").await.expect_err("there is no leader");
        assert!(world.now() > 5 * SECOND, "it tried for long: {:?}", world.now());
        assert!(error.to_string().contains("no leader"), "{error}");
        drop(leaderless);
        client.put("k", "v").await?;
        Ok(())
    });
    let connections = report.counts.connections;
    // Some thirty attempts are made, four at most on a connection.
    assert!(connections <= 12, "{connections} connections");
}

#[test]
fn the_only_member_that_is_up_is_not_connected_to_again_for_each_attempt() {
    let report = well(1, |world| async move {
        let client = world.client().connect().await?;
        let etcd = world.etcd().clone();
        let stopped = [etcd.stop(1), etcd.stop(2)];
        world.sleep(SECOND / 10).await;
        let error = client.put("k", "v").await.expect_err("two of three are down");
        assert!(error.to_string().contains("no leader"), "{error}");
        drop(stopped);
        client.put("k", "v").await?;
        Ok(())
    });
    let connections = report.counts.connections;
    assert!(connections <= 12, "{connections} connections");
}

#[test]
fn a_connection_that_waits_for_a_leader_is_used_while_other_members_hang() {
    well(1, |world| async move {
        let client = world.client().connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        client.put("k", "before").await?;
        watch.try_next().await?.expect("it goes on");
        let etcd = world.etcd().clone();
        let health = client.health();
        let connected = health.endpoint().expect("it is connected").to_string();
        let others: Vec<_> = (0..3).filter(|&member| etcd.endpoints()[member] != connected).collect();
        assert_eq!(others.len(), 2, "{connected} is a member");
        let leaderless = etcd.lose_leader();
        let host = world.host("client");
        let hanging: Vec<_> = others.iter().map(|&member| world.link(&host, member).partition()).collect();
        tokio::spawn(leaderless.lasting(SECOND));
        let began = world.now();
        client.put("k", "after").await?;
        watch.try_next().await?.expect("it goes on");
        let took = world.now() - began;
        // An attempt to connect is given five seconds.
        assert!(took < 4 * SECOND, "{took:?}");
        drop(hanging);
        Ok(())
    });
}

#[test]
fn watch_streams_go_on_over_the_connections_they_have_while_there_is_no_leader() {
    for runs_before in [false, true] {
        let report = well(1, |world| async move {
            let client = world.client().connect().await?;
            let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
            let mut took = 0;
            if runs_before {
                world.etcd().put("k", "before");
                took += watch.try_next().await?.map_or(0, |response| response.len());
            }
            let leaderless = world.etcd().lose_leader();
            world.sleep(60 * SECOND).await;
            drop(leaderless);
            world.etcd().put("k", "after");
            took += watch.try_next().await?.map_or(0, |response| response.len());
            if took == usize::from(runs_before) + 1 { Ok(()) } else { Err(format!("{took} events").into()) }
        });
        let connections = report.counts.connections;
        // Some thirty attempts are made, four at most on a connection.
        assert!(connections <= 14, "{connections} connections; runs before: {runs_before}");
    }
}

#[test]
fn connections_that_wait_for_a_leader_end_with_the_last_watch() {
    well(1, |world| async move {
        let open = Arc::new(AtomicUsize::new(0));
        let serve = |_| {
            let (etcd, open) = (world.etcd().clone(), open.clone());
            world.listen(move |socket| {
                let (serving, open) = (etcd.serve_on(socket), open.clone());
                async move {
                    open.fetch_add(1, Ordering::Relaxed);
                    serving.await;
                    open.fetch_sub(1, Ordering::Relaxed);
                }
            })
        };
        let servers: Vec<_> = (0..2).map(serve).collect();
        let client = world.client().endpoints(servers.iter().map(Server::endpoint)).connect_lazy()?;
        let leaderless = world.etcd().lose_leader();
        let watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        world.sleep(10 * SECOND).await;
        assert_eq!(open.load(Ordering::Relaxed), 2, "they are used again for each attempt");
        drop(watch);
        world.sleep(SECOND).await;
        assert_eq!(open.load(Ordering::Relaxed), 0, "nobody needs them");
        drop(leaderless);
        Ok(())
    });
}

#[test]
fn a_connection_is_cut_at_any_byte() {
    let mut done = [0; 2];
    for bytes in (1..700).step_by(9) {
        let report = Sim::new().members(1).run(bytes, |world| {
            let done = &mut done;
            async move {
                let client = world.client().connect().await?;
                let link = world.link(&world.host("client"), 0);
                link.cut_after(bytes);
                let result = client.put("k", "v").await;
                let is_there = !world.etcd().history().is_empty();
                match result {
                    Ok(_) => assert!(is_there),
                    Err(error) => assert!(error.may_have_executed() || !is_there, "{error}"),
                }
                done[usize::from(is_there)] += 1;
                client.get("k").await?;
                Ok(())
            }
        });
        report.unwrap_or_else(|failure| panic!("{failure}"));
    }
    assert!(done.iter().all(|&count| count > 0), "{done:?}");
}

#[test]
fn a_half_open_connection_is_noticed_by_its_keepalive_alone() {
    well(2, |world| async move {
        let client = world.client().connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        world.etcd().put("k", "1");
        watch.try_next().await?.expect("it goes on");
        for member in 0..3 {
            world.link(&world.host("client"), member).forget_connections();
        }
        world.etcd().put("k", "2");
        let began = world.now();
        let response = watch.try_next().await?.expect("it goes on");
        assert_eq!(response.events().next().expect("the put").value(), b"2");
        let took = world.now() - began;
        assert!((5 * SECOND..16 * SECOND).contains(&took), "{took:?}");
        Ok(())
    });
}

/// Without its version nobody knows whether the member's replies to progress requests can be believed.
#[test]
fn a_member_that_is_too_slow_to_tell_its_version_is_believed_once_it_has_told_it() {
    // One of these is after the connection is made, and before the version has come.
    for milliseconds in 1..10 {
        let report = Sim::new().members(1).run(1, |world| async move {
            let client = world.client().connect().await?;
            let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
            world.sleep(Duration::from_millis(milliseconds)).await;
            world.link(&world.host("client"), 0).hold(Direction::ToHost).lasting(5 * SECOND).await;
            let revision = world.etcd().put("elsewhere", "");
            world.sleep(SECOND).await;
            watch.request_progress();
            let told = tokio::time::timeout(5 * SECOND, watch.try_next()).await;
            let progress = told.map_err(|_| "no reply was believed")??.expect("it goes on");
            assert_eq!((progress.kind(), progress.revision()), (ResponseKind::Progress, revision));
            Ok(())
        });
        report.unwrap_or_else(|failure| panic!("after {milliseconds} ms: {failure}"));
    }
}

#[test]
fn connections_are_refused_by_links_and_by_members_that_are_stopped() {
    well(3, |world| async move {
        let etcd = world.etcd().clone();
        let refusing: Vec<_> =
            (0..3).map(|member| world.link(&world.host("client"), member).refuse()).collect();
        let error = world.client().connect().await.expect_err("all refuse");
        assert!(error.to_string().contains("refused"), "{error}");
        drop(refusing);
        let stopped: Vec<_> = (0..3).map(|member| etcd.stop(member)).collect();
        let error = world.client().connect().await.expect_err("all are stopped");
        assert!(error.to_string().contains("refused"), "{error}");
        drop(stopped);
        let client = world.client().connect().await?;
        let first = etcd.stop(0);
        // A connection to it ends meanwhile: what is sent on that may have been executed.
        world.sleep(SECOND / 10).await;
        client.put("k", "v").await?;
        let second = etcd.stop(1);
        world.sleep(SECOND / 10).await;
        let once = client.with_options(CallOptions::new().timeout(SECOND))?;
        let error = once.put("k", "v").await.expect_err("two of three are down");
        assert!(error.to_string().contains("no leader"), "{error}");
        drop((first, second));
        client.put("k", "v").await?;
        let leaderless = etcd.lose_leader();
        once.put("k", "v").await.expect_err("there is no leader");
        drop(leaderless);
        client.put("k", "v").await?;
        Ok(())
    });
}

#[test]
fn what_is_slow_comes_late_and_all_of_it() {
    well(4, |world| async move {
        let client = world.client().connect().await?;
        let host = world.host("client");
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        let began = world.now();
        let slow: Vec<_> = (0..3).map(|member| world.link(&host, member).throttle(100_000)).collect();
        world.etcd().put("k", vec![0; 1_000_000]);
        let response = watch.try_next().await?.expect("it goes on");
        assert_eq!(response.events().next().expect("the put").value().len(), 1_000_000);
        let took = world.now() - began;
        assert!((9 * SECOND..15 * SECOND).contains(&took), "{took:?}");
        drop(slow);
        let began = world.now();
        let _delayed: Vec<_> = (0..3).map(|member| world.link(&host, member).delay(SECOND)).collect();
        client.put("k", "v").await?;
        assert!(world.now() - began >= SECOND, "{:?}", world.now() - began);
        Ok(())
    });
}

#[test]
fn what_waits_in_a_throttled_link_arrives_when_that_ends() {
    well(4, |world| async move {
        let client = world.client().connect().await?;
        let host = world.host("client");
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(1))?;
        world.sleep(SECOND).await;
        let throttle =
            |rate| (0..3).map(|member| world.link(&host, member).throttle(rate)).collect::<Vec<_>>();
        // Which would take a quarter of an hour.
        let (slow, faster) = (throttle(10), throttle(20));
        world.etcd().put("k", vec![0; 10_000]);
        world.sleep(SECOND).await;
        drop((slow, faster));
        let ended = world.now();
        let response = watch.try_next().await?.expect("it goes on");
        assert_eq!(response.events().next().expect("the put").value().len(), 10_000);
        assert!(world.now() - ended <= SECOND / 100, "{:?}", world.now() - ended);
        // While another throttle goes on, it is that one's rate.
        let (slow, faster) = (throttle(10), throttle(1_000));
        world.etcd().put("k", vec![0; 10_000]);
        world.sleep(SECOND).await;
        drop(slow);
        let ended = world.now();
        watch.try_next().await?.expect("it goes on");
        let took = world.now() - ended;
        assert!((9 * SECOND..11 * SECOND).contains(&took), "{took:?}");
        drop(faster);
        Ok(())
    });
}

#[test]
fn goaway_ends_a_connection_and_no_watch() {
    well(5, |world| async move {
        let client = world.client().connect().await?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::prefix("k")).start_revision(1))?;
        for round in 0..10_u8 {
            world.etcd().put("k", vec![round]);
            let response = watch.try_next().await?.expect("it goes on");
            assert_eq!(response.events().next().expect("the put").value(), [round]);
            (0..3).for_each(|member| world.etcd().drain(member));
            client.put("elsewhere", "").await?;
        }
        Ok(())
    });
}

#[test]
fn compaction_and_a_restored_store_end_watches_for_that_reason() {
    well(6, |world| async move {
        let etcd = world.etcd();
        let client = world.client().connect().await?;
        let backup = etcd.backup();
        for _ in 0..10 {
            etcd.put("k", "v");
        }
        etcd.compact(5)?;
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(2))?;
        let ended = watch.try_next().await.expect_err("revision 2 is compacted");
        assert!(matches!(ended.reason(), CloseReason::Compacted { .. }), "{ended}");
        let mut watch = client.watch(WatchRequest::new(KeyRange::key("k")).start_revision(6))?;
        watch.try_next().await?.expect("it goes on");
        etcd.restore(&backup).await;
        assert_eq!(etcd.revision(), 1);
        let ended = loop {
            match watch.try_next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends without a reason"),
                Err(ended) => break ended,
            }
        };
        assert!(matches!(ended.reason(), CloseReason::StoreChanged { .. }), "{ended}");
        assert_eq!(client.put("k", "v").await?.revision(), 2);
        Ok(())
    });
}

#[test]
fn no_host_but_the_members_can_be_reached() {
    well(7, |world| async move {
        let runtime = world.host("client").runtime();
        runtime.resolve("etcd-3".into(), 2379).await.expect_err("there are three members");
        let address = runtime.resolve("etcd-2".into(), 2379).await?[0];
        assert_eq!(address.to_string(), "10.0.0.3:2379");
        Ok(())
    });
}
