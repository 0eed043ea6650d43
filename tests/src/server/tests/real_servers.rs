//! The model's answers against those of real servers.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use etcd_watch_binaries::{Binaries, EtcdBinary, Line};
use etcd_watch_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use etcd_watch_proto::etcdserverpb::kv_client::KvClient;
use etcd_watch_proto::etcdserverpb::lease_client::LeaseClient;
use etcd_watch_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use etcd_watch_proto::etcdserverpb::request_op::Request;
use etcd_watch_proto::etcdserverpb::response_op::Response;
use etcd_watch_proto::etcdserverpb::watch_create_request::FilterType;
use etcd_watch_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
    WatchCancelRequest, WatchProgressRequest,
};
use etcd_watch_proto::mvccpb::Event;

use super::*;

/// A real server with an empty store; gone when dropped.
struct RealEtcd {
    process: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl RealEtcd {
    async fn start(binary: &EtcdBinary) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let [client, peer] = free_ports();
        let endpoint = format!("http://127.0.0.1:{client}");
        let peers = format!("http://127.0.0.1:{peer}");
        let process = Command::new(&binary.server)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}"), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let real = Self { process, endpoint, _data: data };
        let serves = tokio::time::timeout(PATIENCE, async {
            while KvClient::new(real.channel())
                .range(RangeRequest { key: "x".into(), ..all() })
                .await
                .is_err()
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        assert!(serves.await.is_ok(), "{binary} doesn't serve");
        real
    }

    fn channel(&self) -> Channel {
        Endpoint::from_shared(self.endpoint.clone()).expect("a URL").connect_lazy()
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("bound").port())
}

fn all() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

/// One request of any kind.
#[derive(Debug, Clone)]
enum Call {
    Plain(Request),
    Compact(i64),
    Grant(i64),
    Revoke(i64),
    TimeToLive(i64),
}

/// Makes up calls over a few keys and leases, wrong ones among them.
struct Script {
    random: fastrand::Rng,
    values: u32,
    /// A transaction may delete from a key on and then keep part of a key it has deleted, at which real
    /// servers panic. So each call has one or the other.
    may_keep: bool,
}

impl Script {
    fn key(&mut self) -> String {
        format!("k{}", self.random.u8(0..6))
    }

    fn range_end(&mut self) -> String {
        match self.random.u8(0..4) {
            0 => "\0".to_owned(),
            1 => self.key(),
            _ => String::new(),
        }
    }

    fn delete_end(&mut self) -> String {
        let end = self.range_end();
        if self.may_keep && end == "\0" { String::new() } else { end }
    }

    fn revision(&mut self) -> i64 {
        if self.random.u8(0..3) == 0 { self.random.i64(0..120) } else { 0 }
    }

    fn put(&mut self) -> PutRequest {
        self.values += 1;
        let ignore_value = self.may_keep && self.random.u8(0..8) == 0;
        let ignore_lease = self.may_keep && self.random.u8(0..8) == 0;
        PutRequest {
            key: if self.random.u8(0..30) == 0 { Vec::new() } else { self.key().into() }.into(),
            // Unique, as real servers sort equal ones in any order.
            value: if ignore_value { String::new() } else { format!("v{:05}", self.values) }.into(),
            lease: if !ignore_lease && self.random.u8(0..3) == 0 { self.random.i64(1..4) } else { 0 },
            prev_kv: self.random.bool(),
            ignore_value,
            ignore_lease,
        }
    }

    fn range(&mut self) -> RangeRequest {
        let by_value = self.random.u8(0..3) == 0;
        let order = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend][self.random.usize(0..3)];
        RangeRequest {
            key: self.key().into(),
            range_end: self.range_end().into(),
            limit: self.random.i64(0..4),
            revision: self.revision(),
            sort_order: order.into(),
            sort_target: if by_value { SortTarget::Value } else { SortTarget::Key }.into(),
            serializable: self.random.bool(),
            keys_only: self.random.u8(0..5) == 0,
            count_only: self.random.u8(0..5) == 0,
            min_mod_revision: self.revision(),
            max_mod_revision: self.revision(),
            min_create_revision: self.revision(),
            max_create_revision: self.revision(),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key().into(),
            range_end: self.delete_end().into(),
            prev_kv: self.random.bool(),
        }
    }

