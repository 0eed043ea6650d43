//! Members whose clocks are not those of the others.
//!
//! Linux lets a process have monotonic clocks that are ahead of the machine's; the wall clock and the pace of time can't be
//! another one, and to preload a library with other clocks does nothing to a program in Go. A member that is slow, or stands
//! still, is a frozen one.

use std::{process::Command, time::Duration};

use super::Storm;
use crate::{error::SoakError, faults::Deck};

const DAY: u64 = 86_400;

/// A program that starts another one with clocks that are ahead by so many seconds.
fn launcher(seconds: u64) -> Vec<String> {
    let offsets = [format!("--monotonic={seconds}"), format!("--boottime={seconds}")];
    ["unshare".to_owned(), "--time".to_owned()].into_iter().chain(offsets).collect()
}

/// Why there are no other clocks, if so.
pub(crate) fn lack() -> Option<String> {
    let launcher = launcher(DAY);
    let output = Command::new(&launcher[0]).args(&launcher[1..]).args(["cat", "/proc/uptime"]).output();
    let uptime = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let is_ahead = |uptime: &str| {
        let seconds = uptime.split('.').next().and_then(|seconds| seconds.parse::<u64>().ok());
        seconds.is_some_and(|seconds| seconds >= DAY)
    };
    match uptime {
        Ok(uptime) if is_ahead(&uptime) => None,
        Ok(_) => Some("it needs Linux, `unshare` of util-linux and the right to make namespaces".to_owned()),
        Err(error) => Some(format!("can't run `unshare`: {error}")),
    }
}

impl Storm {
    pub(super) async fn other_clock(
        &self,
        member: usize,
        lasts: Duration,
        deck: &mut Deck,
    ) -> Result<Option<String>, SoakError> {
        let days = deck.random().u64(1..1000);
        let launcher = launcher(days * DAY);
        self.restart_as(member, false, |server| {
            server.set_launcher(launcher);
            Ok(())
        })
        .await?;
        self.meanwhile(lasts, deck).await;
        self.restart_as(member, false, |server| {
            server.set_launcher(Vec::new());
            Ok(())
        })
        .await?;
        Ok(Some(format!("member {member}, {days} days ahead for {:.1} s", lasts.as_secs_f64())))
    }
}
