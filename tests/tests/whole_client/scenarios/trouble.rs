//! What happens to hosts, beside a storm.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use std::time::Duration;

use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::{FaultKind, Faults, Host, Task, World};

/// A storm that leaves hosts alone.
pub(super) fn on_the_way() -> Faults {
    Faults::all().without(FaultKind::Suspend).without(FaultKind::Freeze)
}

/// A random time of up to so many milliseconds.
pub(super) fn up_to(rng: &mut fastrand::Rng, milliseconds: u64) -> Duration {
    Duration::from_millis(rng.u64(..milliseconds))
}

/// The host stands still for up to so many milliseconds: suspended, starved, or without any member.
pub(super) async fn stand_still(world: &World, host: &Host, rng: &mut fastrand::Rng, longest: u64) {
    let time = up_to(rng, longest);
    match rng.u8(..3) {
        0 => host.suspend().lasting(time).await,
        1 => host.freeze().lasting(time).await,
        _ => {
            let members = 0..world.etcd().members();
            let cut_off: Vec<_> = members.map(|member| world.link(host, member).partition()).collect();
            world.sleep(time).await;
            drop(cut_off);
        }
    }
}

/// Runs one process after the other on a host, each for 10 to `longest` seconds and with a client of its own, whose tasks
/// `start` spawns there. The host stands still now and then. Once all is over, the last process's tasks come to their end.
pub(super) async fn supervise(
    world: World,
    host: Host,
    is_over: Arc<AtomicBool>,
    longest: u64,
    start: impl Fn(Client) -> Vec<Task<Result<(), BoxError>>>,
) -> Result<(), BoxError> {
    let mut rng = world.rng();
    loop {
        let tasks = start(host.client().connect_lazy()?);
        let lives = world.now() + Duration::from_secs(rng.u64(10..longest));
        while world.now() < lives && !is_over.load(Ordering::Relaxed) {
            world.sleep(up_to(&mut rng, 10_000)).await;
            if rng.u8(..3) == 0 {
                stand_still(&world, &host, &mut rng, 15_000).await;
            }
        }
        if is_over.load(Ordering::Relaxed) {
            for task in tasks {
                task.await.ok_or("a task has died")??;
            }
            return Ok(());
        }
        host.kill();
    }
}
