//! A mirror's fold is the store's state at every revision it announces, whatever happens to connections, history
//! and the store.

use std::{collections::BTreeMap, time::Duration};

use etcd_watch_client::{
    AmbientRuntime, Client, CloseReason, Config, Delete, EventKind, Get, KeyRange, ListReason, Mirror,
    MirrorEvent, MirrorRequest, Put, Txn,
};
use etcd_watch_smol::{SmolRuntime, async_std::AsyncStdRuntime};
use etcd_watch_testkit::{
    harness::{EtcdServer, EtcdVersion},
    model::ModelConfig,
    proxy::{Cut, FaultProxy},
    server::EmbeddedEtcd,
};
use etcd_watch_tokio::TokioRuntime;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// The store under a prefix: keys with their values and the revisions they are of.
type State = BTreeMap<Vec<u8>, (Vec<u8>, i64)>;

/// A consumer that folds a mirror as its documentation says.
struct Fold<R: etcd_watch_client::Runtime> {
    mirror: Mirror<R>,
    state: State,
    reasons: Vec<ListReason>,
    deletes: usize,
}

impl<R: AmbientRuntime> Fold<R> {
    fn new(client: &Client<R>, request: MirrorRequest) -> Self {
        let mirror = client.mirror(request).expect("it is opened");
        Self { mirror, state: State::new(), reasons: Vec::new(), deletes: 0 }
    }

    /// Folds the next event in; the revision that the fold is at then.
    async fn step(&mut self) -> Option<i64> {
        let event = timeout(DEADLINE, self.mirror.try_next()).await.expect("in time");
        let event = event.expect("it goes on").expect("it does not end");
        match &event {
            MirrorEvent::Listing { reason, .. } => self.reasons.push(reason.clone()),
            MirrorEvent::Snapshot(part) => {
                for key in part.deletes() {
                    assert!(self.state.remove(&key[..]).is_some(), "what is deleted was there");
                    self.deletes += 1;
                }
                for kv in part.puts() {
                    self.state.insert(kv.key.to_vec(), (kv.value.to_vec(), kv.mod_revision));
                }
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete => self.state.remove(event.key()),
                        _ => self
                            .state
                            .insert(event.key().to_vec(), (event.value().to_vec(), event.mod_revision())),
                    };
                }
            }
            MirrorEvent::Synced { .. } => {}
            other => panic!("{other:?}"),
        }
        event.synced_revision()
    }

    /// Folds until everything up to a revision is in.
    async fn through(&mut self, revision: i64) {
        while self.step().await.is_none_or(|at| at < revision) {}
    }

    /// Folds until it is at some revision, and compares with the store at that revision.
    async fn check(&mut self, direct: &Client<R>, through: i64) {
        self.through(through).await;
        let at = self.mirror.synced_revision().expect("it is synced");
        let now = direct.get(Get::prefix("m/").revision(at)).await.expect("it is read");
        let stored: State =
            now.kvs.into_iter().map(|kv| (kv.key.into(), (kv.value.into(), kv.mod_revision))).collect();
        assert_eq!(self.state, stored, "at revision {at}");
    }
}

async fn put<R: AmbientRuntime>(client: &Client<R>, key: String, value: &str) -> i64 {
    client.put(Put::new(key, value.to_owned())).await.expect("it is put").header.expect("a header").revision
}

/// Some hundred keys come, change and go; the last revision.
async fn write<R: AmbientRuntime>(client: &Client<R>, round: usize) -> i64 {
    for index in 0..60 {
        put(client, format!("m/{:03}", (round * 37 + index * 7) % 200), &format!("{round}.{index}")).await;
    }
    let range = KeyRange::range(format!("m/{:03}", round * 20), format!("m/{:03}", round * 20 + 9));
    let mut txn = Txn::new().and_then(Delete::new(range.expect("a range")));
    for index in 0..5 {
        txn = txn.and_then(Put::new(format!("m/{:03}", 300 + round * 5 + index), "at once"));
    }
    client.txn(txn).await.expect("it is made");
    put(client, "other".into(), "not mirrored").await;
    put(client, "m/last".into(), &round.to_string()).await
}

