//! What happens to hosts, beside a storm.

use std::time::Duration;

use etcd_watch_client::concurrency::Session;
use etcd_watch_client::{BoxError, Client};
use etcd_watch_testkit::sim::{FaultKind, Faults, Host, Task, World};

use super::stage::{Stage, soon, up_to};

/// A storm that leaves hosts alone.
pub(super) fn on_the_way() -> Faults {
    Faults::all().without(FaultKind::Suspend).without(FaultKind::Freeze)
}

/// Opens a session, and tries again until that succeeds.
pub(super) async fn open_session(host: &Host, client: &Client, ttl: Duration) -> Session {
    loop {
        match Session::builder(client).ttl(ttl).open().await {
            Ok(session) => return session,
            Err(_) => host.sleep(Duration::from_millis(500)).await,
        }
    }
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

/// One host after the other stands still for up to 20 s, until there is calm.
pub(super) async fn stand_still_in_turn(stage: Stage, hosts: Vec<Host>) -> Result<(), BoxError> {
    let mut rng = stage.world().rng();
    while !stage.is_calm() {
        stage.pause(&mut rng, 20_000).await;
        let host = &hosts[rng.usize(..hosts.len())];
        tokio::select! {
            biased;
            () = stage.calm() => {}
            () = stand_still(stage.world(), host, &mut rng, 20_000) => {}
        }
    }
    Ok(())
}

/// A task that ends once it has reached in calm what it is to reach.
pub(super) type Running = Task<Result<(), BoxError>>;

/// Runs processes on hosts until all is calm, each for 10 to `longest` seconds and with a client of its own; `start` spawns
/// the tasks of one there. In calm the tasks of the last ones come to their end soon, or `what` has not come true.
pub(super) async fn run_processes(
    stage: &Stage,
    hosts: impl IntoIterator<Item = Host>,
    longest: u64,
    what: &str,
    start: impl Fn(&Host, &Client) -> Vec<Running> + Clone + Send + 'static,
) -> Result<(), BoxError> {
    let run = |host| tokio::spawn(supervise(stage.clone(), host, longest, start.clone()));
    let supervisors: Vec<_> = hosts.into_iter().map(run).collect();
    stage.calm().await;
    for supervisor in supervisors {
        soon(what, supervisor).await???;
    }
    Ok(())
}

async fn supervise(
    stage: Stage,
    host: Host,
    longest: u64,
    start: impl Fn(&Host, &Client) -> Vec<Running>,
) -> Result<(), BoxError> {
    let (world, mut rng) = (stage.world(), stage.world().rng());
    loop {
        let client = host.client().connect_lazy()?;
        let tasks = start(&host, &client);
        let lives = world.now() + stage.at_pace(Duration::from_secs(rng.u64(10..longest)));
        while world.now() < lives && !stage.is_calm() {
            stage.pause(&mut rng, 10_000).await;
            if rng.u8(..3) == 0 {
                stand_still(world, &host, &mut rng, 15_000).await;
            }
        }
        if stage.is_calm() {
            for task in tasks {
                task.await.ok_or("a task has died")??;
            }
            return Ok(());
        }
        host.kill();
    }
}
