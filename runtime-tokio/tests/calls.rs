//! Keys, transactions and leases through the whole client, against the embedded etcd.

mod common;

use common::{DEADLINE, SECOND, put, runtime, start, through_proxy};
use etcd_watch_testkit::{model::ModelConfig, proxy::Cut, server::EmbeddedEtcd};
use etcd_watch_tokio::{
    BuildError, CallError, ClientBuilder, Code, Compact, Compare, Delete, Get, KeyRange, LeaseLost,
    LeaseTimeToLive, Put, SortBy, SortOrder, StartError, Txn,
    concurrency::{Session, SessionLost},
};
use tokio::time::timeout;

/// An endpoint nobody listens on.
async fn dead_endpoint() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("bound"))
}

#[tokio::test]
async fn keys_are_read_written_and_deleted_with_every_option() {
    let (_etcd, client) = start().await;
    for n in 0..5 {
        put(&client, n).await;
    }
    let newest = Get::prefix("key").sort(SortBy::ModRevision, SortOrder::Descending).limit(2);
    let found = client.get(newest).await.unwrap();
    let keys: Vec<_> = found.kvs().iter().map(|kv| &kv.key[..]).collect();
    assert_eq!((keys, found.has_more(), found.count()), (vec![&b"key4"[..], b"key3"], true, 5));

    let counted = client.get(Get::prefix("key").count_only(true)).await.unwrap();
    assert_eq!((counted.count(), counted.kvs().len()), (5, 0));
    let old = client.get(Get::key("key3").revision(4).serializable(true)).await.unwrap();
    assert_eq!(old.count(), 0, "key3 was put at revision 5");

    let replaced = client.put_with(Put::new("key0", "new").prev_kv(true)).await.unwrap();
    assert_eq!(replaced.prev().unwrap().value, "value0");
    let deleted = client.delete(Delete::new(KeyRange::prefix("key")).prev_kv(true)).await.unwrap();
    assert_eq!((deleted.deleted(), deleted.prevs().len()), (5, 5));
    assert!(client.get("key0").await.unwrap().kvs().is_empty());
}

#[tokio::test]
async fn a_transaction_takes_one_branch_in_one_revision() {
    let (_etcd, client) = start().await;
    let create = || {
        Txn::new()
            .when(Compare::missing("lock"))
            .and_then(Put::new("lock", "mine"))
            .and_then(Txn::new().and_then(Put::new("count", "1")))
            .or_else(Get::key("lock"))
    };
    assert!(client.txn(create()).await.unwrap().succeeded());
    assert!(!client.txn(create()).await.unwrap().succeeded());
    let revision = |key| {
        let client = client.clone();
        async move { client.get(key).await.unwrap().kvs()[0].mod_revision }
    };
    assert_eq!(revision("lock").await, revision("count").await);
}

#[tokio::test]
async fn the_servers_refusal_comes_back_with_its_code() {
    let (_etcd, client) = start().await;
    for n in 0..5 {
        put(&client, n).await;
    }
    client.compact(Compact::before(5).physical()).await.unwrap();
    let error = client.get(Get::key("key0").revision(2)).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { code: Code::OutOfRange, .. }), "{error}");
    let error = client.put_with(Put::new("key", "value").lease(99)).await.unwrap_err();
    assert!(matches!(error, CallError::Refused { code: Code::NotFound, .. }), "{error}");
}

#[tokio::test]
async fn a_call_goes_on_at_another_endpoint() {
    let (etcd, _) = start().await;
    let client = etcd_watch_tokio::connect([dead_endpoint().await, etcd.endpoint()]).await.unwrap();
    put(&client, 0).await;
    let (proxy, _) = through_proxy(&etcd).await;
    let client = etcd_watch_tokio::connect([proxy.endpoint(), etcd.endpoint()]).await.unwrap();
    client.get("key0").await.unwrap();
    proxy.refuse();
    proxy.cut_all(Cut::Reset);
    assert_eq!(client.get("key0").await.unwrap().count(), 1);
}

