//! Ports for servers to listen on.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

/// The ports a member listens on, on the loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) peer: u16,
    /// For metrics and health, where they can't be on the client port.
    pub(super) pages: u16,
}

/// Ports below this one need privileges or are likely to be somebody's.
const LOWEST: u16 = 10_000;
const ATTEMPTS: usize = 200;

impl Ports {
    /// Ports that nobody listens on now.
    ///
    /// They lie below the range the system takes outgoing ports from. A port of that range would not do for a
    /// server that goes down and comes back: meanwhile it can become the near end of somebody's connection, even
    /// of a client that keeps dialing that very port and ends up connected to itself.
    pub(super) fn free() -> io::Result<Self> {
        // All are held until all are known, or they could be the same.
        let (client, peer, pages) = (free_listener()?, free_listener()?, free_listener()?);
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        Ok(Self { client: port(&client)?, peer: port(&peer)?, pages: port(&pages)? })
    }

    pub(super) fn client_address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.client))
    }

    pub(super) fn peer_address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.peer))
    }

    pub(super) fn pages_address(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.pages))
    }
}

/// A listener on such a port.
pub(super) fn free_listener() -> io::Result<TcpListener> {
    let end = first_outgoing_port();
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(LOWEST..end))) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The first port that outgoing connections get: Linux says so, elsewhere it is no lower than Linux's default.
fn first_outgoing_port() -> u16 {
    const DEFAULT: u16 = 32_768;
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first = range.split_whitespace().next().and_then(|port| port.parse().ok());
    first.filter(|&port| port > LOWEST + 1_000).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_distinct_and_outside_the_range_of_outgoing_ones() {
        for _ in 0..50 {
            let ports = Ports::free().unwrap();
            let all = [ports.client, ports.peer, ports.pages];
            assert!(all[0] != all[1] && all[1] != all[2] && all[2] != all[0], "{ports:?}");
            assert!(all.iter().all(|port| (LOWEST..first_outgoing_port()).contains(port)), "{ports:?}");
        }
    }
}
