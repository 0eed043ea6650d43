//! What happens to hosts, beside a storm.

use std::time::Duration;

use etcd_watch_testkit::sim::{FaultKind, Faults, Host, World};

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
