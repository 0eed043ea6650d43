//! What users may do on real servers, and what servers say of tokens they don't take: facts a client relies on.

#![cfg(unix)]

use std::time::Duration;

use etcd_watch_proto::etcdserverpb::{
    AuthenticateRequest, PutRequest, RangeRequest, StatusRequest, WatchCreateRequest, WatchRequest,
    WatchResponse, auth_client::AuthClient, kv_client::KvClient, maintenance_client::MaintenanceClient,
    watch_client::WatchClient, watch_request::RequestUnion,
};
use etcd_watch_testkit::harness::{
    Access, Auth, EtcdServer, EtcdServerBuilder, EtcdVersion, HarnessError, Keys, binaries::Version,
};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

type Result<T = ()> = std::result::Result<T, HarnessError>;
type Answer = std::result::Result<(), String>;

const SOON: Duration = Duration::from_secs(60);
const INVALID: &str = "etcdserver: invalid auth token";

/// How a server refuses: unary calls by their status, creates by the text of one.
fn refused(code: Code, text: &str) -> Answer {
    Err(format!("rpc error: code = {code:?} desc = {text}"))
}

fn refusal(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// Calls a server with one token, or none.
struct Caller {
    channel: Channel,
    token: Option<String>,
}

/// A watch stream, with a watch on it or not.
struct Stream {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Caller {
    async fn new(server: &EtcdServer, token: Option<&str>) -> Self {
        let endpoint = Endpoint::try_from(server.endpoint()).expect("it is a URL");
        let channel = endpoint.connect().await.expect("the server accepts connections");
        Self { channel, token: token.map(str::to_owned) }
    }

    /// Logged in.
    async fn user(server: &EtcdServer, name: &str, password: &str) -> Self {
        let mut caller = Self::new(server, None).await;
        let login = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
        let answer = AuthClient::new(caller.channel.clone()).authenticate(login).await;
        caller.token = Some(answer.expect("the password is right").into_inner().token);
        caller
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().expect("it is ASCII"));
        }
        request
    }

    async fn get(&self, key: &'static str) -> Answer {
        let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
        let answer = KvClient::new(self.channel.clone()).range(self.request(range)).await;
        answer.map(|_| ()).map_err(|status| refusal(&status))
    }

    async fn put(&self, key: &'static str) -> Answer {
        let put = PutRequest { key: key.into(), ..PutRequest::default() };
        let answer = KvClient::new(self.channel.clone()).put(self.request(put)).await;
        answer.map(|_| ()).map_err(|status| refusal(&status))
    }

    /// A stream and the answer to its first create.
    async fn stream(&self, key: &'static str) -> (Stream, Answer) {
        let (requests, receiver) = mpsc::unbounded_channel();
        requests.send(create(key)).expect("the receiver is here");
        let watching = self.request(UnboundedReceiverStream::new(receiver));
        let responses = WatchClient::new(self.channel.clone()).watch(watching).await;
        let mut stream =
            Stream { requests, responses: responses.expect("streams open for all").into_inner() };
        let answer = stream.created().await;
        (stream, answer)
    }

    async fn watch(&self, key: &'static str) -> Answer {
        self.stream(key).await.1
    }

    /// All three.
    async fn all(&self, key: &'static str) -> [Answer; 3] {
        [self.get(key).await, self.put(key).await, self.watch(key).await]
    }
}

impl Stream {
    async fn next(&mut self) -> WatchResponse {
        let next = timeout(SOON, self.responses.message()).await.expect("an answer comes");
        next.expect("the stream lives").expect("the stream goes on")
    }

    async fn created(&mut self) -> Answer {
        let answer = self.next().await;
        assert!(answer.created && answer.compact_revision == 0, "{answer:?}");
        if !answer.canceled {
            return Ok(());
        }
        assert_eq!(answer.watch_id, -1, "{answer:?}");
        Err(answer.cancel_reason)
    }

    async fn create(&mut self, key: &'static str) -> Answer {
        self.requests.send(create(key)).expect("the stream lives");
        self.created().await
    }
}

