//! What is asked of one member, and its alarms.

use std::{
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use etcd_watch_client::{
    CallError, Compact, Refusal,
    admin::{Alarm, AlarmKind},
};
use etcd_watch_testkit::harness::EtcdServer;

use crate::world::{DEADLINE, Setup, invalid, refusal};

pub(crate) async fn every_call_to_one_member(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    let endpoint = || server.endpoint();
    let maintenance = client.maintenance();
    for number in 0..20 {
        client.put(format!("key-{number}"), vec![b'x'; 64 << 10]).await.expect("it is put");
    }
    let last = client.put("key", "value").await.expect("it is put");

    // Status. What is put is in the database's file a moment later.
    let end = Instant::now() + DEADLINE;
    let status = loop {
        let status = maintenance.status(endpoint()).await.expect("it is told");
        if status.db_size_in_use() > 1 << 20 {
            break status;
        }
        assert!(Instant::now() < end, "{status:?}");
    };
    assert_eq!(status.version(), server.version().to_string());
    assert_eq!(status.header().member_id, last.header().member_id);
    assert_eq!((status.leader(), status.is_leader()), (Some(last.header().member_id), true));
    assert_eq!(status.raft_term(), last.header().raft_term);
    assert!(!status.is_learner() && status.errors().is_empty(), "{status:?}");
    assert!(status.db_size() >= status.db_size_in_use(), "{status:?}");
    assert!(status.raft_index() >= status.raft_applied_index() && status.raft_applied_index() > 20);
    let is_new = server.version().minor >= 6;
    assert_eq!(status.db_size_quota().is_some(), is_new, "{status:?}");
    assert_eq!(status.downgrade_target(), None);
    let all = maintenance.status_all().await;
    assert_eq!(all.len(), 1);
    let (at, of_all) = &all[0];
    assert_eq!((at.to_string(), of_all.as_ref().expect("it is told").endpoint()), (endpoint(), at));
    // By an endpoint as a value, too.
    maintenance.status(at).await.expect("it is told");

    // Hashes.
    let newest = maintenance.hash_kv(endpoint(), 0).await.expect("it is told");
    let same = maintenance.hash_kv(endpoint(), last.revision()).await.expect("it is told");
    assert_eq!((newest.hash(), newest.hash_revision()), (same.hash(), last.revision()));
    let earlier = maintenance.hash_kv(endpoint(), last.revision() - 1).await.expect("it is told");
    assert_ne!(earlier.hash(), newest.hash());
    assert_eq!(maintenance.hash(endpoint()).await.expect("it is told").header().revision, last.revision());
    let future = maintenance.hash_kv(endpoint(), last.revision() + 1).await;
    assert_eq!(refusal(future), Refusal::FutureRevision);
    assert_eq!(invalid(maintenance.hash_kv(endpoint(), -1).await), "revision");
    client.delete_prefix("key-").await.expect("they are deleted");
    let now = client.get("key").await.expect("it is read").revision();
    client.compact(Compact::before(now).physical()).await.expect("it is compacted");
    assert_eq!(refusal(maintenance.hash_kv(endpoint(), last.revision()).await), Refusal::Compacted);
    let compacted = maintenance.hash_kv(endpoint(), 0).await.expect("it is told");
    assert_eq!((compacted.compact_revision(), compacted.hash_revision()), (now, now));

    // Space.
    maintenance.defragment(endpoint()).await.expect("it is defragmented");
    let smaller = maintenance.status(endpoint()).await.expect("it is told");
    assert!(smaller.db_size() < status.db_size() / 2, "{smaller:?}, and before {status:?}");

    // The leader is the only member there is.
    maintenance.move_leader(last.header().member_id).await.expect("it leads already");
    assert_eq!(refusal(maintenance.move_leader(1).await), Refusal::BadLeaderTransferee);
    assert_eq!(maintenance.alarms().await, Ok(Vec::new()));
    assert_eq!(maintenance.disarm(Alarm::new(1, AlarmKind::NoSpace)).await, Ok(Vec::new()));
}

pub(crate) async fn an_endpoint_that_is_of_no_use_is_told_apart(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    let maintenance = client.maintenance();
    for bad in ["", "127.0.0.1", "ftp://127.0.0.1:2379", "https://127.0.0.1:2379", "unix:///not/there"] {
        let error = maintenance.status(bad).await.expect_err("it can't be used");
        assert!(matches!(error, CallError::InvalidEndpoint { method: "Status", .. }), "{bad}: {error:?}");
        assert!(!error.is_transient(), "{error}");
    }

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let hung = format!("http://{}", listener.local_addr().expect("it is bound"));
    let nobody = "http://127.0.0.1:1";
    let began = Instant::now();
    let patient = maintenance.clone().timeout(Duration::from_millis(500));
    for endpoint in [nobody, &hung] {
        for error in [
            patient.status(endpoint).await.expect_err("nobody is there"),
            patient.defragment(endpoint).await.expect_err("nobody is there"),
            patient.snapshot_of(endpoint).await.expect_err("nobody is there"),
        ] {
            let CallError::MemberUnreachable { endpoint: at, .. } = &error else { panic!("{error:?}") };
            assert_eq!(at.to_string(), endpoint);
            assert!(error.is_transient() && !error.may_have_executed(), "{error}");
        }
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    // One that is frozen may have begun to defragment when it is asked again.
    client.get("key").await.expect("it is there, and connected to");
    server.pause().expect("it is frozen");
    let error = patient.defragment(server.endpoint()).await.expect_err("it is silent");
    assert!(matches!(error, CallError::MaybeExecuted { method: "Defragment", .. }), "{error:?}");
    let error = patient.hash(server.endpoint()).await.expect_err("it is silent");
    assert!(matches!(error, CallError::MemberUnreachable { method: "Hash", .. }), "{error:?}");
    server.resume().expect("it goes on");

    client.close().await;
    let closed = maintenance.status(server.endpoint()).await;
    assert!(matches!(closed, Err(CallError::Closed { method: "Status" })), "{closed:?}");
}

pub(crate) async fn a_full_database_is_told_apart_and_made_room_in(setup: Setup) {
    let server = EtcdServer::builder(setup.version.clone()).flag("quota-backend-bytes", 2 << 20);
    let server = server.start_async().await.expect("etcd starts");
    let client = setup.client([server.endpoint()]);
    let maintenance = client.maintenance();
    let error = loop {
        match client.put("key", vec![b'x'; 256 << 10]).await {
            Ok(put) => assert!(put.revision() < 100, "it is never full"),
            Err(error) => break error,
        }
    };
    // A member that finds its quota used up while it applies a write makes it all the same.
    assert!(!error.is_transient() && error.may_have_executed(), "{error}");
    assert_eq!(error.refusal(), Some(Refusal::NoSpace));
    let put = async || client.put("key", "value").await.map_err(|error| error.refusal());
    let alarms = maintenance.alarms().await.expect("they are listed");
    let [alarm] = alarms[..] else { panic!("{alarms:?}") };
    let status = maintenance.status(server.endpoint()).await.expect("it is told");
    assert_eq!(alarm, Alarm::new(status.header().member_id, AlarmKind::NoSpace));
    assert!(!status.errors().is_empty(), "{status:?}");

    client.delete("key").await.expect("a full database takes deletes");
    let now = client.get("key").await.expect("it is read").revision();
    client.compact(Compact::before(now).physical()).await.expect("it is compacted");
    maintenance.defragment(server.endpoint()).await.expect("it is defragmented");
    assert_eq!(put().await.err(), Some(Some(Refusal::NoSpace)), "the alarm is still there");
    assert_eq!(maintenance.disarm_all().await, Ok(vec![alarm]));
    assert_eq!(maintenance.alarms().await, Ok(Vec::new()));
    put().await.expect("there is room");

    // By hand.
    let unknown = maintenance.raise(Alarm::new(0, AlarmKind::Other(7))).await.expect_err("etcd has none");
    assert!(matches!(unknown, CallError::InvalidArgument { field: "kind", .. }), "{unknown:?}");
    assert_eq!(maintenance.raise(alarm).await, Ok(vec![alarm]));
    assert_eq!(put().await.err(), Some(Some(Refusal::NoSpace)));
    assert_eq!(maintenance.disarm(alarm).await, Ok(vec![alarm]));
    put().await.expect("there is room");
}
