use etcd_watch_proto::etcdserverpb::cluster_client::ClusterClient;
use etcd_watch_proto::etcdserverpb::kv_client::KvClient;
use etcd_watch_proto::etcdserverpb::lease_client::LeaseClient;
use etcd_watch_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use etcd_watch_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, MemberListRequest, RangeRequest,
    RangeResponse, StatusRequest, range_request::SortOrder,
};
use etcd_watch_proto::prost::Message;
use tonic::Code;

use super::*;
use crate::model::ModelEtcd;

fn all() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

fn watch_all() -> WatchCreateRequest {
    WatchCreateRequest { key: "\0".into(), range_end: "\0".into(), ..WatchCreateRequest::default() }
}

#[tokio::test]
async fn what_is_put_is_read_and_seen_by_the_model() {
    let etcd = start().await;
    let mut kv = KvClient::new(connect(&etcd));
    kv.put(put("a", "1")).await.expect("put");
    let response = kv.range(all()).await.expect("range").into_inner();
    assert_eq!(response.kvs[0].value.as_ref(), b"1");
    assert_eq!(etcd.with_model(|model| model.history().len()), 1);
}

#[tokio::test]
async fn refusals_arrive_as_statuses() {
    let etcd = start().await;
    let mut kv = KvClient::new(connect(&etcd));
    let status = kv.range(RangeRequest { revision: 99, ..all() }).await.expect_err("in the future");
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(status.message(), "etcdserver: mvcc: required revision is a future revision");
}

#[tokio::test]
async fn a_streamed_range_merges_to_the_whole() {
    let config = ModelConfig { version: "3.7.0".to_owned(), ..ModelConfig::default() };
    let etcd = start_with(config).await;
    etcd.with_model(|model| {
        for n in 0..2500 {
            model.put(&put(&format!("k{n:04}"), "v")).expect("put");
        }
    });
    let mut kv = KvClient::new(connect(&etcd));
    let newest = etcd.with_model(|model| model.revision());
    for (limit, revision, keys_only) in
        [(0, 0, false), (0, 0, true), (2500, 0, false), (40, newest - 7, false)]
    {
        let request = RangeRequest { limit, revision, keys_only, ..all() };
        let whole = kv.range(request.clone()).await.expect("range").into_inner();
        let mut parts = kv.range_stream(request).await.expect("range").into_inner();
        let mut merged = RangeResponse::default();
        let mut sizes = Vec::new();
        while let Some(part) = parts.message().await.expect("part") {
            let part = part.range_response.expect("response");
            sizes.push(part.kvs.len());
            merged.merge(part.encode_to_vec().as_slice()).expect("merges");
        }
        assert!(sizes.len() > 2 && sizes[..2] == [10, 20], "{sizes:?}");
        assert_eq!(merged, whole);
    }
}

#[tokio::test]
async fn a_range_is_not_streamed_before_3_7_nor_in_another_order_nor_by_revisions() {
    let etcd = start().await;
    let refused = KvClient::new(connect(&etcd)).range_stream(all()).await.expect_err("3.5 has none");
    assert_eq!(refused.code(), Code::Unimplemented);
    let config = ModelConfig { version: "3.7.0".to_owned(), ..ModelConfig::default() };
    let etcd = start_with(config).await;
    for request in [
        RangeRequest { sort_order: SortOrder::Descend.into(), ..all() },
        RangeRequest { min_mod_revision: 1, ..all() },
    ] {
        let refused = KvClient::new(connect(&etcd)).range_stream(request).await.expect_err("not so");
        assert_eq!(refused.code(), Code::Unimplemented);
    }
}

#[tokio::test]
async fn changes_made_by_a_test_reach_watches_like_any_other() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    assert!(stream.next().await.expect("reply").created);
    etcd.with_model(|model| model.put(&put("a", "1"))).expect("put");
    assert_eq!(stream.next().await.expect("event").events.len(), 1);
}

#[tokio::test]
async fn a_watch_is_gone_with_its_client() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    stream.next().await.expect("reply");
    assert_eq!(etcd.with_model(|model| model.watcher_count()), 1);
    drop(stream);
    until("no watch left", || etcd.with_model(|model| model.watch_streams().is_empty())).await;
    assert_eq!(etcd.with_model(|model| model.watcher_count()), 0);
}

