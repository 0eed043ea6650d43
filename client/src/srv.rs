//! Endpoints from DNS SRV records.
//!
//! Lookups are hickory-resolver's: it knows the system's settings, falls back from UDP to TCP, and follows aliases. It
//! needs tokio or an implementation of its own traits of sockets and timers. Those would have to be written over
//! [`Runtime`](crate::Runtime), which has no UDP, and many networks let nothing else through to a name server. So a lookup
//! has a thread of its own with a small tokio runtime, whatever runtime the client is on; runtimes look up addresses in a
//! thread, too. It is made once, or at long intervals.

use std::{net::SocketAddr, pin::pin, thread, time::Duration};

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::{RData, RecordType},
};

use crate::{Endpoint, EndpointError};

/// The services that etcd's clients look for, with and without TLS.
const WITH_TLS: &str = "etcd-client-ssl";
const WITHOUT_TLS: &str = "etcd-client";

/// Finds a cluster's endpoints by DNS SRV records, as `etcdctl --discovery-srv` does.
///
/// The records are `_etcd-client-ssl._tcp.<domain>` for members with TLS, and `_etcd-client._tcp.<domain>` for members
/// without. Where there are records of the first kind, those of the second are not used: a record that somebody has
/// forgotten, or forged, takes no password over the network in plain text. (`etcdctl` uses both.) Certificates are
/// verified for the names of the members that the records lead to, and not for the domain.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_watch_client::{ClientBuilder, SrvLookup};
///
/// async fn start(builder: ClientBuilder) -> Result<(), Box<dyn std::error::Error>> {
///     let lookup = SrvLookup::new("example.com");
///     let builder = builder.endpoints(lookup.endpoints().await?);
///     // The records may change.
///     let client = builder.srv_lookup_every(lookup, Duration::from_secs(300)).connect().await?;
///     client.put("found", "by DNS").await?;
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct SrvLookup {
    domain: String,
    name: Option<String>,
    name_servers: Vec<SocketAddr>,
    timeout: Duration,
}

impl SrvLookup {
    /// A lookup in this domain. One that doesn't end with a dot is completed by the search list of the system, as other
    /// names are.
    pub fn new(domain: impl Into<String>) -> Self {
        Self { domain: domain.into(), name: None, name_servers: Vec::new(), timeout: Duration::from_secs(10) }
    }

    /// The name of the cluster, for a domain with several: the records are `_etcd-client-ssl-<name>._tcp.<domain>` then,
    /// and so on. It is `etcdctl`'s `--discovery-srv-name`. Default: none.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The DNS servers to ask, in the place of the system's. Default: those of the system, which are in `/etc/resolv.conf`
    /// on Unix and in the registry on Windows.
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers = servers.into_iter().collect();
        self
    }

    /// How long the lookup may take in all. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Looks the endpoints up, on any async runtime: `https` for records with TLS, `http` for records without. Those with
    /// the lowest priority number come first; those with the same are in a random order, in which one with more weight is
    /// more likely to come first (RFC 2782). Dropping the future gives the lookup up.
    ///
    /// # Errors
    /// There is no such domain, it has no such records, or no DNS server has answered in time.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>, SrvError> {
        let (mut tell, told) = oneshot::channel();
        let lookup = self.clone();
        let look_up = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let found = match runtime {
                Ok(runtime) => runtime.block_on(async {
                    match select(pin!(lookup.look_up_in_time()), tell.cancellation()).await {
                        Either::Left((found, _)) => Some(found),
                        // Nobody waits for it any longer.
                        Either::Right(_) => None,
                    }
                }),
                Err(error) => Some(Err(SrvError::failed(&lookup.domain, &error))),
            };
            if let Some(found) = found {
                let _ = tell.send(found);
            }
        };
        thread::Builder::new()
            .name("etcd-watch-srv".into())
            .spawn(look_up)
            .map_err(|error| SrvError::failed(&self.domain, &error))?;
        told.await.unwrap_or_else(|gone| Err(SrvError::failed(&self.domain, &gone)))
    }

    async fn look_up_in_time(&self) -> Result<Vec<Endpoint>, SrvError> {
        let late = || SrvError::Timeout { domain: self.domain.clone(), after: self.timeout };
        tokio::time::timeout(self.timeout, self.look_up()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn look_up(&self) -> Result<Vec<Endpoint>, SrvError> {
        let resolver = self.resolver().map_err(|error| self.failed(&error))?;
        for (service, scheme) in [(WITH_TLS, "https"), (WITHOUT_TLS, "http")] {
            let records = self.records(&resolver, service).await?;
            if !records.is_empty() {
                let endpoint = |record: Record| record.endpoint(scheme);
                return Ok(in_order(records, &mut fastrand::Rng::new())
                    .into_iter()
                    .map(endpoint)
                    .collect::<Result<_, _>>()?);
            }
        }
        // That a name below it doesn't exist says nothing of the domain.
        match resolver.lookup(&self.domain[..], RecordType::SOA).await {
            Err(error) if error.is_nx_domain() => Err(SrvError::NoSuchDomain { domain: self.domain.clone() }),
            _ => Err(SrvError::NoRecords {
                with_tls: self.record_name(WITH_TLS),
                without_tls: self.record_name(WITHOUT_TLS),
            }),
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        if self.name_servers.is_empty() {
            return TokioResolver::builder_tokio()?.build();
        }
        let server = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|each| each.port = address.port());
            server
        };
        let servers = self.name_servers.iter().map(server).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
    }

    /// The records of a service; none if there is no such name.
    async fn records(&self, resolver: &TokioResolver, service: &str) -> Result<Vec<Record>, SrvError> {
        let found = match resolver.srv_lookup(self.record_name(service)).await {
            Ok(found) => found,
            Err(error) if error.is_no_records_found() => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(&error)),
        };
        let records = found.answers().iter().filter_map(|answer| match &answer.data {
            // The root as a target says that the service is not available at this domain.
            RData::SRV(srv) if !srv.target.is_root() => Some(Record {
                priority: srv.priority,
                weight: srv.weight,
                host: srv.target.to_ascii().trim_end_matches('.').to_owned(),
                port: srv.port,
            }),
            _ => None,
        });
        Ok(records.collect())
    }

    fn record_name(&self, service: &str) -> String {
        let Self { domain, name, .. } = self;
        match name.as_deref().filter(|name| !name.is_empty()) {
            Some(name) => format!("_{service}-{name}._tcp.{domain}"),
            None => format!("_{service}._tcp.{domain}"),
        }
    }

    fn failed(&self, error: &NetError) -> SrvError {
        match error {
            NetError::Timeout => SrvError::Timeout { domain: self.domain.clone(), after: self.timeout },
            error => SrvError::failed(&self.domain, error),
        }
    }
}