#[tokio::test]
async fn a_read_survives_every_cut() {
    let (etcd, writer) = start().await;
    put(&writer, 0).await;
    let (proxy, client) = through_proxy(&etcd).await;
    for _ in 0..100 {
        assert_eq!(client.get("key0").await.unwrap().count(), 1);
        proxy.cut_all(Cut::Reset);
    }
}

#[tokio::test]
async fn a_read_that_hangs_is_made_elsewhere_in_time() {
    let (etcd, writer) = start().await;
    put(&writer, 0).await;
    let (proxy, _) = through_proxy(&etcd).await;
    let client = ClientBuilder::on(runtime())
        .endpoints([proxy.endpoint(), etcd.endpoint()])
        .request_timeout(8 * SECOND)
        .connect_lazy()
        .unwrap();
    client.get("key0").await.unwrap();
    proxy.black_hole();
    assert_eq!(client.get("key0").await.unwrap().count(), 1);
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_may_have_been_executed() {
    let (etcd, _) = start().await;
    let (proxy, _) = through_proxy(&etcd).await;
    let client = ClientBuilder::on(runtime())
        .endpoints([proxy.endpoint()])
        .request_timeout(3 * SECOND)
        .connect_lazy()
        .unwrap();
    put(&client, 0).await;
    proxy.hold();
    let error = client.put("key1", "value1").await.unwrap_err();
    assert!(matches!(error, CallError::MaybeExecuted { method: "Put", .. }), "{error}");
    proxy.release();
    // The connection that hung has been given up.
    put(&client, 2).await;
}

#[tokio::test]
async fn a_write_that_never_left_was_surely_not_executed() {
    let client = ClientBuilder::on(runtime())
        .endpoints([dead_endpoint().await])
        .request_timeout(SECOND / 2)
        .connect_lazy()
        .unwrap();
    let error = client.put("key", "value").await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { method: "Put", last: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_told_by_its_size() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.unwrap();
    let builder = ClientBuilder::on(runtime()).endpoints([etcd.endpoint()]).max_message_bytes(1_000);
    let client = builder.connect_lazy().unwrap();
    client.put("key", vec![b'x'; 2_000]).await.unwrap();
    let error = client.get("key").await.unwrap_err();
    assert!(matches!(error, CallError::ResponseTooLarge { bytes: 2_001.., limit: 1_000, .. }), "{error}");
}

#[tokio::test]
async fn connecting_waits_unless_it_is_lazy() {
    let endpoint = dead_endpoint().await;
    let waiting =
        etcd_watch_tokio::builder().endpoints([endpoint.clone()]).connect_timeout(SECOND / 4).connect();
    let error = waiting.await.unwrap_err();
    let StartError::Unreachable { endpoints, .. } = &error else { panic!("{error}") };
    assert_eq!(endpoints[0].endpoint.to_string(), endpoint);
    etcd_watch_tokio::connect_lazy([endpoint]).unwrap();

    let (etcd, _) = start().await;
    let waiting =
        etcd_watch_tokio::builder().endpoints([etcd.endpoint()]).connect_timeout(DEADLINE).connect();
    waiting.await.unwrap();
}

#[tokio::test]
async fn what_can_never_work_is_refused_at_once() {
    let refused = |endpoints: &[&str]| {
        etcd_watch_tokio::connect(endpoints.iter().copied().map(String::from).collect::<Vec<_>>())
    };
    let error = refused(&[]).await.unwrap_err();
    assert_eq!(error, StartError::Build(BuildError::NoEndpoints));
    for bad in ["no port", "ftp://host:1", "unix:/socket"] {
        let error = refused(&[bad]).await.unwrap_err();
        assert!(matches!(error, StartError::Build(BuildError::Endpoint(_))), "{error}");
    }
}

#[tokio::test]
async fn a_lease_takes_its_keys_with_it() {
    let (_etcd, client) = start().await;
    let lease = client.lease_grant(60 * SECOND).await.unwrap();
    client.put_with(Put::new("key", "value").lease(lease.id())).await.unwrap();
    let left = client.lease_time_to_live(LeaseTimeToLive::new(lease.id()).keys(true)).await.unwrap().unwrap();
    assert_eq!((left.granted_ttl, &left.keys[..]), (60 * SECOND, &["key".into()][..]));
    let renewed = client.lease_keep_alive_once(lease.id()).await.unwrap().unwrap();
    assert_eq!((renewed.id(), renewed.ttl()), (lease.id(), 60 * SECOND));
    client.lease_revoke(lease.id()).await.unwrap();
    assert!(client.get("key").await.unwrap().kvs().is_empty());
    assert!(client.lease_keep_alive_once(lease.id()).await.unwrap().is_none());
    assert_eq!(client.lease_time_to_live(lease.id()).await.unwrap(), None);
    assert!(client.lease_grant(SECOND / 2).await.is_err());
    assert!(client.lease_keep_alive(lease.id(), std::time::Duration::ZERO).is_err());
}

#[tokio::test]
async fn a_kept_lease_lives_on_through_cuts_until_it_is_let_go() {
    let (etcd, _) = start().await;
    let (proxy, client) = through_proxy(&etcd).await;
    let lease = client.lease_grant(5 * SECOND).await.unwrap();
    let keeper = lease.keep_alive();
    for _ in 0..14 {
        tokio::time::sleep(SECOND / 2).await;
        proxy.cut_all(Cut::Reset);
    }
    assert_eq!(keeper.lost_reason(), None);
    assert!(!keeper.remaining().is_zero());
    drop(keeper);
    let gone = async {
        while client.lease_time_to_live(lease.id()).await.unwrap().is_some() {
            tokio::time::sleep(SECOND / 10).await;
        }
    };
    timeout(DEADLINE, gone).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_lost_is_told() {
    let (mut etcd, client) = start().await;
    let revoked = client.lease_grant(5 * SECOND).await.unwrap();
    let keeper = client.lease_keep_alive(revoked.id(), revoked.ttl()).unwrap();
    client.lease_revoke(revoked.id()).await.unwrap();
    let lost = timeout(DEADLINE, keeper.lost()).await.unwrap();
    assert_eq!(lost, LeaseLost::NotFound { id: revoked.id() });

    let lease = client.lease_grant(2 * SECOND).await.unwrap();
    let keeper = lease.keep_alive();
    etcd.stop().await;
    let lost = timeout(DEADLINE, keeper.lost()).await.unwrap();
    assert!(matches!(lost, LeaseLost::Expired { .. }), "{lost}");
    assert!(keeper.remaining().is_zero());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_runtime_is_shut_down_is_lost_and_says_so() {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await.expect("a free port");
    let endpoint = etcd.endpoint();
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let kept = runtime.block_on(async {
            let client = etcd_watch_tokio::connect([endpoint]).await.expect("a valid endpoint");
            let lease = client.lease_grant(60 * SECOND).await.unwrap();
            let keeper = lease.keep_alive();
            (keeper, Session::open(&client).await.unwrap())
        });
        runtime.shutdown_background();
        kept
    });
    let joined = tokio::task::spawn_blocking(|| other.join()).await.expect("it is waited for");
    let (keeper, session) = joined.expect("it ends");
    let lost = timeout(DEADLINE, keeper.lost()).await.unwrap();
    assert_eq!(lost, LeaseLost::Stopped { id: keeper.id() });
    assert!(keeper.remaining().is_zero());
    let lost = timeout(DEADLINE, session.lost()).await.unwrap();
    assert_eq!(lost, SessionLost::Lease(LeaseLost::Stopped { id: session.id() }));
}