#[tokio::test]
async fn a_client_that_has_said_its_last_goes_on_listening() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    stream.next().await.expect("reply");
    stream.finish();
    tokio::time::sleep(Duration::from_millis(50)).await;
    etcd.with_model(|model| model.put(&put("a", "1"))).expect("put");
    assert_eq!(stream.next().await.expect("event").events.len(), 1);
}

#[tokio::test]
async fn thousands_of_creates_in_flight_are_answered_in_order() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    let requests = stream.requests.clone();
    tokio::spawn(async move {
        for watch_id in 1..=5000 {
            let create = WatchCreateRequest { watch_id, ..watch_all() };
            let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
            requests.send(request).await.expect("an open stream");
        }
    });
    for expected in 1..=5000 {
        assert_eq!(stream.next().await.expect("reply").watch_id, expected);
    }
    assert_eq!(etcd.with_model(|model| model.watcher_count()), 5000);
}

#[tokio::test]
async fn a_reader_that_stalls_loses_nothing_and_costs_no_queue() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    stream.next().await.expect("reply");
    let value = "x".repeat(4096);
    for n in 0..5000 {
        etcd.with_model(|model| model.put(&put(&format!("k{n}"), &value))).expect("put");
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut revisions = Vec::new();
    let mut responses = 0;
    while revisions.len() < 5000 {
        let response = stream.next().await.expect("events");
        responses += 1;
        revisions.extend(response.events.iter().map(|event| event.kv.as_ref().expect("kv").mod_revision));
    }
    assert!(revisions.iter().copied().eq(2..5002));
    assert!(responses < 2000, "most came from history in large batches, not one by one: {responses}");
}

#[tokio::test]
async fn a_stop_cuts_connections_and_a_restart_has_the_data_on_the_same_port() {
    let mut etcd = start().await;
    let endpoint = etcd.endpoint();
    let mut kv = KvClient::new(connect(&etcd));
    kv.put(put("a", "1")).await.expect("put");
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    stream.next().await.expect("reply");

    etcd.stop().await;
    assert!(!etcd.is_running());
    stream.next().await.expect_err("cut");
    kv.range(all()).await.expect_err("nobody there");
    assert_eq!(etcd.with_model(|model| model.watcher_count()), 0);

    etcd.restart().await.expect("the same port");
    assert_eq!(etcd.endpoint(), endpoint);
    let mut kv = KvClient::new(connect(&etcd));
    let response = kv.range(all()).await.expect("range").into_inner();
    assert_eq!((response.kvs.len(), response.header.expect("header").raft_term), (1, 3));
}

#[tokio::test]
async fn a_server_restarts_under_load_many_times() {
    let mut etcd = start().await;
    for round in 0..20 {
        let mut kv = KvClient::new(connect(&etcd));
        kv.put(put(&format!("k{round}"), "")).await.expect("put");
        let _open = ClientStream::open(connect(&etcd));
        etcd.restart().await.expect("the same port");
    }
    assert_eq!(etcd.with_model(|model| model.revision()), 21);
}

#[tokio::test]
async fn a_second_server_can_start_from_a_backup() {
    let etcd = start().await;
    etcd.with_model(|model| model.put(&put("a", "1"))).expect("put");
    let backup: ModelEtcd = etcd.with_model(|model| model.clone());
    let address = "127.0.0.1:0".parse().expect("an address");
    let restored = EmbeddedEtcd::start_on(address, backup).await.expect("a free port");
    assert_ne!(restored.endpoint(), etcd.endpoint());
    assert_eq!(restored.with_model(|model| model.revision()), 2);
}

#[tokio::test]
async fn a_stream_without_leader_ends_with_its_status() {
    let etcd = start().await;
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(watch_all()).await;
    stream.next().await.expect("reply");
    etcd.with_model(|model| model.fail_watch_streams(ModelError::NoLeader));
    let status = stream.next().await.expect_err("no leader");
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    until("the stream is closed", || etcd.with_model(|model| model.watch_streams().is_empty())).await;
}

