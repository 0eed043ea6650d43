//! A cache is only ever the store at one revision, tells its subscribers all that changes, and comes to any revision
//! that is waited for, whatever happens to connections, history and servers.

mod ending;
mod following;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod subscribing;
mod waiting;

use std::{collections::BTreeMap, future::Future, time::Duration};

use etcd_watch_client::{
    Client, Delete, Get, KeyRange, Put, Txn, WatchConfig,
    cache::{Cache, CacheChange, CacheEvent, CacheRequest, Snapshot},
};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    server::EmbeddedEtcd,
};
use runtime::On;

pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Keys with their values and the revisions they are of.
pub(crate) type State = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

pub(crate) fn state<P>(snapshot: &Snapshot<P>) -> State {
    let pair = |kv: &etcd_watch_client::cache::CachedKv<P>| {
        (kv.key().to_vec(), (kv.value().to_vec(), kv.mod_revision()))
    };
    snapshot.iter().map(pair).collect()
}

/// Folds changes into a state, and checks that they say right what was before.
pub(crate) fn fold<P>(state: &mut State, changes: &[CacheChange<P>]) {
    for change in changes {
        let was = match change.kv() {
            Some(kv) => state.insert(kv.key().to_vec(), (kv.value().to_vec(), kv.mod_revision())),
            None => state.remove(change.key()),
        };
        let prev = change.prev().map(|prev| (prev.value().to_vec(), prev.mod_revision()));
        assert_eq!(prev, was, "{change:?}");
    }
}

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("in time")
}

pub(crate) fn client(on: On, endpoint: String) -> Client {
    let config = WatchConfig::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(100),
    );
    on.builder().endpoints([endpoint]).watch_config(config).connect_lazy().expect("valid")
}

pub(crate) fn cache(client: &Client) -> Cache {
    client.cache(CacheRequest::new(KeyRange::prefix("c/")).page_bytes(1 << 10)).expect("it is made")
}

/// The keys under the cache's prefix, as they were.
pub(crate) async fn stored(client: &Client, revision: i64) -> Option<State> {
    let read = client.get(Get::prefix("c/").revision(revision)).await.ok()?;
    Some(read.into_kvs().into_iter().map(|kv| (kv.key.into(), (kv.value.into(), kv.mod_revision))).collect())
}

pub(crate) async fn put(client: &Client, key: &str, value: &str) -> i64 {
    let put = in_time(client.put(key.to_owned(), value.to_owned())).await;
    put.expect("it is put").revision()
}

/// Keys come, change and go, some of them many at once; the last revision.
pub(crate) async fn write(client: &Client, round: usize) -> i64 {
    for index in 0..40 {
        put(client, &format!("c/{:03}", (round * 37 + index * 7) % 200), &format!("{round}.{index}")).await;
    }
    let range = KeyRange::range(format!("c/{:03}", round * 20), format!("c/{:03}", round * 20 + 9));
    let mut txn = Txn::new().and_then(Delete::new(range.expect("a range")));
    for index in 0..5 {
        txn = txn.and_then(Put::new(format!("c/{:03}", 300 + round * 5 + index), "at once"));
    }
    in_time(client.txn(txn)).await.expect("it is made");
    put(client, "other", "not cached").await;
    put(client, "c/last", &round.to_string()).await
}

/// The next changes and the state after them.
pub(crate) fn changes<P>(event: CacheEvent<P>) -> (Vec<CacheChange<P>>, Snapshot<P>) {
    match event {
        CacheEvent::Changes(changes) | CacheEvent::Resynced { changes, .. } => {
            let after = changes.snapshot().clone();
            (changes.into_changes(), after)
        }
        other => panic!("{:?} are no changes", std::mem::discriminant(&other)),
    }
}

pub(crate) async fn model() -> EmbeddedEtcd {
    EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts")
}

pub(crate) async fn real(version: EtcdVersion) -> EtcdServer {
    EtcdServer::builder(version).start_async().await.expect("etcd starts")
}

pub(crate) async fn real_servers() -> Vec<EtcdServer> {
    let mut servers = Vec::new();
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        servers.push(real(version).await);
    }
    servers
}
