//! How often connections are pinged.

use std::{sync::Mutex, time::Duration};

use super::options::Keepalive;
use crate::{Endpoint, sync::lock};

/// The longest interval that servers can make a client wait between two pings.
const LONGEST: Duration = Duration::from_secs(3_600);

/// The keep-alive of a client's connections. It begins with what the application asked for. A server that is pinged
/// more often than it allows ends the connection; the interval is doubled then, as gRPC asks of its clients
/// (gRPC proposal A8), for all connections to come.
#[derive(Debug)]
pub(super) struct Pings(Mutex<State>);

#[derive(Debug)]
struct State {
    keepalive: Option<Keepalive>,
    warned: bool,
}

impl Pings {
    pub(super) fn new(keepalive: Option<Keepalive>) -> Self {
        Self(Mutex::new(State { keepalive, warned: false }))
    }

    /// What the next connection is to do.
    pub(super) fn keepalive(&self) -> Option<Keepalive> {
        lock(&self.0).keepalive
    }

    /// A server says that pings at this interval are too many.
    pub(super) fn are_too_many(&self, interval: Duration, endpoint: &Endpoint) {
        let mut state = lock(&self.0);
        let Some(keepalive) = &mut state.keepalive else { return };
        // Several connections with the same interval may be ended at once: they double it once.
        let doubled = (interval * 2).min(LONGEST);
        keepalive.interval = keepalive.interval.max(doubled);
        let interval = keepalive.interval;
        let first = !std::mem::replace(&mut state.warned, true);
        drop(state);
        if first {
            tracing::warn!(name: "pings_too_frequent", %endpoint, ?interval, "the server allows fewer pings; pinging less often: set a longer keepalive interval, or a lower --grpc-keepalive-min-time on the server");
        } else {
            tracing::debug!(name: "pings_too_frequent_again", %endpoint, ?interval, "the server allows still fewer pings");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_doubled_once_for_all_connections_that_had_it() {
        let endpoint = "host:1".parse().expect("an endpoint");
        let pings = Pings::new(Some(Keepalive::default()));
        let interval = || pings.keepalive().expect("on").interval.as_secs();
        let too_many = |seconds| pings.are_too_many(Duration::from_secs(seconds), &endpoint);
        too_many(10);
        too_many(10);
        assert_eq!(interval(), 20);
        too_many(20);
        assert_eq!(interval(), 40);
        too_many(10);
        assert_eq!(interval(), 40, "an old connection says nothing of the new interval");
        too_many(3_000);
        assert_eq!(interval(), 3_600);
        let off = Pings::new(None);
        off.are_too_many(Duration::from_secs(10), &endpoint);
        assert_eq!(off.keepalive(), None);
    }
}
