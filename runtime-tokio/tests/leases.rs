//! What a lease survives and what ends it, with a server that answers as it is told.

mod common;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use common::{DEADLINE, SECOND, start};
use etcd_watch_proto::etcdserverpb::{
    self as pb,
    lease_server::{Lease, LeaseServer},
};
use etcd_watch_tokio::{
    BoxFuture, CallError, Client, ClientBuilder, Instant, Io, LeaseKeeper, LeaseLost, Peer, Runtime,
    TokioRuntime,
    concurrency::{Lost, Mutex as EtcdMutex, Name, Session, SessionLost},
};
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};

const ID: i64 = 0x1234;

/// What the server does with a request to renew.
#[derive(Clone, Debug)]
enum Answer {
    /// Answers for this lease, with this time to live in seconds.
    Alive(i64, i64),
    Refuse(Code, &'static str),
    /// Ends the stream well, without an answer.
    Nothing,
    /// Says nothing, and leaves the stream open.
    Silence,
}

/// A server of leases that answers by a script, and then always with the last line of it.
#[derive(Debug)]
struct Scripted {
    script: Mutex<VecDeque<Answer>>,
    /// How many requests to renew came in.
    asked: watch::Sender<usize>,
    revoked: AtomicUsize,
}

impl Scripted {
    fn next(&self) -> Answer {
        self.asked.send_modify(|asked| *asked += 1);
        let mut script = self.script.lock().expect("no panic");
        if script.len() > 1 { script.pop_front() } else { script.front().cloned() }.expect("never empty")
    }

    async fn wait_asked(&self, count: usize) {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|&asked| asked >= count);
        timeout(DEADLINE, enough).await.expect("in time").expect("the sender is there");
    }
}

struct Service(Arc<Scripted>);

