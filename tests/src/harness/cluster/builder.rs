//! What a cluster is to be like, and its first start.

use std::{fmt::Display, io, net::SocketAddr};

use super::{EtcdCluster, network::PeerNetwork};
use crate::harness::{
    EtcdServer, EtcdServerBuilder, EtcdVersion, HarnessError,
    ports::{Ports, free_listener},
    server::{Membership, unique_name},
    start::{CLASH, PORT_ATTEMPTS, Start},
};

/// What a cluster is to be like; made by [`EtcdCluster::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before `start_async`"]
pub struct EtcdClusterBuilder {
    member: EtcdServerBuilder,
    members: usize,
    spares: usize,
    client_urls: Vec<String>,
}

impl EtcdClusterBuilder {
    pub(super) fn new(version: EtcdVersion) -> Self {
        // A new leader within a second or two, while a machine busy with other tests may keep a member waiting for
        // half a second.
        let member =
            EtcdServer::builder(version).flag("heartbeat-interval", 60).flag("election-timeout", 600);
        Self { member, members: 3, spares: 0, client_urls: Vec::new() }
    }

    /// How many members it has. Default: 3.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// How many places it has for members that [join](EtcdCluster::add_learner) later. Default: 0.
    pub fn spares(mut self, spares: usize) -> Self {
        self.spares = spares;
        self
    }

    /// Where members say that clients reach them, by number: proxies in front of them, say. Default: where they listen.
    pub fn advertise_to_clients(mut self, urls: Vec<String>) -> Self {
        self.client_urls = urls;
        self
    }

    /// Any flag of `etcd`, for all members; see [`EtcdServerBuilder::flag`].
    pub fn flag(self, name: &str, value: impl Display) -> Self {
        self.each(|member| member.flag(name, value))
    }

    /// Anything a server can be, for all members: `.each(|member| member.tls(tls).jwt(ttl))`.
    pub fn each(mut self, change: impl FnOnce(EtcdServerBuilder) -> EtcdServerBuilder) -> Self {
        self.member = change(self.member);
        self
    }

    /// Starts all members and waits until each of them serves and they agree on a leader.
    ///
    /// # Errors
    /// If there is no such server on this machine, or a member ends or doesn't serve in time, with the end of its
    /// log.
    pub async fn start_async(self) -> Result<EtcdCluster, HarnessError> {
        let mut attempt = 1;
        loop {
            match self.clone().start_once().await {
                // Somebody took a port after it was found free, and all members know all peer ports.
                Err(HarnessError::Exited { log, .. }) if log.contains(CLASH) && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                started => return started,
            }
        }
    }

    async fn start_once(self) -> Result<EtcdCluster, HarnessError> {
        let plan = self.plan().map_err(HarnessError::io("find free ports"))?;
        let members = plan
            .members
            .into_iter()
            .map(|(ports, membership)| self.member.clone().build(ports, Some(membership)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut cluster = EtcdCluster {
            members,
            free: (self.members..self.members + self.spares).collect(),
            first: (0..self.members).collect(),
            network: plan.network,
        };
        cluster.start_all().await?;
        Ok(cluster)
    }

    /// Who is where.
    fn plan(&self) -> io::Result<Plan> {
        let places = self.members + self.spares;
        let all_ports = (0..places).map(|_| Ports::free()).collect::<io::Result<Vec<_>>>()?;
        let proxies = all_ports.iter().map(|ports| Ok((free_listener()?, ports.peer_address())));
        let network = PeerNetwork::start(proxies.collect::<io::Result<_>>()?)?;
        let known: Vec<(String, SocketAddr)> =
            (0..places).map(|number| (unique_name(), network.address(number))).collect();
        let first = known.iter().take(self.members);
        let urls: Vec<String> = first.map(|(name, peer)| format!("{name}=http://{peer}")).collect();
        let initial_cluster = urls.join(",");
        let mut client_urls = self.client_urls.iter().cloned();
        let memberships = known.into_iter().map(|(name, advertised)| Membership {
            name,
            advertised,
            initial_cluster: initial_cluster.clone(),
            joins: false,
            client_url: client_urls.next(),
        });
        let members = all_ports.into_iter().zip(memberships).collect();
        Ok(Plan { members, network })
    }
}

struct Plan {
    members: Vec<(Ports, Membership)>,
    network: PeerNetwork,
}

impl EtcdCluster {
    /// Starts members that are all down, as a cluster needs it: none of them serves before a majority is there.
    pub(super) async fn start_all(&mut self) -> Result<(), HarnessError> {
        let mut starts = Vec::new();
        for number in self.numbers() {
            starts.push((number, Start::new(&mut self.members[number])?));
        }
        for (number, start) in starts {
            self.members[number].finish_start(start).await?;
        }
        for member in self.members() {
            member.wait_until_healthy().await?;
        }
        self.learn_ids()?;
        self.wait_for_leader().await.map(|_| ())
    }
}
