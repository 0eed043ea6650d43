//! Calls: reads with all their options, writes, transactions, leases.

use std::time::Duration;

use etcd_watch_client::{
    CallError, Code, Compare, Delete, Get, GetResponse, KeyRange, LeaseGrant, LeaseLost, LeaseTimeToLive,
    Put, SortBy, SortOrder, Txn,
};
use etcd_watch_testkit::proxy::Cut;
use tokio::time::timeout;

use crate::{
    observer::Ask,
    world::{Backend, DEADLINE, World},
};

fn keys(response: &GetResponse) -> Vec<&str> {
    response.kvs().iter().map(|kv| str::from_utf8(&kv.key).expect("text")).collect()
}

pub(crate) async fn reads_have_all_their_options(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let get = async |get: Get| client.get(get).await.expect("it is read");
    let first = world.put("g/b", "2").await;
    world.put("g/a", "3").await;
    world.put("g/c", "1").await;
    let last = world.put("g/b", "4").await;
    let all = || Get::prefix("g/");

    let response = get(all()).await;
    assert_eq!(
        (keys(&response), response.count(), response.has_more()),
        (vec!["g/a", "g/b", "g/c"], 3, false)
    );
    let response = get(all().limit(2)).await;
    assert_eq!((keys(&response), response.count(), response.has_more()), (vec!["g/a", "g/b"], 3, true));
    let response = get(all().count_only(true)).await;
    assert_eq!((response.kvs().len(), response.count()), (0, 3));
    let response = get(all().keys_only(true)).await;
    assert!(response.kvs().iter().all(|kv| kv.value.is_empty()));
    let sorted = async |by, order| {
        keys(&get(all().sort(by, order)).await).iter().map(|key| &key[2..]).collect::<String>()
    };
    assert_eq!(sorted(SortBy::Key, SortOrder::Descending).await, "cba");
    assert_eq!(sorted(SortBy::Version, SortOrder::Descending).await.chars().next(), Some('b'));
    assert_eq!(sorted(SortBy::CreateRevision, SortOrder::Ascending).await, "bac");
    assert_eq!(sorted(SortBy::ModRevision, SortOrder::Ascending).await, "acb");
    assert_eq!(sorted(SortBy::Value, SortOrder::Ascending).await, "cab");
    let response = get(Get::key("g/b").revision(first)).await;
    assert_eq!((&response.kvs()[0].value[..], response.kvs()[0].version), (&b"2"[..], 1));
    assert_eq!(keys(&get(all().min_mod_revision(last)).await), ["g/b"]);
    assert_eq!(keys(&get(all().max_mod_revision(last - 1)).await), ["g/a", "g/c"]);
    assert_eq!(keys(&get(all().min_create_revision(first + 1)).await), ["g/a", "g/c"]);
    assert_eq!(keys(&get(all().max_create_revision(first)).await), ["g/b"]);
    assert_eq!(keys(&get(Get::key("g/a").serializable(true)).await), ["g/a"]);
    assert_eq!(keys(&get(Get::new(KeyRange::from_key("g/c"))).await), ["g/c"]);

    world.compact(last).await;
    let compacted = client.get(Get::key("g/b").revision(first)).await;
    assert!(matches!(compacted, Err(CallError::Refused { code: Code::OutOfRange, .. })), "{compacted:?}");
    let future = client.get(Get::key("g/b").revision(last + 10)).await;
    assert!(matches!(future, Err(CallError::Refused { code: Code::OutOfRange, .. })), "{future:?}");
    let negative = client.get(Get::key("g/b").limit(-1)).await;
    assert!(matches!(negative, Err(CallError::InvalidArgument { field: "limit", .. })), "{negative:?}");
}

pub(crate) async fn writes_tell_what_was_there_before(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let put = client.put_with(Put::new("k", "1").prev_kv(true)).await.expect("it is put");
    assert_eq!(put.prev(), None);
    let put = client.put_with(Put::new("k", "2").prev_kv(true)).await.expect("it is put");
    assert_eq!(put.prev().expect("there was one").value, "1");
    let put = client.put_with(Put::new("k", "").ignore_value(true)).await;
    put.expect("it is put");
    let missing = client.put_with(Put::new("none", "").ignore_value(true)).await;
    assert!(matches!(missing, Err(CallError::Refused { .. })), "{missing:?}");
    client.put("k2", "3").await.expect("it is put");
    let delete = client.delete(Delete::prefix("k").prev_kv(true)).await.expect("they are deleted");
    let before: Vec<_> = delete.prevs().iter().map(|kv| (&kv.value[..], kv.version)).collect();
    assert_eq!((delete.deleted(), before), (2, vec![(&b"2"[..], 3), (b"3", 1)]));
    let delete = client.delete(Delete::key("k")).await.expect("nothing is deleted");
    assert_eq!(delete.deleted(), 0);
    let compact = client.compact(1_000).await;
    assert!(matches!(compact, Err(CallError::Refused { code: Code::OutOfRange, .. })), "{compact:?}");
}

