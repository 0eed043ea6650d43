//! Credentials that change while a call is under way, or while a watch stream is being opened.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use etcd_watch_client::{CallError, Client, Credentials, WatchConfig, WatchRequest};
use etcd_watch_testkit::harness::wait_until;

use crate::world::{Answer, DEADLINE, Scripted, builder, client};

/// What etcd says of a request without a token.
const NO_TOKEN: Answer = Answer::Status(3, "etcdserver: user name is empty");

/// Waits for requests of this method, and returns the tokens they carry.
async fn tokens(etcd: &Scripted, method: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    wait_until("it is asked for", DEADLINE, || {
        tokens.extend(etcd.take_headers(method, "token"));
        !tokens.is_empty()
    })
    .await;
    tokens
}

#[tokio::test]
async fn a_stream_that_is_being_opened_moves_once_it_is_open() {
    let etcd = Scripted::start(|_| Answer::Silence).await;
    // Longer than the test: a stream that is given up for its silence would be opened with the second token, too.
    let patient = WatchConfig::default().answer_timeout(4 * DEADLINE);
    let client = builder([etcd.endpoint()]).token("the-first").watch_config(patient);
    let client = client.connect_lazy().expect("it is valid");
    let watch = client.watch(WatchRequest::new("key").start_revision(1)).expect("it is lawful");
    // The member is asked for its version, and the stream is opened without once it has not told that in time.
    assert_eq!(tokens(&etcd, "Status").await, ["the-first"]);
    client.set_credentials(Credentials::token("the-second")).expect("it is valid");
    let changed = Instant::now();
    let mut last = tokens(&etcd, "Watch").await;
    while last.last().is_none_or(|token| token != "the-second") {
        assert!(changed.elapsed() < DEADLINE, "the stream keeps its token: {last:?}");
        last.extend(tokens(&etcd, "Watch").await);
    }
    assert!(last.len() <= 2, "it moves once: {last:?}");
    drop(watch);
}

#[tokio::test]
async fn a_call_that_was_sent_before_the_first_credentials_is_made_again_with_them() {
    let caller = Arc::new(OnceLock::<Client>::new());
    let given = caller.clone();
    let etcd = Scripted::start(move |request| {
        if request > 0 {
            return Answer::Empty;
        }
        // The call is under way.
        let caller = given.get().expect("it has called");
        caller.set_credentials(Credentials::token("the-first")).expect("it is valid");
        NO_TOKEN
    });
    let etcd = etcd.await;
    let caller = caller.get_or_init(|| client([etcd.endpoint()]));
    caller.put("key", "value").await.expect("it is made again");
    assert_eq!(etcd.take_headers("Put", "token"), ["", "the-first"]);
}

#[tokio::test]
async fn a_call_without_a_token_is_refused_once_if_there_are_no_credentials() {
    let etcd = Scripted::start(|_| NO_TOKEN).await;
    let refused = client([etcd.endpoint()]).put("key", "value").await.expect_err("it has no token");
    assert!(matches!(refused, CallError::Refused { .. }), "{refused}");
    assert_eq!(etcd.take_headers("Put", "token"), [""]);
}

/// An `AuthenticateResponse` with a token.
const TOKEN_OF_THE_CLUSTER: Answer = Answer::Message(b"\x12\x03one");
const TOKEN_OF_ANOTHER: Answer = Answer::Message(b"\x12\x03two");

#[tokio::test]
async fn a_token_that_is_refused_outside_of_the_clients_endpoints_stays_the_clients_own() {
    let cluster = |request| if request == 0 { TOKEN_OF_THE_CLUSTER } else { Answer::Empty };
    let cluster = Scripted::start(cluster).await;
    let another = Scripted::start(|request| match request {
        0 => Answer::Status(16, "etcdserver: invalid auth token"),
        1 => TOKEN_OF_ANOTHER,
        _ => Answer::Empty,
    });
    let another = another.await;
    let client = builder([cluster.endpoint()]).user("ann", "password").connect_lazy().expect("it is valid");
    let put = async || {
        client.put("key", "value").await.expect("it is put");
        cluster.take_headers("Put", "token")
    };
    let status = async || {
        client.maintenance().status(another.endpoint()).await.expect("it is told");
        another.take_headers("Status", "token")
    };
    assert_eq!(put().await, ["one"]);
    assert_eq!(status().await, ["one", "two"]);
    assert_eq!(put().await, ["one"]);
    assert_eq!(status().await, ["two"], "it is kept");
    assert_eq!(cluster.take_headers("Authenticate", "token").len(), 1);
    assert_eq!(another.take_headers("Authenticate", "token").len(), 1);
    client.set_credentials(Credentials::token("given")).expect("it is valid");
    assert_eq!((put().await, status().await), (vec!["given".to_owned()], vec!["given".to_owned()]));
}

#[tokio::test]
async fn a_call_outside_of_the_clients_endpoints_is_made_again_with_a_token_that_is_given_meanwhile() {
    let caller = Arc::new(OnceLock::<Client>::new());
    let given = caller.clone();
    let another = Scripted::start(move |request| {
        if request > 0 {
            return Answer::Empty;
        }
        // The call is under way.
        let caller = given.get().expect("it has called");
        caller.set_credentials(Credentials::token("the-second")).expect("it is valid");
        Answer::Status(16, "etcdserver: invalid auth token")
    });
    let (cluster, another) = (Scripted::start(|_| Answer::Empty).await, another.await);
    let builder = builder([cluster.endpoint()]).token("the-first");
    let caller = caller.get_or_init(|| builder.connect_lazy().expect("it is valid"));
    caller.maintenance().status(another.endpoint()).await.expect("it is told");
    assert_eq!(another.take_headers("Status", "token"), ["the-first", "the-second"]);
}
