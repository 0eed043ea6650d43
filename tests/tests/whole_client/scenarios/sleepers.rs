//! A machine that has slept.

use std::time::Duration;

use etcd_watch_client::BoxError;
use etcd_watch_client::concurrency::{Mutex, Name, Session};
use etcd_watch_testkit::sim::World;

use super::stage::soon;
use super::truth::has_lease;

/// A host with a lock is suspended for a random time. Whenever it runs and believes to hold the lock, the lease is
/// there; if it slept for longer than the lease lasts, it knows at once that the lock is lost, and another has it.
pub(super) async fn a_session_is_lost_when_its_host_wakes_up(world: World) -> Result<(), BoxError> {
    let ttl = Duration::from_secs(5);
    let (laptop, desk) = (world.host("laptop"), world.host("desk"));
    let client = laptop.client().connect().await?;
    let session = Session::builder(&client).ttl(ttl).open().await?;
    let guard = Mutex::new(&session, Name::new("lock")?).lock().await?;
    let lease = session.id();
    let etcd = world.etcd().clone();
    let holding = laptop.spawn({
        let (laptop, world) = (laptop.clone(), world.clone());
        async move {
            while guard.is_held() {
                assert!(has_lease(&etcd, lease), "believes to hold what has ended");
                laptop.sleep(Duration::from_millis(10)).await;
            }
            (world.now(), guard)
        }
    });
    let other = desk.client().connect().await?;
    let waiting = desk.spawn(async move {
        let session = Session::open(&other).await?;
        let guard = Mutex::new(&session, Name::new("lock")?).lock().await?;
        Ok::<_, BoxError>((session, guard))
    });
    let mut rng = world.rng();
    world.sleep(Duration::from_millis(rng.u64(1000..10_000))).await;
    let asleep = Duration::from_millis(if rng.bool() { rng.u64(..3000) } else { rng.u64(6000..36_000_000) });
    laptop.suspend().lasting(asleep).await;
    let awake = world.now();
    if asleep < ttl {
        // It has been renewed a third of its time before at the latest.
        world.sleep(Duration::from_secs(60)).await;
        if session.is_lost() {
            return Err(format!("lost after a nap of {asleep:?}").into());
        }
        session.close().await?;
    } else if !session.is_lost() {
        return Err(format!("not lost after {asleep:?}").into());
    }
    let (told_at, _) = soon("the holder is told", holding).await?.ok_or("the holder has died")?;
    if asleep >= ttl && told_at > awake + Duration::from_millis(20) {
        return Err(format!("awake at {awake:?}, and told at {told_at:?}").into());
    }
    let (_session, other) = soon("the other's turn", waiting).await?.ok_or("the other has died")??;
    if other.is_held() { Ok(()) } else { Err("the other has lost it".into()) }
}