pub(crate) async fn transactions_compare_and_branch(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let revision = world.put("t", "m").await;
    let holds = async |compare: Compare| {
        client.txn(Txn::new().when(compare)).await.expect("the transaction is made").succeeded()
    };
    for (compare, expected) in [
        (Compare::value("t").equals("m"), true),
        (Compare::value("t").not_equals("m"), false),
        (Compare::value("t").greater_than("l"), true),
        (Compare::value("t").less_than("l"), false),
        (Compare::value("none").equals(""), false),
        (Compare::version("t").equals(1), true),
        (Compare::version("none").equals(0), true),
        (Compare::create_revision("t").equals(revision), true),
        (Compare::missing("none"), true),
        (Compare::mod_revision("t").greater_than(revision - 1), true),
        (Compare::mod_revision("t").less_than(revision), false),
        (Compare::lease("t").equals(0), true),
        (Compare::version(KeyRange::prefix("t")).greater_than(0), true),
        (Compare::exists("t"), true),
        (Compare::exists("none"), false),
        (Compare::missing("t"), false),
        (Compare::exists(KeyRange::prefix("t")), true),
        (Compare::missing(KeyRange::prefix("t")), false),
        (Compare::exists(KeyRange::prefix("none")), false),
        (Compare::missing(KeyRange::prefix("none")), true),
    ] {
        assert_eq!(holds(compare.clone()).await, expected, "{compare:?}");
    }

    let lock = || {
        Txn::new().when(Compare::missing("lock")).and_then(Put::new("lock", "mine")).or_else(Get::key("lock"))
    };
    assert!(client.txn(lock()).await.expect("the transaction is made").succeeded());
    let second = client.txn(lock()).await.expect("the transaction is made");
    assert!(!second.succeeded());
    let read = second.get(0).and_then(GetResponse::first);
    assert_eq!(read.expect("it is there").value_str(), Ok("mine"));

    let nested = Txn::new().and_then(Txn::new().and_then(Put::new("n", "deep"))).and_then(Delete::key("t"));
    let mut observer = Ask::range(KeyRange::all()).from(1).prev_kv().open(&client);
    let last = world.txn(nested).await;
    observer.check_through(&world, last).await;
    let twice = Txn::new().and_then(Put::new("x", "1")).and_then(Put::new("x", "2"));
    let twice = client.txn(twice).await;
    assert!(matches!(twice, Err(CallError::Refused { code: Code::InvalidArgument, .. })), "{twice:?}");
}

pub(crate) async fn calls_go_on_after_cuts(backend: Backend) {
    let mut world = World::start(backend).await;
    let client = world.client();
    world.put("k", "v").await;
    for _ in 0..5 {
        assert_eq!(client.get(Get::key("k")).await.expect("it is read").count(), 1);
        world.proxy.cut_all(Cut::Reset);
    }
    // While the server is away a read waits for it.
    world.kill().await;
    let reading = client.clone();
    let reading = tokio::spawn(async move { reading.get(Get::key("k")).await });
    world.restart().await;
    assert_eq!(reading.await.expect("no panic").expect("it is read").count(), 1);
}

pub(crate) async fn a_lease_that_expires_deletes_its_keys(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observer = Ask::prefix("l/").from(1).prev_kv().open(&client);
    // Long enough to put two keys, on a busy machine, too.
    let lease = client.lease_grant(Duration::from_secs(5)).await.expect("it is granted");
    client.put_with(Put::new("l/a", "v").lease(lease.id())).await.expect("it is put");
    client.put_with(Put::new("l/b", "v").lease(lease.id())).await.expect("it is put");
    let left =
        client.lease_time_to_live(LeaseTimeToLive::new(lease.id()).keys(true)).await.expect("it is told");
    let left = left.expect("it is there");
    assert_eq!((left.granted_ttl, left.keys.len()), (lease.ttl(), 2));
    // Both at one revision, when its time is over.
    while observer.events() < 4 {
        observer.step().await.expect("the watch goes on");
    }
    observer.check(&world, world.revision().await).await;
    let history = world.history().await;
    let leases: Vec<_> =
        history.iter().filter_map(|event| event.prev_kv.as_ref()).map(|kv| kv.lease).collect();
    assert_eq!(leases, [lease.id(), lease.id()]);
    assert_eq!(client.lease_time_to_live(lease.id()).await.expect("it is told"), None);
}

pub(crate) async fn leases_are_kept_alive_and_revoked(backend: Backend) {
    let world = World::start(backend).await;
    let client = world.client();
    let mut observer = Ask::prefix("l/").from(1).open(&client);
    let own = || LeaseGrant::new(Duration::from_secs(5)).id(77);
    let lease = client.lease_grant(own()).await.expect("it is granted");
    assert_eq!(lease.id(), 77);
    let again = client.lease_grant(own()).await;
    assert!(
        matches!(again, Err(CallError::Refused { code: Code::AlreadyExists | Code::FailedPrecondition, .. })),
        "{again:?}"
    );
    let keeper = client.lease_keep_alive(lease.id(), lease.ttl()).expect("a lawful request");
    let put = client.put_with(Put::new("l/a", "v").lease(lease.id())).await.expect("it is put");
    observer.through(put.revision()).await;
    // Longer than it lives by itself, and through a cut.
    world.proxy.cut_all(Cut::Reset);
    let lost = timeout(Duration::from_millis(6_500), keeper.lost()).await;
    assert!(lost.is_err(), "it was lost: {lost:?}");
    assert!(!keeper.remaining().is_zero());
    let once = client.lease_keep_alive_once(lease.id()).await.expect("it is told").expect("it is renewed");
    assert_eq!((once.id(), once.ttl()), (lease.id(), lease.ttl()));

    let revoke = client.lease_revoke(lease.id()).await.expect("it is revoked");
    observer.check_through(&world, revoke.revision).await;
    assert_eq!(observer.events(), 2);
    let lost = timeout(DEADLINE, keeper.lost()).await.expect("the keeper notices");
    assert_eq!(lost, LeaseLost::NotFound { id: lease.id() });
    assert!(client.lease_keep_alive_once(lease.id()).await.expect("it is answered").is_none());
    let unknown = client.put_with(Put::new("l/b", "v").lease(lease.id())).await;
    assert!(matches!(unknown, Err(CallError::Refused { code: Code::NotFound, .. })), "{unknown:?}");
}