    fn compare(&mut self) -> Compare {
        let (target, operand) = match self.random.u8(0..5) {
            0 => (CompareTarget::Version, TargetUnion::Version(self.random.i64(0..3))),
            1 => (CompareTarget::Create, TargetUnion::CreateRevision(self.random.i64(0..50))),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(self.random.i64(0..50))),
            3 => (CompareTarget::Lease, TargetUnion::Lease(self.random.i64(0..3))),
            _ => (CompareTarget::Value, TargetUnion::Value(format!("v{:05}", self.values / 2).into())),
        };
        let results =
            [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Greater, CompareResult::Less];
        Compare {
            result: results[self.random.usize(0..4)].into(),
            target: target.into(),
            key: self.key().into(),
            range_end: self.range_end().into(),
            target_union: Some(operand),
        }
    }

    fn operations(&mut self, depth: u8) -> Vec<RequestOp> {
        let count = self.random.u8(0..4);
        (0..count).map(|_| RequestOp { request: Some(self.operation(depth)) }).collect()
    }

    fn operation(&mut self, depth: u8) -> Request {
        match self.random.u8(0..if depth == 0 { 8 } else { 10 }) {
            0..4 => Request::RequestPut(self.put()),
            4..6 => Request::RequestRange(self.range()),
            6..8 => Request::RequestDeleteRange(self.delete()),
            _ => Request::RequestTxn(TxnRequest {
                compare: (0..self.random.u8(0..2)).map(|_| self.compare()).collect(),
                success: self.operations(depth - 1),
                failure: self.operations(depth - 1),
            }),
        }
    }

    fn call(&mut self) -> Call {
        self.may_keep = self.random.bool();
        match self.random.u8(0..40) {
            0 => Call::Compact(self.random.i64(0..100)),
            1 => Call::Grant(self.random.i64(1..4)),
            2 => Call::Revoke(self.random.i64(1..4)),
            3 => Call::TimeToLive(self.random.i64(1..4)),
            _ => Call::Plain(self.operation(2)),
        }
    }
}

/// Makes a call and writes the answer down, without what differs from server to server.
async fn answer(channel: &Channel, call: Call) -> Result<String, (tonic::Code, String)> {
    let mut kv = KvClient::new(channel.clone());
    let mut leases = LeaseClient::new(channel.clone());
    let answered = match call {
        Call::Plain(Request::RequestRange(request)) => {
            kv.range(request).await.map(|response| known(Response::ResponseRange(response.into_inner())))
        }
        Call::Plain(Request::RequestPut(request)) => {
            kv.put(request).await.map(|response| known(Response::ResponsePut(response.into_inner())))
        }
        Call::Plain(Request::RequestDeleteRange(request)) => kv
            .delete_range(request)
            .await
            .map(|response| known(Response::ResponseDeleteRange(response.into_inner()))),
        Call::Plain(Request::RequestTxn(request)) => {
            kv.txn(request).await.map(|response| known(Response::ResponseTxn(response.into_inner())))
        }
        Call::Compact(revision) => kv
            .compact(CompactionRequest { revision, physical: true })
            .await
            .map(|response| format!("{:?}", revision_of(response.into_inner().header))),
        Call::Grant(id) => leases.lease_grant(LeaseGrantRequest { id, ttl: 10_000 }).await.map(|response| {
            let response = response.into_inner();
            format!("{} {}", response.id, response.ttl)
        }),
        Call::Revoke(id) => leases
            .lease_revoke(LeaseRevokeRequest { id })
            .await
            .map(|response| format!("{:?}", revision_of(response.into_inner().header))),
        Call::TimeToLive(id) => {
            leases.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true }).await.map(|response| {
                let mut response = response.into_inner();
                response.keys.sort();
                format!("{} {} {:?}", response.id, response.granted_ttl, response.keys)
            })
        }
    };
    answered.map_err(|status| (status.code(), status.message().to_owned()))
}

fn revision_of(header: Option<ResponseHeader>) -> Option<i64> {
    header.map(|header| header.revision)
}

fn known(mut response: Response) -> String {
    forget_identity(&mut response);
    format!("{response:?}")
}

fn forget_identity(response: &mut Response) {
    let header = match response {
        Response::ResponseRange(response) => &mut response.header,
        Response::ResponsePut(response) => &mut response.header,
        Response::ResponseDeleteRange(response) => &mut response.header,
        Response::ResponseTxn(TxnResponse { header, responses, .. }) => {
            responses.iter_mut().filter_map(|inner| inner.response.as_mut()).for_each(forget_identity);
            header
        }
    };
    *header = revision_of(header.take()).map(|revision| ResponseHeader { revision, ..Default::default() });
}

/// All that a watch from a revision on has to say up to another.
async fn events(channel: Channel, create: WatchCreateRequest, until: i64) -> Vec<Event> {
    let marked = |event: &Event| event.kv.as_ref().is_some_and(|kv| kv.mod_revision >= until);
    let mut stream = ClientStream::open(channel);
    stream.create(create).await;
    let mut events: Vec<Event> = Vec::new();
    while !events.last().is_some_and(marked) {
        events.extend(stream.next().await.expect("events").events);
    }
    events
}

