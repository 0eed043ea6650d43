//! One client, whatever its runtime.

use std::{pin::Pin, sync::Arc, time::Duration};

use etcd_watch_client::{
    CallError, Client, ClientBuilder, Config, Delete, Get, Keepalive, Put, Stats, Txn, Watch, WatchRequest,
    proto::etcdserverpb::ResponseHeader,
};

/// Which runtime a client is on: what its builder begins with.
type On = fn() -> ClientBuilder;

/// How often connections are pinged, and how long the answer may take: the shortest there is.
pub(crate) const KEEPALIVE: Keepalive =
    Keepalive { interval: Duration::from_secs(5), timeout: Duration::from_secs(1) };

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The runtimes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

/// What a client is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<String>,
    pub(crate) config: Config,
    pub(crate) request_timeout: Duration,
    pub(crate) dial_timeout: Duration,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) sync_every: Option<Duration>,
    pub(crate) spread_every: Option<Duration>,
}

impl Settings {
    /// Quick to try again, so that scenarios are short.
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            config: quick(),
            // A follower that doesn't know yet that its leader is gone takes writes, and answers after 6 s.
            request_timeout: Duration::from_secs(2),
            dial_timeout: Duration::from_secs(1),
            keepalive: Some(KEEPALIVE),
            sync_every: None,
            spread_every: None,
        }
    }

    pub(crate) fn config(mut self, change: impl FnOnce(Config) -> Config) -> Self {
        self.config = change(self.config);
        self
    }
}

fn quick() -> Config {
    Config::default()
        .backoff(Duration::from_millis(5), Duration::from_millis(20), Duration::from_millis(300))
        .answer_timeout(Duration::from_secs(2))
        .linger(Duration::from_millis(200))
}

impl On {
    pub(crate) const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::AsyncStd];

    /// What its client is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::AsyncStd => "async-std",
        }
    }

    pub(crate) fn client(self, settings: Settings) -> Arc<dyn Party> {
        match self {
            Self::Tokio => build(etcd_watch_tokio::builder, settings),
            Self::Smol => build(etcd_watch_smol::builder, settings),
            Self::AsyncStd => build(etcd_watch_smol::async_std::builder, settings),
        }
    }
}

fn build(on: On, settings: Settings) -> Arc<dyn Party> {
    let mut builder = on()
        .endpoints(settings.endpoints)
        .watch_config(settings.config)
        .request_timeout(settings.request_timeout)
        .dial_timeout(settings.dial_timeout)
        .keepalive(settings.keepalive);
    if let Some(interval) = settings.sync_every {
        builder = builder.sync_endpoints_every(interval);
    }
    if let Some(interval) = settings.spread_every {
        builder = builder.spread_watches_every(interval);
    }
    Arc::new(builder.build().expect("valid settings"))
}

/// A client, with its runtime out of sight. Calls that write return the revision they made.
pub(crate) trait Party: Send + Sync {
    fn watch(&self, request: WatchRequest) -> Watch;
    fn stats(&self) -> Stats;
    fn put(&self, put: Put) -> BoxFuture<'_, Result<i64, CallError>>;
    fn delete(&self, delete: Delete) -> BoxFuture<'_, Result<i64, CallError>>;
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<i64, CallError>>;
    /// The store's revision, by reading a key.
    fn get(&self, get: Get) -> BoxFuture<'_, Result<i64, CallError>>;
    fn endpoints(&self) -> Vec<String>;
    fn set_endpoints(&self, endpoints: Vec<String>);
    fn sync_endpoints(&self) -> BoxFuture<'_, Vec<String>>;
    fn spread_watches(&self) -> BoxFuture<'_, ()>;
}

impl Party for Client {
    fn watch(&self, request: WatchRequest) -> Watch {
        Self::watch(self, request).expect("a lawful request")
    }

    fn stats(&self) -> Stats {
        Self::stats(self)
    }

    fn put(&self, put: Put) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::put(self, put).await?.header)) })
    }

    fn delete(&self, delete: Delete) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::delete(self, delete).await?.header)) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::txn(self, txn).await?.header)) })
    }

    fn get(&self, get: Get) -> BoxFuture<'_, Result<i64, CallError>> {
        Box::pin(async move { Ok(revision(Self::get(self, get).await?.header)) })
    }

    fn endpoints(&self) -> Vec<String> {
        Self::endpoints(self).iter().map(ToString::to_string).collect()
    }

    fn set_endpoints(&self, endpoints: Vec<String>) {
        Self::set_endpoints(self, endpoints).expect("endpoints");
    }

    fn sync_endpoints(&self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let endpoints = Self::sync_endpoints(self).await.expect("the member list is read");
            endpoints.iter().map(ToString::to_string).collect()
        })
    }

    fn spread_watches(&self) -> BoxFuture<'_, ()> {
        Box::pin(Self::spread_watches(self))
    }
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.expect("etcd sends headers").revision
}
