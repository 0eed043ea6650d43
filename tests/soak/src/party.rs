//! One client, whatever its runtime.

use std::{pin::Pin, sync::Arc, time::Duration};

use etcd_watch_client::{
    ApiMisuse, BuildError, CallError, Client, ClientBuilder, Config, Keepalive, MirrorEvent, MirrorRequest,
    Put, Stats, Txn, Watch, WatchError, WatchRequest,
    cache::{Cache, CacheRequest, CacheRequestError},
    proto::etcdserverpb::ResponseHeader,
};
use futures_core::Stream;

use crate::error::SoakError;

/// Which runtime a client is on: what its builder begins with.
type On = fn() -> ClientBuilder;

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A mirror, with its runtime out of sight.
pub(crate) type MirrorEvents = Pin<Box<dyn Stream<Item = Result<MirrorEvent, WatchError>> + Send>>;

/// How often connections are pinged, and how long the answer may take: a frozen member is to be noticed.
const KEEPALIVE: Keepalive = Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(2) };

/// A follower that doesn't know yet that its leader is gone takes writes, and answers after 6 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// After a fault streams have come together on the members that were left.
const SPREAD: Duration = Duration::from_secs(20);

/// How long a quiet stream is left alone, and how long it may take to answer then.
const PROBE: Duration = Duration::from_secs(4);

/// A client and its name.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) party: Arc<dyn Party>,
}

/// The clients that watch and write, on both runtimes.
pub(crate) fn clients(endpoints: &[String]) -> Result<Vec<Member>, SoakError> {
    let config = || {
        Config::default()
            .backoff(Duration::from_millis(10), Duration::from_millis(50), Duration::from_secs(1))
            .answer_timeout(Duration::from_secs(5))
            .progress_interval(Some(Duration::from_secs(5)))
    };
    let probing = |config: Config| config.probe(Some(PROBE)).probe_timeout(PROBE);
    Ok(vec![
        Member { name: "tokio", party: build(etcd_watch_tokio::builder, endpoints, config())? },
        Member {
            name: "tokio, spread",
            party: build(etcd_watch_tokio::builder, endpoints, config().streams(3))?,
        },
        Member { name: "smol", party: build(etcd_watch_smol::builder, endpoints, config())? },
        Member {
            name: "smol, spread, probing",
            party: build(etcd_watch_smol::builder, endpoints, probing(config().streams(3)))?,
        },
    ])
}

/// A client that does what the soak itself has to do, past all proxies.
pub(crate) fn direct(endpoints: &[String]) -> Result<Arc<dyn Party>, SoakError> {
    Ok(build(etcd_watch_tokio::builder, endpoints, Config::default())?)
}

fn build(on: On, endpoints: &[String], config: Config) -> Result<Arc<dyn Party>, BuildError> {
    let client = on()
        .endpoints(endpoints.iter().cloned())
        .watch_config(config)
        .request_timeout(REQUEST_TIMEOUT)
        .dial_timeout(Duration::from_secs(1))
        .keepalive(Some(KEEPALIVE))
        .spread_watches_every(SPREAD)
        .build()?;
    Ok(Arc::new(client))
}

/// A client, with its runtime out of sight. Calls that write return the revision they made.
pub(crate) trait Party: Send + Sync {
    fn watch(&self, request: WatchRequest) -> Result<Watch, ApiMisuse>;
    fn mirror(&self, request: MirrorRequest) -> Result<MirrorEvents, ApiMisuse>;
    fn cache(&self, request: CacheRequest) -> Result<Cache, CacheRequestError>;
    fn stats(&self) -> Stats;
    fn put(&self, put: Put) -> BoxFuture<'_, Result<i64, CallError>>;
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<i64, CallError>>;
    fn lease_grant(&self, seconds: i64) -> BoxFuture<'_, Result<i64, CallError>>;
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), CallError>>;
    fn close(&self) -> BoxFuture<'_, ()>;
}

impl Party for Client {
    fn watch(&self, request: WatchRequest) -> Result<Watch, ApiMisuse> {
        Self::watch(self, request)
    }

    fn mirror(&self, request: MirrorRequest) -> Result<MirrorEvents, ApiMisuse> {
        Ok(Box::pin(Self::mirror(self, request)?))
    }

    fn cache(&self, request: CacheRequest) -> Result<Cache, CacheRequestError> {
        Self::cache(self, request)
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::put(self, put).await?.header)) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::txn(self, txn).await?.header)) })
    }

    fn lease_grant(&self, seconds: i64) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(Self::lease_grant(self, seconds, 0).await?.id) })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move { Self::compact(self, revision, false).await.map(|_| ()) })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::close(self))
    }
}

/// A write that changed nothing has the revision of an earlier one.
fn revision(header: Option<ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}