async fn a_mirror_follows_through_everything<R: AmbientRuntime>(endpoint: String) {
    let proxy = FaultProxy::start(endpoint.clone()).await.expect("it starts");
    let config = Config::default().backoff(
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(100),
    );
    let client: Client<R> =
        Client::builder().endpoints([proxy.endpoint()]).watch_config(config).build().expect("valid");
    let direct: Client<R> = Client::builder().endpoints([endpoint]).build().expect("valid");

    let last = write(&direct, 0).await;
    // Every connection is cut within the list: 1,500 bytes are less than it.
    proxy.cut_each_after_bytes(1_500, Cut::Reset);
    let mut fold = Fold::new(&client, MirrorRequest::new(KeyRange::prefix("m/")).page_keys(7));
    fold.check(&direct, last).await;
    assert!(proxy.cuts() > 0);
    // And the watch again and again, though not before it has brought what it has to catch up with.
    proxy.cut_each_after_bytes(20_000, Cut::Reset);
    for round in 1..4 {
        proxy.cut_all(Cut::Close);
        let last = write(&direct, round).await;
        fold.check(&direct, last).await;
    }
    proxy.restore();
    assert_eq!(fold.reasons, [ListReason::First], "cuts alone are no reason to list again");

    // What it needs is compacted while it can't be reached; keys are deleted meanwhile.
    for round in 4..7 {
        proxy.refuse();
        proxy.cut_all(Cut::Close);
        direct.delete(Delete::prefix("m/1")).await.expect("they are deleted");
        let last = write(&direct, round).await;
        direct.compact(last, true).await.expect("it is compacted");
        put(&direct, "m/last".into(), "after the compaction").await;
        let deletes = fold.deletes;
        proxy.restore();
        fold.check(&direct, last + 1).await;
        assert!(fold.deletes > deletes, "deletes that are not in history any more are handed out");
        assert_eq!(fold.reasons.last(), Some(&ListReason::Compacted));
    }

    // Another one, on the same keys from a client that sees nothing else.
    let within = client.namespaced("m/").expect("a prefix");
    let mut inner = Fold::new(&within, MirrorRequest::new(KeyRange::all()).keep_index(true));
    let last = put(&direct, "m/last".into(), "for both").await;
    inner.through(last).await;
    fold.check(&direct, last).await;
    let stripped: State = fold.state.iter().map(|(key, value)| (key[2..].to_vec(), value.clone())).collect();
    assert_eq!(inner.state, stripped);

    client.close().await;
    let end = loop {
        match timeout(DEADLINE, fold.mirror.next()).await.expect("in time") {
            Some(Ok(_)) => {}
            Some(Err(end)) => break end.into_reason(),
            None => panic!("it says why"),
        }
    };
    assert_eq!(end, CloseReason::ShutDown);
    assert!(fold.mirror.next().await.is_none());
}

async fn on_the_model<R: AmbientRuntime>() {
    let server = EmbeddedEtcd::start(ModelConfig::default()).await.expect("it starts");
    a_mirror_follows_through_everything::<R>(server.endpoint()).await;
}

async fn on_real_servers<R: AmbientRuntime>() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        a_mirror_follows_through_everything::<R>(server.endpoint()).await;
    }
}

/// A client that is closed while the mirror has nobody to list from.
async fn a_mirror_without_a_server_ends_with_its_client<R: AmbientRuntime>() {
    let client: Client<R> = Client::builder().endpoints(["http://127.0.0.1:1"]).build().expect("valid");
    let mut mirror = client.mirror(MirrorRequest::new(KeyRange::all())).expect("it is opened");
    let early = timeout(Duration::from_millis(100), mirror.next()).await;
    assert!(early.is_err(), "{early:?}");
    client.close().await;
    let end = timeout(DEADLINE, mirror.next()).await.expect("in time").expect("the reason");
    assert_eq!(end.expect_err("it is over").into_reason(), CloseReason::ShutDown);
    assert!(client.mirror(MirrorRequest::new(KeyRange::all())).is_err());
}

macro_rules! on {
    ($($module:ident: $runtime:ty;)*) => {$(
        mod $module {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_the_model() {
                super::on_the_model::<$runtime>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_real_servers() {
                super::on_real_servers::<$runtime>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_mirror_without_a_server_ends_with_its_client() {
                super::a_mirror_without_a_server_ends_with_its_client::<$runtime>().await;
            }
        }
    )*};
}

on! {
    tokio_runtime: crate::TokioRuntime;
    smol_runtime: crate::SmolRuntime;
    async_std_runtime: crate::AsyncStdRuntime;
}