fn create(key: &'static str) -> WatchRequest {
    let create = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// A server on which alice may do anything below `a/`.
async fn start(builder: EtcdServerBuilder) -> Result<(EtcdServer, Auth)> {
    let server = builder.start_async().await?;
    let auth = Auth::enable(&server.etcdctl()?, "root's").await?;
    auth.add_user("alice", "hers").await?;
    auth.add_role("a").await?;
    auth.grant("a", Access::ReadWrite, Keys::Prefix("a/")).await?;
    auth.give_role("alice", "a").await?;
    Ok((server, auth))
}

fn is_3_4(server: &EtcdServer) -> bool {
    server.version() < Version::new(3, 5, 0)
}

#[tokio::test]
async fn roles_allow_what_was_granted_and_no_more() -> Result {
    for version in EtcdVersion::under_test()? {
        let (server, auth) = start(EtcdServer::builder(version)).await?;
        let denied = refused(Code::PermissionDenied, "etcdserver: permission denied");
        let alice = Caller::user(&server, "alice", "hers").await;
        assert_eq!(alice.all("a/1").await, [Ok(()), Ok(()), Ok(())]);
        assert_eq!(alice.all("b").await, [denied.clone(), denied.clone(), denied.clone()]);

        auth.grant("a", Access::Read, Keys::One("b")).await?;
        auth.grant("a", Access::Write, Keys::Range("c", "d")).await?;
        assert_eq!(alice.all("b").await, [Ok(()), denied.clone(), Ok(())]);
        assert_eq!(alice.all("c/1").await, [denied.clone(), Ok(()), denied.clone()]);

        // Whoever may no longer watch goes on watching what is watched already.
        let (mut stream, created) = alice.stream("a/1").await;
        assert_eq!(created, Ok(()));
        auth.revoke("a", Keys::Prefix("a/")).await?;
        assert_eq!(alice.all("a/1").await, [denied.clone(), denied.clone(), denied.clone()]);
        assert_eq!(stream.create("a/1").await, denied);
        auth.root().run(["put", "a/1", "value"]).await?;
        assert_eq!(stream.next().await.events.len(), 1);

        auth.take_role("alice", "a").await?;
        assert_eq!(alice.get("b").await, denied);
        auth.give_role("alice", "a").await?;
        assert_eq!(alice.get("b").await, Ok(()));

        auth.grant("a", Access::Read, Keys::From("x")).await?;
        let etcdctl = auth.as_user("alice", "hers");
        etcdctl.run(["get", "y"]).await?;
        let failed = etcdctl.run(["get", "w"]).await.unwrap_err().to_string();
        assert!(failed.contains("etcdserver: permission denied"), "{failed}");
    }
    Ok(())
}

#[tokio::test]
async fn a_call_without_a_token_or_with_a_made_up_one_is_refused() -> Result {
    for version in EtcdVersion::under_test()? {
        let (server, auth) = start(EtcdServer::builder(version)).await?;
        let nobody = Caller::new(&server, None).await;
        let empty = refused(Code::InvalidArgument, "etcdserver: user name is empty");
        assert_eq!(nobody.all("a/1").await, [empty.clone(), empty.clone(), empty.clone()]);
        let status = MaintenanceClient::new(nobody.channel.clone()).status(StatusRequest {}).await;
        let status = status.map(|_| ()).map_err(|status| refusal(&status));
        assert_eq!(status, if is_3_4(&server) { Ok(()) } else { empty });

        let invalid = refused(Code::Unauthenticated, INVALID);
        for token in ["made up", "made.1"] {
            let liar = Caller::new(&server, Some(token)).await;
            assert_eq!(liar.all("a/1").await, [invalid.clone(), invalid.clone(), invalid.clone()]);
        }
        let failed = auth.anonymous().run(["get", "a/1"]).await.unwrap_err().to_string();
        assert!(failed.contains("etcdserver: user name is empty"), "{failed}");
        let failed = auth.as_user("alice", "not-hers").run(["get", "a/1"]).await.unwrap_err().to_string();
        assert!(
            failed.contains("etcdserver: authentication failed, invalid user ID or password"),
            "{failed}"
        );
        assert!(!failed.contains("not-hers"), "a password in an error");
    }
    Ok(())
}

#[tokio::test]
async fn a_simple_token_expires_when_it_is_not_used_and_running_watches_go_on() -> Result {
    for version in EtcdVersion::under_test()? {
        let ttl = Duration::from_secs(4);
        let (server, auth) = start(EtcdServer::builder(version).simple_token_ttl(ttl)).await?;
        let alice = Caller::user(&server, "alice", "hers").await;
        let (mut stream, created) = alice.stream("a/1").await;
        assert_eq!(created, Ok(()));
        let idle = Instant::now();
        // Looking at it would keep it alive, so there is nothing to wait for but the time. The server looks once a
        // second.
        sleep(2 * ttl).await;
        let invalid = refused(Code::Unauthenticated, INVALID);
        assert_eq!(alice.all("a/1").await, [invalid.clone(), invalid.clone(), invalid.clone()]);
        assert!(idle.elapsed() < SOON);
        assert_eq!(stream.create("a/2").await, invalid);
        auth.root().run(["put", "a/1", "value"]).await?;
        assert_eq!(stream.next().await.events.len(), 1);
    }
    Ok(())
}

#[tokio::test]
async fn a_signed_token_expires_though_it_is_used_outlives_a_restart_and_dies_with_a_change_of_users()
-> Result {
    for version in EtcdVersion::under_test()? {
        let ttl = Duration::from_secs(5);
        let (server, _auth) = start(EtcdServer::builder(version.clone()).jwt(ttl)).await?;
        let alice = Caller::user(&server, "alice", "hers").await;
        assert_eq!(alice.all("a/1").await, [Ok(()), Ok(()), Ok(())]);
        let issued = Instant::now();
        while alice.get("a/1").await.is_ok() {
            assert!(issued.elapsed() < SOON, "it never expires");
            sleep(Duration::from_millis(20)).await;
        }
        let invalid = refused(Code::Unauthenticated, INVALID);
        assert_eq!(alice.all("a/1").await, [invalid.clone(), invalid.clone(), invalid]);

        // The rest with tokens that last, so that only what is done to them can be what they die of.
        let lasting = Duration::from_secs(300);
        let (mut server, auth) = start(EtcdServer::builder(version).jwt(lasting)).await?;
        let alice = Caller::user(&server, "alice", "hers").await;
        let (mut stream, created) = alice.stream("a/1").await;
        assert_eq!(created, Ok(()));
        auth.add_user("bob", "his").await?;
        let old = refused(Code::InvalidArgument, "etcdserver: revision of auth store is old");
        assert_eq!(alice.all("a/1").await, [old.clone(), old.clone(), old.clone()]);
        assert_eq!(stream.create("a/2").await, old);

        server.flush(auth.root()).await?;
        let token = Caller::user(&server, "alice", "hers").await.token;
        server.restart_async().await?;
        assert_eq!(Caller::new(&server, token.as_deref()).await.get("a/1").await, Ok(()));
    }
    Ok(())
}

#[tokio::test]
async fn a_restarted_server_has_forgotten_simple_tokens_once_it_was_flushed() -> Result {
    for version in EtcdVersion::under_test()? {
        let (mut server, auth) = start(EtcdServer::builder(version)).await?;
        let token = Caller::user(&server, "alice", "hers").await.token;
        server.flush(auth.root()).await?;
        server.restart_async().await?;
        let invalid = refused(Code::Unauthenticated, INVALID);
        let alice = Caller::new(&server, token.as_deref()).await;
        assert_eq!(alice.all("a/1").await, [invalid.clone(), invalid.clone(), invalid]);
        assert_eq!(Caller::user(&server, "alice", "hers").await.get("a/1").await, Ok(()));
    }
    Ok(())
}

#[tokio::test]
async fn a_new_password_ends_a_users_tokens_and_switching_authentication_off_does_so_in_3_4() -> Result {
    for version in EtcdVersion::under_test()? {
        let (server, auth) = start(EtcdServer::builder(version)).await?;
        let invalid = refused(Code::Unauthenticated, INVALID);
        let alice = Caller::user(&server, "alice", "hers").await;
        auth.change_password("alice", "her-new-one").await?;
        assert_eq!(alice.all("a/1").await, [invalid.clone(), invalid.clone(), invalid.clone()]);

        let alice = Caller::user(&server, "alice", "her-new-one").await;
        auth.disable().await?;
        assert_eq!(Caller::new(&server, None).await.put("b").await, Ok(()));
        let ignored = if is_3_4(&server) { invalid.clone() } else { Ok(()) };
        assert_eq!(alice.all("b").await, [ignored.clone(), ignored.clone(), ignored]);
        auth.enable_again().await?;
        assert_eq!(alice.get("a/1").await, invalid);
        auth.delete_user("alice").await?;
        let failed = auth.as_user("alice", "her-new-one").run(["get", "a/1"]).await.unwrap_err().to_string();
        assert!(failed.contains("invalid user ID or password"), "{failed}");
    }
    Ok(())
}
