//! What happens to hosts and their processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_watch_client::{KeyRange, Runtime as _};
use etcd_watch_testkit::sim::World;

use crate::well;

const SECOND: Duration = Duration::from_secs(1);

/// A task that counts the seconds of a host.
fn count(world: &World, host: &str) -> Arc<AtomicU64> {
    let (host, ticks) = (world.host(host), Arc::new(AtomicU64::new(0)));
    let (counting, counted) = (host.clone(), ticks.clone());
    host.spawn(async move {
        loop {
            counting.sleep(SECOND).await;
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    ticks
}

#[test]
fn a_frozen_hosts_tasks_stand_still_and_its_clock_goes_on() {
    well(1, |world| async move {
        let (host, ticks) = (world.host("a"), count(&world, "a"));
        let others = count(&world, "b");
        world.sleep(SECOND * 5 / 2).await;
        let began = host.runtime().now();
        host.freeze().lasting(10 * SECOND).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2);
        assert_eq!(host.runtime().now().since(began), 10 * SECOND);
        // The timer that was due rings at once.
        world.sleep(SECOND / 10).await;
        assert_eq!((ticks.load(Ordering::Relaxed), others.load(Ordering::Relaxed)), (3, 12));
        Ok(())
    });
}

#[test]
fn a_suspended_hosts_clock_stands_still_but_for_its_boot_time() {
    well(2, |world| async move {
        let (host, ticks) = (world.host("a"), count(&world, "a"));
        world.sleep(SECOND * 5 / 2).await;
        let runtime = host.runtime();
        let (running, boot) = (runtime.now(), runtime.boot_time());
        let twice = host.suspend();
        host.suspend().lasting(1800 * SECOND).await;
        drop(twice);
        assert_eq!(runtime.now(), running);
        assert_eq!(runtime.boot_time().since(boot), 1800 * SECOND);
        // Half a second of its timer is left.
        world.sleep(SECOND * 2 / 5).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 2);
        world.sleep(SECOND / 5).await;
        assert_eq!(ticks.load(Ordering::Relaxed), 3);
        assert_eq!(runtime.now().since(running), SECOND * 3 / 5);
        Ok(())
    });
}

#[test]
fn a_killed_process_is_gone_with_its_connections_and_the_next_one_is_whole() {
    well(3, |world| async move {
        let host = world.host("a");
        let streams_of = |member| world.etcd().with_member(member, |model| model.watch_streams().len());
        let open_streams = || (0..3).map(streams_of).sum::<usize>();
        let process = async |world: &World| {
            let client = world.host("a").client().connect().await?;
            let mut watch = client.watch(KeyRange::key("k"))?;
            let task = world.host("a").spawn(async move { watch.next().await.is_some() });
            world.sleep(SECOND).await;
            Ok::<_, etcd_watch_client::BoxError>((client, task))
        };
        let (client, task) = process(&world).await?;
        assert_eq!(open_streams(), 1);
        host.kill();
        assert_eq!(task.await, None);
        world.sleep(SECOND).await;
        assert_eq!(open_streams(), 0, "the members have noticed");
        client.put("k", "v").await.expect_err("its runtime is gone");
        let (_client, task) = process(&world).await?;
        world.etcd().put("k", "v");
        assert_eq!(task.await, Some(true));
        Ok(())
    });
}

#[test]
fn a_client_that_was_starved_goes_on_where_it_was() {
    well(4, |world| async move {
        let host = world.host("a");
        let client = host.client().connect().await?;
        let mut watch = client.watch(KeyRange::key("k"))?;
        let reading = host.spawn(async move {
            let mut values = Vec::new();
            while values.last() != Some(&99_u8) {
                let response = watch.try_next().await?.expect("it goes on");
                values.extend(response.events().map(|event| event.value()[0]));
            }
            Ok::<_, etcd_watch_client::WatchError>(values)
        });
        world.sleep(SECOND).await;
        let frozen = host.freeze();
        for value in 0..100_u8 {
            world.etcd().put("k", vec![value]);
            world.sleep(2 * SECOND).await;
        }
        drop(frozen);
        assert_eq!(reading.await.expect("it lives")?, (0..100).collect::<Vec<u8>>());
        Ok(())
    });
}