#[tonic::async_trait]
impl Lease for Service {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let ttl = request.get_ref().ttl;
        Ok(Response::new(pb::LeaseGrantResponse { id: ID, ttl, ..Default::default() }))
    }

    async fn lease_revoke(
        &self,
        _: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.0.revoked.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(pb::LeaseRevokeResponse::default()))
    }

    type LeaseKeepAliveStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>,
    >;

    async fn lease_keep_alive(
        &self,
        _: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        Ok(Response::new(match self.0.next() {
            Answer::Alive(id, ttl) => {
                Box::pin(tokio_stream::once(Ok(pb::LeaseKeepAliveResponse { id, ttl, ..Default::default() })))
            }
            Answer::Refuse(code, message) => return Err(Status::new(code, message)),
            Answer::Nothing => Box::pin(tokio_stream::empty()),
            Answer::Silence => Box::pin(tokio_stream::pending()),
        }))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

/// Starts a server with this script; its endpoint.
async fn scripted(script: impl IntoIterator<Item = Answer>) -> (Arc<Scripted>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let script = Mutex::new(script.into_iter().collect());
    let (asked, revoked) = (watch::Sender::new(0), AtomicUsize::new(0));
    let scripted = Arc::new(Scripted { script, asked, revoked });
    let service = LeaseServer::new(Service(scripted.clone()));
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    (scripted, endpoint)
}

fn client(endpoints: impl IntoIterator<Item = String>) -> Client {
    // The server tells nothing of its state, which connecting would wait for.
    etcd_watch_tokio::builder().endpoints(endpoints).connect_lazy().expect("valid endpoints")
}

/// Every answer that says nothing about whether the lease exists.
fn odd_answers() -> Vec<Answer> {
    let codes = [
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];
    let refusals = codes.map(|code| Answer::Refuse(code, "a proxy says so"));
    let others = [Answer::Nothing, Answer::Alive(ID, -1), Answer::Alive(ID, i64::MAX)];
    let foreign = [Answer::Alive(ID + 1, 0), Answer::Alive(ID + 1, 60), Answer::Alive(0, 0)];
    refusals.into_iter().chain(others).chain(foreign).collect()
}

#[tokio::test]
async fn an_odd_answer_to_a_renewal_loses_no_lock() {
    for odd in odd_answers() {
        let (server, endpoint) = scripted([odd.clone(), Answer::Alive(ID, 60)]).await;
        let client = client([endpoint]);
        let session = Session::builder(&client).ttl(60 * SECOND).open().await.expect("it is granted");
        server.wait_asked(2).await;
        assert_eq!(session.lost_reason(), None, "after {odd:?}");
        assert!(session.remaining() > 50 * SECOND, "after {odd:?}");
        assert_eq!(server.revoked.load(Ordering::Relaxed), 0, "after {odd:?}");
    }
}

#[tokio::test]
async fn a_renewal_that_fails_at_one_member_is_made_at_another() {
    for odd in odd_answers().into_iter().chain([Answer::Silence]) {
        let (first, one) = scripted([odd.clone()]).await;
        let (second, two) = scripted([Answer::Alive(ID, 60)]).await;
        let client = client([one, two]);
        let keeper = client.lease_keep_alive(ID, 6 * SECOND).expect("a lawful time");
        second.wait_asked(1).await;
        assert_eq!(keeper.lost_reason(), None, "after {odd:?}");
        assert_eq!(*first.asked.borrow(), 1, "after {odd:?}");
        let until = async {
            while keeper.remaining() < 50 * SECOND {
                tokio::task::yield_now().await;
            }
        };
        timeout(DEADLINE, until).await.expect("it is renewed");
    }
}

#[tokio::test]
async fn a_server_that_has_no_such_lease_ends_it_at_once() {
    let not_found = Answer::Refuse(Code::NotFound, "etcdserver: requested lease not found");
    for gone in [Answer::Alive(ID, 0), not_found] {
        let (_server, endpoint) = scripted([gone.clone()]).await;
        let client = client([endpoint]);
        let keeper = client.lease_keep_alive(ID, 600 * SECOND).expect("a lawful time");
        let lost = timeout(DEADLINE, keeper.lost()).await.expect("in time");
        assert_eq!(lost, LeaseLost::NotFound { id: ID }, "after {gone:?}");
        assert!(client.lease_keep_alive_once(ID).await.expect("it is told").is_none(), "after {gone:?}");
        let session = Session::builder(&client).lease(ID).open().await;
        assert!(session.is_err(), "after {gone:?}");
    }
}

#[tokio::test]
async fn a_lease_that_is_never_renewed_ends_with_its_time_and_says_why() {
    for odd in [Answer::Refuse(Code::Internal, "out of order"), Answer::Alive(ID + 1, 60), Answer::Silence] {
        let (_server, endpoint) = scripted([odd.clone()]).await;
        let client = client([endpoint]);
        let keeper = client.lease_keep_alive(ID, 2 * SECOND).expect("a lawful time");
        let lost = timeout(DEADLINE, keeper.lost()).await.expect("in time");
        assert!(matches!(&lost, LeaseLost::Expired { id: ID, last: Some(_) }), "after {odd:?}: {lost}");
        assert!(keeper.remaining().is_zero());
    }
}

#[tokio::test]
async fn an_answer_for_another_lease_is_no_answer_to_a_single_renewal() {
    let (_server, endpoint) = scripted([Answer::Alive(ID + 1, 60)]).await;
    let client = client([endpoint]);
    let error = client.lease_keep_alive_once(ID).await.expect_err("it is for another");
    assert!(matches!(&error, CallError::Timeout { last: Some(_), .. }), "{error}");
}

#[tokio::test]
async fn a_closed_client_keeps_no_lease_and_says_so() {
    let (server, endpoint) = scripted([Answer::Alive(ID, 600)]).await;
    let client = client([endpoint]);
    let keeper = client.lease_keep_alive(ID, 600 * SECOND).expect("a lawful time");
    server.wait_asked(1).await;
    client.close().await;
    let lost = timeout(DEADLINE, keeper.lost()).await.expect("in time");
    assert_eq!(lost, LeaseLost::Closed { id: ID });
}

/// A runtime on a machine that can be put to sleep: its timers don't count that, as on Linux, and its clock of leases
/// does.
#[derive(Clone, Debug)]
struct Laptop {
    tokio: TokioRuntime,
    slept: Arc<AtomicU64>,
}

impl Laptop {
    fn new() -> Self {
        Self { tokio: common::runtime(), slept: Arc::default() }
    }

    fn sleeps_for(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).expect("a short time");
        self.slept.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Runtime for Laptop {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        self.tokio.resolve(host, port)
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        self.tokio.connect(peer)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.tokio.sleep(duration)
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.tokio.spawn(task);
    }

    fn now(&self) -> Instant {
        self.tokio.now()
    }

    fn boot_time(&self) -> Instant {
        self.tokio.boot_time() + Duration::from_nanos(self.slept.load(Ordering::SeqCst))
    }
}

fn on(laptop: &Laptop, endpoint: String) -> ClientBuilder {
    ClientBuilder::on(laptop.clone()).endpoints([endpoint])
}

/// A task that waits for the loss of the lease, once it waits. It looks at the clock whenever it is polled, so the
/// keeper has to wake it for it to notice anything.
async fn waits_for_loss(keeper: LeaseKeeper) -> JoinHandle<LeaseLost> {
    let (waiting, waits) = oneshot::channel();
    let task = tokio::spawn(async move {
        let mut lost = pin!(keeper.lost());
        assert!(poll_fn(|cx| Poll::Ready(lost.as_mut().poll(cx).is_pending())).await, "it is not lost yet");
        waiting.send(()).expect("the test waits for it");
        lost.await
    });
    waits.await.expect("it waits");
    task
}

/// Until the lease is known to last so long.
async fn until_renewed(keeper: &LeaseKeeper, remaining: Duration) {
    let renewed = async {
        while keeper.remaining() < remaining {
            tokio::time::sleep(SECOND / 100).await;
        }
    };
    timeout(DEADLINE, renewed).await.expect("it is renewed");
}

#[tokio::test]
async fn a_lock_is_lost_the_moment_the_machine_wakes_from_a_long_sleep() {
    let (etcd, _) = start().await;
    let laptop = Laptop::new();
    let client = on(&laptop, etcd.endpoint()).connect_lazy().expect("valid settings");
    let session = Session::builder(&client).ttl(8 * SECOND).open().await.expect("it is granted");
    let guard =
        EtcdMutex::new(&session, Name::new("lock").expect("a lawful name")).lock().await.expect("it is free");
    assert!(guard.is_held() && session.remaining() > SECOND);

    laptop.sleeps_for(15 * SECOND);
    assert!(!guard.is_held(), "nobody believes in it for a moment");
    assert_eq!(session.remaining(), Duration::ZERO);
    let lost = timeout(DEADLINE, guard.lost()).await.expect("in time");
    assert!(matches!(lost, Lost::Session(SessionLost::Lease(LeaseLost::Expired { .. }))), "{lost}");
}

#[tokio::test]
async fn waiting_for_the_loss_of_a_lease_notices_a_sleep_within_a_moment() {
    let (etcd, _) = start().await;
    let laptop = Laptop::new();
    let client = on(&laptop, etcd.endpoint()).connect_lazy().expect("valid settings");
    let lease = client.lease_grant(600 * SECOND).await.expect("it is granted");
    let keeper = lease.keep_alive();
    laptop.sleeps_for(300 * SECOND);
    // From here on, its timer for the next renewal is 200 s away, and no answer is on its way that would wake anybody.
    until_renewed(&keeper, 500 * SECOND).await;
    let lost = waits_for_loss(keeper).await;
    laptop.sleeps_for(700 * SECOND);
    let lost = timeout(DEADLINE, lost).await.expect("in time").expect("no panic");
    assert!(matches!(lost, LeaseLost::Expired { .. }), "{lost}");
    assert!(lease.remaining().is_zero());
}

#[tokio::test]
async fn a_sleep_while_a_renewal_hangs_is_noticed_within_a_moment() {
    let (server, endpoint) = scripted([Answer::Silence]).await;
    let laptop = Laptop::new();
    let client = on(&laptop, endpoint).request_timeout(600 * SECOND).connect_lazy().expect("valid settings");
    let keeper = client.lease_keep_alive(ID, 600 * SECOND).expect("a lawful time");
    // By the clock of timers the answer is waited for for minutes.
    server.wait_asked(1).await;
    let lost = waits_for_loss(keeper).await;
    laptop.sleeps_for(700 * SECOND);
    let lost = timeout(DEADLINE, lost).await.expect("in time").expect("no panic");
    assert!(matches!(lost, LeaseLost::Expired { id: ID, .. }), "{lost}");
}

#[tokio::test]
async fn a_sleep_that_is_shorter_than_the_lease_is_slept_through() {
    let (etcd, _) = start().await;
    let laptop = Laptop::new();
    let client = on(&laptop, etcd.endpoint()).connect_lazy().expect("valid settings");
    let lease = client.lease_grant(600 * SECOND).await.expect("it is granted");
    let keeper = lease.keep_alive();
    laptop.sleeps_for(300 * SECOND);
    // From here on, its timer for the next renewal is 200 s away.
    until_renewed(&keeper, 500 * SECOND).await;
    laptop.sleeps_for(500 * SECOND);
    assert!(keeper.remaining() <= 100 * SECOND);
    // More than a third is over: it is renewed at once, not 200 s later.
    until_renewed(&keeper, 500 * SECOND).await;
    assert_eq!(keeper.lost_reason(), None);
}
