//! Members that hang, and limits of streams.

use std::{
    sync::{Arc, Mutex as StdMutex, OnceLock},
    time::Instant,
};

use etcd_watch_client::{CallError, KeyRange, WatchConfig, WatchRequest};
use etcd_watch_testkit::harness::{EtcdCluster, EtcdServer, EtcdVersion, wait_until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::world::{Answer, DEADLINE, SECOND, Scripted, builder, client, healthy};

/// Takes connections, as the system of a stopped process does, and says nothing on them.
async fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
    (listener, endpoint)
}

#[tokio::test]
async fn an_endpoint_that_takes_connections_and_says_nothing_costs_no_call_its_time() {
    let etcd = healthy().await;
    let (_listener, endpoint) = silent().await;
    let new = || client([endpoint.clone(), etcd.endpoint()]);
    let began = Instant::now();
    new().get("key").await.expect("the other is healthy");
    new().put("key", "value").await.expect("the other is healthy");
    new().lease_grant(60 * SECOND).await.expect("the other is healthy");
    assert!(began.elapsed() < 5 * SECOND, "a share of one call's time each: {:?}", began.elapsed());
}

#[tokio::test]
async fn a_write_that_never_left_was_not_executed_whatever_it_waited_for() {
    let (_listener, silent) = silent().await;
    // It speaks HTTP/2, and has no stream for the second request.
    let full = Scripted::with_limit(1, |_| Answer::Silence).await;
    for endpoint in [silent, full.endpoint()] {
        let client =
            builder([&endpoint[..]]).request_timeout(2 * SECOND).connect_lazy().expect("it is valid");
        let (read, write) = tokio::join!(client.get("key"), client.put("key", "value"));
        assert!(matches!(read, Err(CallError::Timeout { .. })), "{read:?}");
        let error = write.expect_err("nobody is there");
        assert!(matches!(error, CallError::Timeout { .. }) && !error.may_have_executed(), "{error}");
    }
    assert_eq!(full.requests(), 1, "the write has never come");
}

#[tokio::test]
async fn a_read_whose_answer_does_not_come_goes_elsewhere_and_leaves_time() {
    let etcd = healthy().await;
    let hanging = Scripted::start(|_| Answer::Silence).await;
    let client = client([hanging.endpoint(), etcd.endpoint()]);
    let began = Instant::now();
    client.get("key").await.expect("the other is healthy");
    assert!(began.elapsed() < 5 * SECOND, "a quarter of the call's time: {:?}", began.elapsed());
    assert_eq!(hanging.requests(), 1);
}

#[tokio::test]
async fn a_write_that_was_sent_is_waited_for_until_the_end() {
    let etcd = healthy().await;
    let hanging = Scripted::start(|_| Answer::Silence).await;
    let client = builder([hanging.endpoint(), etcd.endpoint()]).request_timeout(3 * SECOND);
    let client = client.connect_lazy().expect("it is valid");
    let began = Instant::now();
    let error = client.put("key", "value").await.expect_err("it has no answer");
    assert!(matches!(error, CallError::MaybeExecuted { .. }), "{error}");
    assert!(began.elapsed() >= 3 * SECOND, "{:?}", began.elapsed());
    client.put("key", "value").await.expect("it goes elsewhere");
    assert_eq!(hanging.requests(), 1);
}

#[tokio::test]
async fn calls_leave_a_real_member_that_is_frozen() {
    let cluster = EtcdCluster::builder(EtcdVersion::V3_5).start_async().await.expect("it starts");
    let leader = cluster.leader().await.expect("it answers").expect("it has a leader");
    let frozen = (leader + 1) % cluster.size();
    let endpoints = [cluster.member(frozen).endpoint(), cluster.member(leader).endpoint()];
    let connected = client(endpoints.clone());
    connected.get("key").await.expect("all members are well");
    cluster.member(frozen).pause().expect("it runs");
    let began = Instant::now();
    connected.get("key").await.expect("another member answers");
    connected.put("key", "value").await.expect("another member answers");
    // And of one that is not connected to yet.
    let fresh = client(endpoints);
    fresh.put("key", "value").await.expect("another member answers");
    fresh.lease_grant(60 * SECOND).await.expect("another member answers");
    assert!(began.elapsed() < 6 * SECOND, "{:?}", began.elapsed());
    cluster.member(frozen).resume().expect("it is paused");
}

/// The names of the events that clients log of endpoints, with these. For all tests of the process, since `tracing`
/// keeps in mind for all threads who listens.
#[derive(Clone, Default)]
struct Logged(Arc<StdMutex<Vec<(&'static str, String)>>>);

impl Logged {
    fn here() -> Self {
        static LOGGED: OnceLock<Logged> = OnceLock::new();
        let install = || {
            let logged = Self::default();
            let subscriber = tracing_subscriber::registry().with(logged.clone());
            tracing::subscriber::set_global_default(subscriber).expect("nobody else sets one");
            logged
        };
        LOGGED.get_or_init(install).clone()
    }

    fn of(&self, endpoint: &str) -> Vec<&'static str> {
        let events = self.0.lock().expect("no test has panicked");
        events.iter().filter(|(_, of)| of == endpoint).map(|(name, _)| *name).collect()
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Logged {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        if !event.metadata().target().starts_with("etcd_watch") {
            return;
        }
        let mut endpoint = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "endpoint" {
                endpoint = format!("{value:?}");
            }
        });
        self.0.lock().expect("no test has panicked").push((event.metadata().name(), endpoint));
    }
}

