//! What happens on the way from the clients to the members.

use std::time::Duration;

use etcd_watch_testkit::proxy::Cut;

use super::Storm;
use crate::faults::{Deck, Fault};

impl Storm {
    pub(super) async fn strike_link(
        &self,
        fault: Fault,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Option<String> {
        let link = &self.world.links[member];
        let cut = if deck.random().bool() { Cut::Reset } else { Cut::Close };
        let what = match fault {
            Fault::Cut => {
                let count = link.cut_all(cut);
                return Some(format!("{count} connections to member {member}, by {cut:?}"));
            }
            Fault::CutInFrame => {
                let bytes = deck.random().u64(..50_000);
                self.world.links.iter().for_each(|link| link.cut_next_after_bytes(bytes, cut));
                format!("a connection to each member after {bytes} bytes, by {cut:?}")
            }
            Fault::Hold => {
                link.hold();
                format!("everything to and from member {member}")
            }
            Fault::BlackHole => {
                link.black_hole();
                format!("between the clients and member {member}")
            }
            Fault::Refuse => {
                link.refuse();
                link.cut_all(cut);
                format!("connections to member {member}")
            }
            _ => {
                let delay = Duration::from_millis(deck.random().u64(10..150));
                self.world.links.iter().for_each(|link| link.set_delay(delay));
                format!("{} ms to all members", delay.as_millis())
            }
        };
        tokio::time::sleep(lasts).await;
        self.world.links.iter().for_each(|link| link.restore());
        Some(format!("{what}, for {:.1} s", lasts.as_secs_f64()))
    }
}
