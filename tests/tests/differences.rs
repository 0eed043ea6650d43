//! The table of what a client can see of a server's version (`etcd_watch_testkit::differences`), held against real servers
//! of every line. What a fault does is shown elsewhere: `early_progress.rs`, `fidelity/`, `soak`.

#![cfg(unix)]

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{
    AuthStatusRequest, AuthenticateRequest, CompactionRequest, PutRequest, RangeRequest, StatusRequest,
    WatchCreateRequest, WatchRequest, WatchResponse, auth_client::AuthClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient, watch_client::WatchClient, watch_request::RequestUnion,
};
use etcd_watch_testkit::{
    differences::{Differences, StatusFor},
    harness::{Access, Auth, EtcdServer, EtcdVersion, Keys},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

const SOON: Duration = Duration::from_secs(60);

/// A server, and what it is expected to be like.
struct World {
    server: EtcdServer,
    channel: Channel,
    expected: Differences,
}

impl World {
    async fn start(version: EtcdVersion) -> Self {
        let server = EtcdServer::builder(version).start_async().await.expect("etcd starts");
        let channel = Channel::from_shared(server.endpoint()).expect("a URL").connect_lazy();
        let expected = Differences::of(server.version());
        Self { server, channel, expected }
    }

    /// Alice, who may read the key `a` and nothing else.
    async fn add_alice(&self) {
        let auth = Auth::enable(&self.server.etcdctl().expect("etcdctl"), "root's").await.expect("it is on");
        auth.add_user("alice", "hers").await.expect("a user");
        auth.add_role("a").await.expect("a role");
        auth.grant("a", Access::Read, Keys::One("a")).await.expect("a permission");
        auth.give_role("alice", "a").await.expect("the role is hers");
    }

    async fn token(&self, name: &str, password: &str) -> String {
        let login = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer = AuthClient::new(self.channel.clone()).authenticate(login).await.expect("a login");
        answer.into_inner().token
    }

    async fn is_told_status(&self, token: Option<&str>) -> bool {
        let request = with_token(StatusRequest {}, token);
        match MaintenanceClient::new(self.channel.clone()).status(request).await {
            Ok(_) => true,
            Err(refused) => {
                assert!(is_denied(&refused), "{refused:?}");
                false
            }
        }
    }

    /// A watch on a stream of its own.
    async fn watch(&self, create: WatchCreateRequest, token: Option<&str>) -> Watched {
        let (requests, receiver) = mpsc::unbounded_channel();
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).expect("the stream is open");
        let request = with_token(UnboundedReceiverStream::new(receiver), token);
        let stream = WatchClient::new(self.channel.clone()).watch(request).await.expect("a stream");
        Watched { responses: stream.into_inner(), _requests: requests }
    }
}

/// What is answered to a watch.
struct Watched {
    responses: Streaming<WatchResponse>,
    /// The stream ends with it.
    _requests: mpsc::UnboundedSender<WatchRequest>,
}

impl Watched {
    async fn next(&mut self) -> WatchResponse {
        let next = timeout(SOON, self.responses.message()).await.expect("an answer comes");
        next.expect("the stream lives").expect("the stream goes on")
    }
}

/// Whether a refusal is of who asks: of a user who may not, or of nobody who is known.
fn is_denied(refused: &Status) -> bool {
    matches!(refused.code(), Code::PermissionDenied | Code::InvalidArgument)
}

fn with_token<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().expect("a token is text"));
    }
    request
}

async fn status_is_told_to_those_in_the_table(version: EtcdVersion) {
    let world = World::start(version).await;
    assert!(world.is_told_status(None).await, "without authentication whoever asks is told");
    world.add_alice().await;
    let (root, alice) = (world.token("root", "root's").await, world.token("alice", "hers").await);
    assert!(world.is_told_status(Some(&root)).await);
    let told = (world.is_told_status(Some(&alice)).await, world.is_told_status(None).await);
    let expected = match world.expected.status {
        StatusFor::Anyone => (true, true),
        StatusFor::Users => (true, false),
        StatusFor::Root => (false, false),
    };
    assert_eq!(told, expected, "alice and a stranger, by {}", world.server.version());
}