#[tokio::test]
async fn a_member_that_hangs_is_not_one_that_answers_again() {
    let logged = Logged::here();
    let hanging = Scripted::start(|_| Answer::Silence).await;
    let config = WatchConfig::default().answer_timeout(SECOND / 10);
    let client = builder([hanging.endpoint()]).watch_config(config).connect_lazy().expect("it is valid");
    let from_one = WatchRequest::new(KeyRange::prefix("key")).start_revision(1);
    let _watch = client.watch(from_one).expect("it is valid");
    // It takes the stream for opened each time, and gives it up.
    wait_until("it is tried again", DEADLINE, || hanging.connections() >= 3).await;
    let events = logged.of(&hanging.endpoint());
    let opened = events.iter().filter(|name| **name == "stream_opened").count();
    assert!(opened >= 2 && events.contains(&"endpoint_failed"), "{events:?}");
    assert!(!events.contains(&"endpoint_answers"), "{events:?}");
}

#[tokio::test]
async fn a_stream_that_the_server_refuses_is_made_again() {
    let etcd = Scripted::start(|n| if n < 3 { Answer::Refusal } else { Answer::Empty }).await;
    let client = client([etcd.endpoint()]);
    client.put("key", "value").await.expect("it was not executed before");
    assert_eq!((etcd.requests(), etcd.connections()), (4, 1), "the connection is good");
}

/// A lease with the id 7 and 3 s to live: what a grant is answered with, and a renewal.
const LEASE: Answer = Answer::Message(&[0x10, 7, 0x18, 3]);

/// No keys, at revision 5.
const NO_KEYS: Answer = Answer::Message(&[0x0a, 2, 0x18, 5]);

#[tokio::test]
async fn a_renewal_whose_stream_the_server_refuses_is_made_again_over_the_same_connection() {
    let etcd = Scripted::start(|n| if n == 1 { Answer::Refusal } else { LEASE }).await;
    let client = client([etcd.endpoint()]);
    let lease = client.lease_grant(3 * SECOND).await.expect("it is granted");
    let _keeper = lease.keep_alive();
    wait_until("it is renewed", DEADLINE, || etcd.requests() >= 3).await;
    assert_eq!(etcd.connections(), 1, "the connection is good");
}

#[tokio::test]
async fn a_page_whose_stream_the_server_refuses_is_asked_for_again_over_the_same_connection() {
    // The page twice, and then its watch asks for the member's version.
    let answers = [Answer::Refusal, NO_KEYS];
    let etcd = Scripted::start(move |n| answers.get(n).copied().unwrap_or(Answer::Silence)).await;
    let client = client([etcd.endpoint()]);
    let mut mirror = client.mirror(KeyRange::prefix("key")).expect("it is valid");
    let consumer =
        tokio::spawn(async move { while mirror.try_next().await.is_ok_and(|event| event.is_some()) {} });
    wait_until("it is listed", DEADLINE, || etcd.requests() >= 3).await;
    assert_eq!(etcd.connections(), 2, "the watch has one of its own");
    consumer.abort();
}

#[tokio::test]
async fn a_connection_that_breaks_once_the_client_is_closed_is_not_held_against_the_endpoint() {
    let logged = Logged::here();
    let hanging = Scripted::start(|_| Answer::Silence).await;
    let (endpoint, client) = (hanging.endpoint(), client([hanging.endpoint()]));
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.put("key", "value").await }
    });
    wait_until("it is sent", DEADLINE, || hanging.requests() == 1).await;
    client.close().await;
    hanging.stop().await;
    let error = call.await.expect("it does not panic").expect_err("nobody answers");
    assert!(error.may_have_executed(), "{error}");
    let events = logged.of(&endpoint);
    assert!(!events.contains(&"endpoint_failed"), "{events:?}");
}

/// Ends every connection with a GOAWAY that names no stream as processed, once a request has come.
async fn going_away(mut socket: TcpStream) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    let mut preface = [0; 24];
    socket.read_exact(&mut preface).await?;
    socket.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        socket.read_exact(&mut payload).await?;
        if head[3] == HEADERS {
            return socket.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).await;
        }
    }
}

#[tokio::test]
async fn a_request_that_came_after_the_last_one_of_a_goaway_is_made_elsewhere() {
    let etcd = healthy().await;
    let (listener, endpoint) = silent().await;
    let serving = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("it listens");
        going_away(socket).await.expect("the client speaks HTTP/2");
    });
    let client = client([endpoint, etcd.endpoint()]);
    client.put("key", "value").await.expect("it was not executed before");
    timeout(DEADLINE, serving).await.expect("in time").expect("it has gone away");
}

#[tokio::test]
async fn a_real_server_that_allows_one_stream_at_a_time_executes_every_write() {
    let etcd = EtcdServer::builder(EtcdVersion::V3_5).flag("max-concurrent-streams", 1);
    let etcd = etcd.start_async().await.expect("it starts");
    let client = builder([etcd.endpoint()]).request_timeout(DEADLINE).connect_lazy().expect("it is valid");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..150 {
        let client = client.clone();
        tasks.spawn(async move {
            for n in 0..3 {
                client.put(format!("key{task}/{n}"), "value").await?;
            }
            Ok::<_, CallError>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("it does not panic").expect("every write is executed");
    }
}
