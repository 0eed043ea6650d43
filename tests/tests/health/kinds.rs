//! One of each kind, and who uses it.

use std::{any::Any, time::Duration};

use etcd_watch_client::{
    Client, KeyRange, Monitor,
    cache::{Cache, CacheRequest},
    concurrency::Session,
    config::Config,
};
use tokio::task::JoinHandle;

/// How long a cache may be away.
pub(crate) const UNREADY_AFTER: Duration = Duration::from_millis(400);

/// Long enough to survive the story.
pub(crate) const TTL: Duration = Duration::from_secs(20);

/// Something that is monitored.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) monitor: Monitor,
    /// It, or the task that uses it.
    pub(crate) it: Box<dyn Any>,
}

/// A task that ends with this.
struct Using(JoinHandle<()>);

impl Drop for Using {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Kind {
    fn new(name: &'static str, monitor: Monitor, it: impl Any) -> Self {
        Self { name, monitor, it: Box::new(it) }
    }
}

pub(crate) fn cache(client: &Client) -> Cache {
    client.cache(CacheRequest::new(KeyRange::prefix("h/")).unready_after(UNREADY_AFTER)).expect("it is made")
}

/// A client that makes a call now and then.
pub(crate) fn calls(client: &Client) -> Kind {
    let monitor = client.monitor();
    let client = client.clone();
    let calling = tokio::spawn(async move {
        loop {
            // How calls go is what the client's health tells.
            let _ = client.get("h/any").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    Kind::new("client", monitor, Using(calling))
}

pub(crate) fn watch(client: &Client) -> Kind {
    let mut watch = client.watch(KeyRange::prefix("h/")).expect("it is opened");
    let monitor = watch.monitor();
    Kind::new("watch", monitor, Using(tokio::spawn(async move { while watch.next().await.is_some() {} })))
}

pub(crate) fn mirror(client: &Client) -> Kind {
    let mut mirror = client.mirror(KeyRange::prefix("h/")).expect("it is opened");
    let monitor = mirror.monitor();
    Kind::new("mirror", monitor, Using(tokio::spawn(async move { while mirror.next().await.is_some() {} })))
}

/// One of each, of which that of sessions takes longest to notice anything.
pub(crate) async fn all(client: &Client) -> Vec<Kind> {
    let cache = cache(client);
    let config = Config::value(client, "h/config", |value: &[u8]| String::from_utf8(value.to_vec()));
    let config = config.expect("it is made");
    let session = Session::builder(client).ttl(TTL).open().await.expect("it is opened");
    vec![
        calls(client),
        watch(client),
        mirror(client),
        Kind::new("cache", cache.monitor(), cache),
        Kind::new("config", config.monitor(), config),
        Kind::new("session", session.monitor(), session),
    ]
}