/// Endpoints could not be found by SRV records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrvError {
    /// There is no such domain.
    #[error("there is no domain {domain}: check its name")]
    NoSuchDomain {
        /// The domain.
        domain: String,
    },
    /// The domain has no such records, or they say that the service is not available.
    #[error(
        "there are no SRV records {with_tls} or {without_tls}: add them, or check the domain and the name"
    )]
    NoRecords {
        /// The name of the records of members with TLS.
        with_tls: String,
        /// The name of the records of members without TLS.
        without_tls: String,
    },
    /// No DNS server has answered in time.
    #[error("no DNS server has told the SRV records of {domain} within {after:?}")]
    Timeout {
        /// The domain.
        domain: String,
        /// The time limit.
        after: Duration,
    },
    /// The lookup failed in another way: a DNS server can't be reached, or has failed itself.
    #[error("the SRV records of {domain} could not be looked up: {message}")]
    Failed {
        /// The domain.
        domain: String,
        /// What went wrong.
        message: String,
    },
    /// A record leads to an endpoint that can't be used.
    #[error("an SRV record is of no use: {0}")]
    Endpoint(#[from] EndpointError),
}

impl SrvError {
    fn failed(domain: &str, error: &dyn std::error::Error) -> Self {
        // A server's text may be in it.
        let message = error.to_string().escape_debug().to_string();
        Self::Failed { domain: domain.into(), message }
    }
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    host: String,
    port: u16,
}

impl Record {
    fn endpoint(&self, scheme: &str) -> Result<Endpoint, EndpointError> {
        format!("{scheme}://{}:{}", self.host, self.port).parse()
    }
}

/// By priority, and within a priority by chance and weight, as RFC 2782 has it.
fn in_order(mut records: Vec<Record>, rng: &mut fastrand::Rng) -> Vec<Record> {
    // Those without weight come first within their priority: the first is found by a chance of 0.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let group = records.iter().take_while(|record| record.priority == priority);
        let total: u32 = group.map(|record| u32::from(record.weight)).sum();
        let chance = rng.u32(0..=total);
        let mut sum = 0;
        let reached = |record: &Record| {
            sum += u32::from(record.weight);
            sum >= chance
        };
        let at = records.iter().position(reached).unwrap_or(0);
        ordered.push(records.remove(at));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, host: &str) -> Record {
        Record { priority, weight, host: host.into(), port: 2379 }
    }

    #[test]
    fn names_are_those_that_etcd_uses() {
        let lookup = SrvLookup::new("example.com");
        assert_eq!(lookup.record_name(WITH_TLS), "_etcd-client-ssl._tcp.example.com");
        let named = lookup.name("blue");
        assert_eq!(named.record_name(WITH_TLS), "_etcd-client-ssl-blue._tcp.example.com");
        assert_eq!(named.record_name(WITHOUT_TLS), "_etcd-client-blue._tcp.example.com");
    }

    #[test]
    fn the_lowest_priority_comes_first_and_weight_makes_it_likely() {
        let records = || {
            vec![
                record(20, 0, "last"),
                record(10, 90, "heavy"),
                record(10, 10, "light"),
                record(10, 0, "zero"),
            ]
        };
        let mut rng = fastrand::Rng::with_seed(7);
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            let ordered = in_order(records(), &mut rng);
            assert_eq!(ordered.len(), 4);
            assert_eq!(ordered[3].host, "last");
            *first.entry(ordered[0].host.clone()).or_insert(0) += 1;
        }
        assert!((850..950).contains(&first["heavy"]), "{first:?}");
        assert!((50..150).contains(&first["light"]), "{first:?}");
        assert!((1..40).contains(&first["zero"]), "{first:?}");
    }

    #[test]
    fn a_record_is_an_endpoint() {
        let endpoint = record(1, 1, "etcd-0.example.com").endpoint("https").expect("an endpoint");
        assert_eq!(endpoint.to_string(), "https://etcd-0.example.com:2379");
        assert!(record(1, 1, "no host").endpoint("http").is_err());
    }
}