#[tokio::test]
async fn calls_are_answered_as_real_servers_answer_them() {
    for (seed, binary) in Binaries::from_env().under_test().expect("real servers").iter().enumerate() {
        let real = RealEtcd::start(binary).await;
        let model = start_with(ModelConfig::like(binary.version)).await;
        let channels = [real.channel(), connect(&model)];
        let mut script = Script { random: fastrand::Rng::with_seed(seed as u64), values: 0, may_keep: false };
        let mut compacted = 0;
        for step in 0..1500 {
            let call = script.call();
            let theirs = answer(&channels[0], call.clone()).await;
            let ours = answer(&channels[1], call.clone()).await;
            assert_eq!(ours, theirs, "{binary}, seed {seed}, step {step}: {call:?}");
            if let (Call::Compact(revision), Ok(_)) = (&call, &ours) {
                compacted = *revision;
            }
        }

        // The same history, then, is to be watched on both.
        let end = PutRequest { key: "k3".into(), value: "end".into(), ..PutRequest::default() };
        for channel in &channels {
            KvClient::new(channel.clone()).put(end.clone()).await.expect("put");
            KvClient::new(channel.clone())
                .delete_range(DeleteRangeRequest { key: "k3".into(), ..Default::default() })
                .await
                .expect("delete");
        }
        let until = model.with_model(|model| model.revision());
        for (key, range_end, filters) in [
            ("k", "l", vec![]),
            ("k3", "", vec![]),
            ("k2", "\0", vec![FilterType::Noput.into()]),
            ("k2", "k4", vec![]),
        ] {
            for fragment in [false, true] {
                let create = WatchCreateRequest {
                    key: key.into(),
                    range_end: range_end.into(),
                    filters: filters.clone(),
                    start_revision: compacted + 1,
                    prev_kv: true,
                    fragment,
                    ..WatchCreateRequest::default()
                };
                let theirs = events(channels[0].clone(), create.clone(), until).await;
                let ours = events(channels[1].clone(), create.clone(), until).await;
                assert_eq!(ours, theirs, "{binary}: {create:?}");
            }
        }
    }
}

/// The control side of a stream, step by step, and what the server says to it.
async fn conversation(channel: Channel, line: Line) -> Vec<String> {
    let mut kv = KvClient::new(channel.clone());
    for value in ["1", "2", "3", "4"] {
        kv.put(put("a", value)).await.expect("put");
    }
    kv.compact(CompactionRequest { revision: 4, physical: true }).await.expect("compact");
    let mut stream = ClientStream::open(channel);
    let watch = |watch_id, key: &str, range_end: &str| WatchCreateRequest {
        watch_id,
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
        ..WatchCreateRequest::default()
    };
    let mut said = Vec::new();
    if line != Line::V3_4 {
        // Refused; 3.4 takes it for a revision that is compacted.
        stream.create(WatchCreateRequest { start_revision: -1, ..watch(12, "a", "") }).await;
        said.push(stream.next().await);
    }
    for (create, replies) in [
        (watch(0, "a", ""), 1),
        (watch(0, "a", ""), 1),
        (watch(9, "b", ""), 1),
        (watch(9, "b", ""), 1),
        (watch(10, "b", "a"), 1),
        (watch(11, "", ""), 1),
        (WatchCreateRequest { start_revision: 3, ..watch(13, "a", "") }, 2),
        (WatchCreateRequest { start_revision: 4, ..watch(14, "a", "") }, 2),
        (WatchCreateRequest { start_revision: 5, prev_kv: true, ..watch(15, "a", "\0") }, 2),
        (WatchCreateRequest { start_revision: 99, ..watch(16, "a", "") }, 1),
    ] {
        stream.create(create).await;
        for _ in 0..replies {
            said.push(stream.next().await);
        }
    }
    for union in [
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 777 }),
        // Nothing is said to the first, so this is what the second is answered with.
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 14 }),
        // Nor while a watch starts in the future or has ended by compaction.
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 16 }),
        RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 13 }),
        RequestUnion::ProgressRequest(WatchProgressRequest {}),
    ] {
        let answered = !matches!(&union, RequestUnion::CancelRequest(cancel) if cancel.watch_id == 777);
        stream.requests.send(WatchRequest { request_union: Some(union) }).await.expect("an open stream");
        if answered {
            said.push(stream.next().await);
        }
    }
    kv.delete_range(DeleteRangeRequest { key: "a".into(), ..Default::default() }).await.expect("delete");
    let mut last = vec![stream.next().await, stream.next().await, stream.next().await];
    // A change reaches the watches of a stream in any order.
    last.sort_by_key(|response| response.as_ref().map(|response| response.watch_id).unwrap_or_default());
    said.extend(last);
    said.into_iter()
        .map(|response| {
            let mut response = response.expect("a response");
            response.header = revision_of(response.header.take())
                .map(|revision| ResponseHeader { revision, ..Default::default() });
            format!("{response:?}")
        })
        .collect()
}

#[tokio::test]
async fn watch_streams_talk_as_those_of_real_servers() {
    for binary in Binaries::from_env().under_test().expect("real servers") {
        let real = RealEtcd::start(&binary).await;
        let model = start().await;
        let line = binary.version.line();
        let theirs = conversation(real.channel(), line).await;
        let ours = conversation(connect(&model), line).await;
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{binary}");
        }
    }
}