async fn auth_status_is_told_to_those_in_the_table(version: EtcdVersion) {
    let world = World::start(version).await;
    let ask = async |token: Option<&str>| {
        AuthClient::new(world.channel.clone()).auth_status(with_token(AuthStatusRequest {}, token)).await
    };
    if let Err(refused) = ask(None).await {
        // It came with 3.5.
        assert!(refused.code() == Code::Unimplemented && world.server.version().minor < 5, "{refused:?}");
        return;
    }
    world.add_alice().await;
    let (root, alice) = (world.token("root", "root's").await, world.token("alice", "hers").await);
    assert!(ask(Some(&root)).await.expect("root is told").into_inner().enabled);
    for token in [Some(&alice[..]), None] {
        let answer = ask(token).await;
        assert_eq!(answer.is_ok(), world.expected.auth_status_for_anyone, "{answer:?}");
        if let Err(refused) = answer {
            assert!(is_denied(&refused), "{refused:?}");
        }
    }
}

async fn a_watch_from_a_key_on_needs_permission_for_all_of_it(version: EtcdVersion) {
    let world = World::start(version).await;
    world.add_alice().await;
    let alice = world.token("alice", "hers").await;
    let from = |key: &'static str, range_end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..WatchCreateRequest::default()
    };
    let own = world.watch(from("a", ""), Some(&alice)).await.next().await;
    assert!(own.created && !own.canceled, "{own:?}");
    let past = world.watch(from("a", "\0"), Some(&alice)).await.next().await;
    assert_eq!(!past.canceled, world.expected.watches_past_permission, "{past:?}");
    let foreign = world.watch(from("b", "\0"), Some(&alice)).await.next().await;
    assert!(foreign.canceled, "{foreign:?}");
}

async fn a_negative_start_is_refused_or_compacted(version: EtcdVersion) {
    let world = World::start(version).await;
    let mut kv = KvClient::new(world.channel.clone());
    for value in ["1", "2", "3"] {
        let put = PutRequest { key: "a".into(), value: value.into(), ..PutRequest::default() };
        kv.put(put).await.expect("it is put");
    }
    kv.compact(CompactionRequest { revision: 3, physical: true }).await.expect("it is compacted");
    let create = WatchCreateRequest {
        key: "a".into(),
        start_revision: -1,
        watch_id: 5,
        ..WatchCreateRequest::default()
    };
    let mut watched = world.watch(create, None).await;
    let answer = watched.next().await;
    // A watch that is refused has no id.
    let refused = answer.canceled && answer.watch_id == -1;
    assert_eq!(!refused, world.expected.negative_start, "{answer:?}");
    if !refused {
        let end = if answer.canceled { answer } else { watched.next().await };
        assert!(end.canceled && end.compact_revision == 3, "{end:?}");
    }
}

async fn there_is_a_range_stream_in_the_table(version: EtcdVersion) {
    let world = World::start(version).await;
    let mut service = tonic::client::Grpc::new(world.channel.clone());
    service.ready().await.expect("it is connected");
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let path = http::uri::PathAndQuery::from_static("/etcdserverpb.KV/RangeStream");
    let codec = tonic_prost::ProstCodec::<RangeRequest, WatchResponse>::default();
    let stream = service.server_streaming(Request::new(range), path, codec).await;
    let refusal = stream.err().map(|refused| refused.code());
    let expected = (!world.expected.range_stream).then_some(Code::Unimplemented);
    assert_eq!(refusal, expected, "{}", world.server.version());
}

macro_rules! on_every_line {
    ($($name:ident)*) => {
        on_every_line! { v3_4: EtcdVersion::V3_4, $($name)* }
        on_every_line! { v3_5: EtcdVersion::V3_5, $($name)* }
        on_every_line! { v3_6: EtcdVersion::V3_6, $($name)* }
        on_every_line! { v3_7: EtcdVersion::V3_7, $($name)* }
    };
    ($line:ident: $version:expr, $($name:ident)*) => {
        mod $line {
            use super::*;
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($version).await;
                }
            )*
        }
    };
}

on_every_line! {
    status_is_told_to_those_in_the_table
    auth_status_is_told_to_those_in_the_table
    a_watch_from_a_key_on_needs_permission_for_all_of_it
    a_negative_start_is_refused_or_compacted
    there_is_a_range_stream_in_the_table
}