#[tokio::test]
async fn a_lease_ends_by_itself_unless_kept_alive() {
    let config = ModelConfig { min_lease_ttl: 1, ..ModelConfig::default() };
    let etcd = EmbeddedEtcd::start(config).await.expect("a free port");
    let mut leases = LeaseClient::new(connect(&etcd));
    let id = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 1 }).await.expect("lease").into_inner().id;
    etcd.with_model(|model| model.put(&PutRequest { lease: id, ..put("a", "1") })).expect("put");

    let (pings, outbound) = mpsc::channel(1);
    pings.send(LeaseKeepAliveRequest { id }).await.expect("an open stream");
    let mut pongs =
        leases.lease_keep_alive(ReceiverStream::new(outbound)).await.expect("a stream").into_inner();
    assert_eq!(pongs.message().await.expect("reply").expect("reply").ttl, 1);
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        pings.send(LeaseKeepAliveRequest { id }).await.expect("an open stream");
        assert_eq!(pongs.message().await.expect("reply").expect("reply").ttl, 1);
    }
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let left = leases.lease_time_to_live(request).await.expect("lease").into_inner();
    assert_eq!(left.keys, ["a"]);

    // Nobody calls: the server's own timer has to do it.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(etcd.with_model(|model| model.history().len()), 2);
    assert_eq!(leases.lease_time_to_live(request).await.expect("lease").into_inner().ttl, -1);
}

#[tokio::test]
async fn leases_do_not_end_while_the_server_is_stopped() {
    let config = ModelConfig { min_lease_ttl: 1, ..ModelConfig::default() };
    let mut etcd = EmbeddedEtcd::start(config).await.expect("a free port");
    let now = Duration::ZERO;
    etcd.with_model(|model| model.lease_grant(&LeaseGrantRequest { id: 7, ttl: 1 }, now)).expect("lease");
    etcd.stop().await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(etcd.with_model(|model| model.lease_leases().leases.len()), 1);
    etcd.restart().await.expect("the same port");
    assert_eq!(etcd.with_model(|model| model.lease_leases().leases.len()), 1);
    until("the lease ends", || etcd.with_model(|model| model.lease_leases().leases.is_empty())).await;
}

#[tokio::test]
async fn periodic_progress_comes_by_the_servers_own_timer() {
    let config = ModelConfig { progress_interval: Duration::from_millis(50), ..ModelConfig::default() };
    let etcd = EmbeddedEtcd::start(config).await.expect("a free port");
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(WatchCreateRequest { watch_id: 7, progress_notify: true, ..watch_all() }).await;
    stream.next().await.expect("reply");
    for _ in 0..3 {
        let progress = stream.next().await.expect("progress");
        assert_eq!((progress.watch_id, progress.events.len()), (7, 0));
    }
}

#[tokio::test]
async fn catching_up_by_time_works_without_anybody_calling() {
    let config = ModelConfig {
        sync_interval: Duration::from_millis(20),
        watch_batch_revisions: 1,
        ..ModelConfig::default()
    };
    let etcd = EmbeddedEtcd::start(config).await.expect("a free port");
    for _ in 0..3 {
        etcd.with_model(|model| model.put(&put("a", ""))).expect("put");
    }
    let mut stream = ClientStream::open(connect(&etcd));
    stream.create(WatchCreateRequest { start_revision: 1, ..watch_all() }).await;
    assert!(stream.next().await.expect("reply").created);
    for _ in 0..3 {
        assert_eq!(stream.next().await.expect("event").events.len(), 1);
    }
}

#[tokio::test]
async fn the_member_tells_its_version_and_where_it_is() {
    let config = ModelConfig { version: "3.4.23".to_owned(), ..ModelConfig::default() };
    let etcd = EmbeddedEtcd::start(config).await.expect("a free port");
    let mut maintenance = MaintenanceClient::new(connect(&etcd));
    let status = maintenance.status(StatusRequest {}).await.expect("status").into_inner();
    assert_eq!(status.version, "3.4.23");
    assert_eq!(status.leader, status.header.expect("header").member_id);
    let mut cluster = ClusterClient::new(connect(&etcd));
    let members = cluster.member_list(MemberListRequest::default()).await.expect("list").into_inner();
    assert_eq!(members.members[0].client_urls, [etcd.endpoint()]);
}
