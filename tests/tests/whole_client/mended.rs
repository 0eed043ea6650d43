//! Faults of the client that were mended without a test, because they needed time or bad luck.

use std::time::Duration;

use etcd_watch_client::concurrency::{Mutex, Name, Observe, Session, observe};
use etcd_watch_client::{BoxError, CallError};
use etcd_watch_testkit::sim::{Fault, World};

use crate::scenarios::truth::keys;
use crate::well;

/// "No connection within 0ns", at the end of a call's time, says less than the server's refusal before it.
#[test]
fn a_call_whose_time_ends_as_it_connects_tells_the_refusal_before_that() {
    for seed in 0..10 {
        well(seed, |world| async move {
            let host = world.host("caller");
            let client = host.client().request_timeout(Duration::from_secs(4)).connect().await?;
            let _leaderless = world.etcd().lose_leader();
            let call = host.spawn(async move { client.get("k").await });
            world.sleep(Duration::from_secs(2)).await;
            let _held: Vec<Fault> = (0..world.etcd().members())
                .map(|member| {
                    let link = world.link(&host, member);
                    link.cut();
                    link.partition()
                })
                .collect();
            match call.await.ok_or("the caller has died")? {
                Err(CallError::Timeout { last: Some(last), .. })
                    if last.to_string().contains("no leader") =>
                {
                    Ok(())
                }
                other => Err(format!("{other:?}").into()),
            }
        });
    }
}

/// Waits until the observer tells of this value; how long it takes.
async fn told(world: &World, leaders: &mut Observe, value: &str) -> Result<Duration, BoxError> {
    let began = world.now();
    while leaders.next().await.ok_or("the observer has ended")??.value != value {}
    Ok(world.now() - began)
}

/// Each restored store ends the observer's watch. What it is told in between makes its next pause short again.
#[test]
fn an_observer_that_has_been_told_something_pauses_briefly_after_the_next_failure() {
    const ROUNDS: u32 = 20;
    for seed in 0..5 {
        well(seed, |world| async move {
            let client = world.client().connect().await?;
            let mut leaders = observe(&client, &Name::new("election")?);
            world.etcd().put("election/1", "first");
            told(&world, &mut leaders, "first").await?;
            let mut took = Duration::ZERO;
            for round in 0..ROUNDS {
                world.etcd().restore(&world.etcd().backup()).await;
                let (listed, watched) = (format!("listed {round}"), format!("watched {round}"));
                world.etcd().put("election/1", listed.clone());
                took += told(&world, &mut leaders, &listed).await?;
                // Only what comes by the watch shows that it works again.
                world.etcd().put("election/1", watched.clone());
                told(&world, &mut leaders, &watched).await?;
            }
            println!("seed {}: {:?} after each failure", world.seed(), took / ROUNDS);
            if took / ROUNDS > Duration::from_millis(350) {
                return Err(format!("the pauses stay long: {:?} on average", took / ROUNDS).into());
            }
            Ok(())
        });
    }
}

/// A renewal that has failed at a member is made at another one. After that the first is as good as any.
#[test]
fn a_lease_does_not_avoid_for_ever_a_member_that_a_renewal_once_failed_at() {
    let report = well(1, |world| async move {
        let endpoints = world.etcd().endpoints();
        let client = world.client().endpoints(endpoints.into_iter().take(2)).connect().await?;
        let lease = client.lease_grant(Duration::from_secs(9)).await?;
        let keeper = lease.keep_alive();
        for member in [0, 1, 0, 1] {
            let stopped = world.etcd().stop(member);
            // The other calls go to the other member at once; so does the lease.
            client.get("k").await?;
            world.sleep(Duration::from_secs(60)).await;
            drop(stopped);
            world.sleep(Duration::from_secs(20)).await;
        }
        keeper.lost_reason().map_or(Ok(()), |lost| Err(lost.into()))
    });
    let connections = report.counts.connections;
    assert!(connections <= 12, "{connections} connections, in some 100 renewals");
}

/// A transaction that enters is on its way for longer than its answer is waited for. The key that it creates then is
/// removed once no member can execute the transaction any more.
#[test]
fn an_entry_that_is_executed_late_leaves_the_queue() {
    const SECOND: Duration = Duration::from_secs(1);
    let mut late = 0;
    for seed in 0..20 {
        let late = &mut late;
        well(seed, |world| async move {
            let host = world.host("contender");
            let client = host.client().keepalive(None).request_timeout(12 * SECOND).connect().await?;
            let session = Session::builder(&client).ttl(60 * SECOND).open().await?;
            let mutex = Mutex::new(&session, Name::new("lock")?);
            let _delayed = world.link(&host, 0).delay(20 * SECOND);
            if tokio::time::timeout(SECOND, mutex.lock()).await.is_ok() {
                // It was sent to another member.
                return Ok(());
            }
            world.sleep(12 * SECOND).await;
            let is_on_its_way = keys(world.etcd(), "lock/").is_empty() && world.etcd().revision() == 1;
            world.sleep(8 * SECOND).await;
            *late += usize::from(is_on_its_way && world.etcd().revision() > 1);
            world.sleep(6 * SECOND).await;
            assert_eq!(keys(world.etcd(), "lock/"), [], "nobody wants the lock");
            Ok(())
        });
    }
    assert!(late > 1, "{late} entries were executed after they were given up");
}
