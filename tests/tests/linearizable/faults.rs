//! What happens to connections.

use std::time::Duration;

use etcd_watch_testkit::proxy::{Cut, FaultProxy};
use fastrand::Rng;
use tokio::time::sleep;

/// Strikes one link after the other, for ever.
pub(crate) async fn strike(links: &[FaultProxy], seed: u64) {
    let mut random = Rng::with_seed(seed);
    loop {
        let link = &links[random.usize(..links.len())];
        let cut = if random.bool() { Cut::Reset } else { Cut::Close };
        match random.u32(..11) {
            0..3 => drop(link.cut_all(cut)),
            // In the middle of an answer, or before it.
            3..6 => link.cut_next_after_bytes(random.u64(..400), cut),
            6 | 7 => link.set_delay(Duration::from_millis(random.u64(1..25))),
            8 => link.hold(),
            9 => link.black_hole(),
            _ => {
                link.refuse();
                link.cut_all(cut);
            }
        }
        sleep(Duration::from_millis(random.u64(5..150))).await;
        link.restore();
        if random.bool() {
            // What was swallowed stays lost; on others it is found out by who waits.
            link.cut_all(cut);
        }
        // What was held is answered now, to those who still wait.
        sleep(Duration::from_millis(random.u64(5..60))).await;
    }
}
