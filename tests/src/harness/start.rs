//! A start under way, and when it is over.

use std::{
    net::SocketAddr,
    process::ExitStatus,
    time::{Duration, Instant},
};

use super::{EtcdServer, HarnessError, http, server::TAIL};

/// How long a page of the server may take.
pub(super) const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// How many sets of ports are tried.
pub(super) const PORT_ATTEMPTS: usize = 5;
/// What etcd says if somebody else has one of its ports.
pub(super) const CLASH: &str = "address already in use";

/// A start under way.
pub(super) struct Start {
    end: Instant,
    log_length: u64,
    ports_tried: usize,
}

impl Start {
    pub(super) fn new(server: &mut EtcdServer) -> Result<Self, HarnessError> {
        server.kill();
        let log_length = server.log.length();
        server.launch()?;
        Ok(Self { end: Instant::now() + server.member.ready_within, log_length, ports_tried: 1 })
    }

    /// Takes in what a look at the server has found; whether the start is over.
    pub(super) fn step(
        &mut self,
        server: &mut EtcdServer,
        probe: impl FnOnce(Probe) -> Result<(), String>,
    ) -> Result<bool, HarnessError> {
        let process = server.process.as_mut().ok_or(HarnessError::NotRunning { action: "wait for it" })?;
        if let Some(status) = process.ended().map_err(HarnessError::io("wait for etcd"))? {
            self.recover_from_end(server, status)?;
            return Ok(false);
        }
        match probe(Probe::of_start(server)) {
            Ok(()) => {
                server.has_served = true;
                Ok(true)
            }
            Err(_) if Instant::now() < self.end => Ok(false),
            Err(last) => {
                server.kill();
                let log = server.log.tail(TAIL);
                Err(HarnessError::NotReady { waited: server.member.ready_within, last, log })
            }
        }
    }

    /// A server whose ports somebody else took starts over: on other ports, or once they are free again if others
    /// know them.
    fn recover_from_end(&mut self, server: &mut EtcdServer, status: ExitStatus) -> Result<(), HarnessError> {
        let clashed = server.log.since(self.log_length).contains(CLASH);
        // The other members of a cluster know them from the start; the cluster as a whole can move.
        let can_move = !server.has_served && server.member.membership.is_none();
        let try_again = clashed
            && if can_move { self.ports_tried < PORT_ATTEMPTS } else { server.has_served }
            && Instant::now() < self.end;
        server.kill();
        if !try_again {
            return Err(HarnessError::Exited { status: status.to_string(), log: server.log.tail(TAIL) });
        }
        if can_move {
            self.ports_tried += 1;
            server.move_to_other_ports()?;
        }
        self.log_length = server.log.length();
        server.launch()
    }
}

/// A look at whether a server serves.
pub(super) struct Probe {
    name: String,
    peer: SocketAddr,
    /// Where `/health` is; `None` if it need not be healthy.
    health: Option<SocketAddr>,
}

impl Probe {
    /// For the end of a start. A member of a cluster is not healthy without a majority of the others, and those may
    /// be down.
    pub(super) fn of_start(server: &EtcdServer) -> Self {
        let health = server.member.membership.is_none().then(|| server.health_address());
        Self { health, ..Self::of(server) }
    }

    /// For whether it serves.
    pub(super) fn of(server: &EtcdServer) -> Self {
        Self {
            name: server.name.clone(),
            peer: server.ports.peer_address(),
            health: Some(server.health_address()),
        }
    }

    /// The member list comes from the peer port and names the member: so the ports are this server's, and not of
    /// another one that took them first. Healthy is one that has a leader and commits.
    pub(super) fn run(self) -> Result<(), String> {
        let members = page(self.peer, "/members")?;
        if !members.contains(&format!("\"{}\"", self.name)) {
            return Err(format!("another server is on port {}: {members}", self.peer.port()));
        }
        let Some(address) = self.health else { return Ok(()) };
        let health = page(address, "/health")?;
        if health.contains("\"true\"") { Ok(()) } else { Err(format!("/health says {health}")) }
    }
}

fn page(address: SocketAddr, path: &str) -> Result<String, String> {
    http::get(address, path, PAGE_TIMEOUT).map_err(|error| format!("{path}: {error}"))
}
