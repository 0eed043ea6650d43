//! Packets that the system itself loses, in a network of this process's own.

use std::{process::Command, time::Duration};

use super::{Storm, run};
use crate::{error::SoakError, faults::Deck};

const TABLE: &str = "add table inet soak";
const CHAIN: &str = "add chain inet soak in { type filter hook input priority 0; }";
const END: &str = "flush chain inet soak in";

/// Why no packets can be lost, if so.
pub(crate) fn lack(is_apart: bool) -> Option<String> {
    if !is_apart {
        return Some("it needs a network of its own".to_owned());
    }
    let tried = [TABLE, CHAIN, "add rule inet soak in numgen random mod 100 < 1 drop", END];
    tried.into_iter().find_map(|line| nft(line).err()).map(|error| error.to_string())
}

/// Ends the loss when it is dropped.
struct Loss;

impl Drop for Loss {
    fn drop(&mut self) {
        // Nobody is there to be told.
        let _ = nft(END);
    }
}

impl Storm {
    pub(super) async fn lose_packets(
        &self,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let (percent, whose) = if deck.random().bool() {
            let percent = deck.random().u32(1..10);
            nft(&format!("add rule inet soak in numgen random mod 100 < {percent} drop"))?;
            (percent, "all members".to_owned())
        } else {
            let percent = deck.random().u32(5..50);
            let ports = self.ports(member).await;
            for end in ["sport", "dport"] {
                let part = format!("numgen random mod 100 < {percent}");
                nft(&format!("add rule inet soak in tcp {end} {{ {ports} }} {part} drop"))?;
            }
            (percent, format!("member {member}"))
        };
        let loss = Loss;
        self.meanwhile(lasts, deck).await;
        drop(loss);
        Ok(Some(format!("{percent} % to and from {whose}, for {:.1} s", lasts.as_secs_f64())))
    }

    /// Where a member and the proxy in front of it listen.
    async fn ports(&self, member: usize) -> String {
        let cluster = self.world.cluster.read().await;
        let server = cluster.member(member);
        let addresses = [server.address(), server.peer_address(), self.world.links[member].address()];
        addresses.map(|address| address.port().to_string()).join(", ")
    }
}

/// Runs `nft`, which is part of nftables.
fn nft(line: &str) -> Result<(), SoakError> {
    run(Command::new("nft").arg(line))
}
