//! The clients of the soak.

use std::time::Duration;

use etcd_watch_client::{BuildError, Client, ClientBuilder, Keepalive, WatchConfig};

use crate::error::SoakError;

/// How often connections are pinged, and how long the answer may take: a frozen member is to be noticed.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(2) };

/// A follower that doesn't know yet that its leader is gone takes writes, and answers after 6 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// After a fault streams have come together on the members that were left.
const SPREAD: Duration = Duration::from_secs(20);

/// How often one client asks for the member list, and follows it.
const SYNC: Duration = Duration::from_secs(2);

/// How long a quiet stream is left alone, and how long it may take to answer then.
const PROBE: Duration = Duration::from_secs(4);

/// A client and its name.
#[derive(Clone)]
pub(crate) struct NamedClient {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
}

/// The clients that watch and write, on both runtimes. The endpoints are those of members there are or may be. One client
/// knows only the first so many, and follows the member list.
pub(crate) fn clients(endpoints: &[String], first: usize) -> Result<Vec<NamedClient>, SoakError> {
    let config = || {
        WatchConfig::default()
            .backoff(Duration::from_millis(10), Duration::from_millis(50), Duration::from_secs(1))
            .answer_timeout(Duration::from_secs(5))
            .progress_interval(Some(Duration::from_secs(5)))
    };
    let probing = |config: WatchConfig| config.probe(Some(PROBE)).probe_timeout(PROBE);
    Ok(vec![
        NamedClient { name: "tokio", client: build(etcd_watch_tokio::builder(), endpoints, config())? },
        NamedClient {
            name: "tokio, spread, following",
            client: build(
                etcd_watch_tokio::builder().sync_endpoints_every(SYNC),
                &endpoints[..first.min(endpoints.len())],
                config().streams(3),
            )?,
        },
        NamedClient { name: "smol", client: build(etcd_watch_smol::builder(), endpoints, config())? },
        NamedClient {
            name: "smol, spread, probing",
            client: build(etcd_watch_smol::builder(), endpoints, probing(config().streams(3)))?,
        },
    ])
}

/// A client that does what the soak itself has to do, past all proxies.
pub(crate) fn direct(endpoints: &[String]) -> Result<Client, SoakError> {
    Ok(build(etcd_watch_tokio::builder(), endpoints, WatchConfig::default())?)
}

fn build(builder: ClientBuilder, endpoints: &[String], config: WatchConfig) -> Result<Client, BuildError> {
    builder
        .endpoints(endpoints.iter().cloned())
        .watch_config(config)
        .request_timeout(REQUEST_TIMEOUT)
        .dial_timeout(Duration::from_secs(1))
        .keepalive(Some(KEEPALIVE))
        .spread_watches_every(SPREAD)
        .connect_lazy()
}
