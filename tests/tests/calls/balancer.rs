//! What load balancers answer in etcd's place: only etcd's own word is final.

use etcd_watch_client::{CallError, Code, KeyRange, WatchRequest};
use etcd_watch_testkit::{
    model::{ModelConfig, ModelEtcd},
    server::EmbeddedEtcd,
};
use tokio::time::timeout;

use crate::world::{Answer, DEADLINE, SECOND, Scripted, builder, client, healthy, refused_in_the_end};

/// The request was not passed on, whatever is behind the balancer.
const REFUSALS: [Answer; 8] = [
    Answer::Html(429),
    Answer::Html(404),
    Answer::Bare(404),
    Answer::Html(403),
    Answer::Bare(403),
    Answer::Bare(401),
    Answer::Bare(400),
    Answer::Html(302),
];

/// It may have been.
const FAILURES: [Answer; 5] =
    [Answer::Html(500), Answer::Html(502), Answer::Html(503), Answer::Html(504), Answer::Html(200)];

#[tokio::test]
async fn a_read_goes_to_the_healthy_endpoint_whatever_the_other_says_that_is_not_etcd() {
    let etcd = healthy().await;
    for answer in REFUSALS.into_iter().chain(FAILURES) {
        let balancer = Scripted::start(move |_| answer).await;
        let client = client([balancer.endpoint(), etcd.endpoint()]);
        client.get("key").await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        assert_eq!(balancer.requests(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_write_that_a_balancer_refuses_goes_to_the_healthy_endpoint() {
    let etcd = healthy().await;
    for answer in REFUSALS {
        let balancer = Scripted::start(move |_| answer).await;
        let client = client([balancer.endpoint(), etcd.endpoint()]);
        client.put("key", "value").await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        client.lease_grant(60 * SECOND).await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        assert_eq!(balancer.requests(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_write_that_a_gateway_has_lost_may_have_been_executed_and_the_next_goes_elsewhere() {
    let etcd = healthy().await;
    for answer in FAILURES {
        let balancer = Scripted::start(move |_| answer).await;
        let client = client([balancer.endpoint(), etcd.endpoint()]);
        let error = client.put("key", "value").await.expect_err("the gateway's answer is not etcd's");
        assert!(matches!(error, CallError::MaybeExecuted { .. }), "{answer:?}: {error}");
        assert!(error.may_have_executed() && error.is_transient(), "{answer:?}");
        let status = matches!(answer, Answer::Html(502..=504)).then_some(Code::Unavailable);
        assert_eq!(error.code(), status.or(Some(Code::Unknown)), "{answer:?}");
        let words = if answer == Answer::Html(200) { "text/html" } else { "HTTP status" };
        assert!(error.to_string().contains(words), "{error}");
        client.put("key", "value").await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    }
}

#[tokio::test]
async fn a_call_waits_for_a_balancer_that_recovers() {
    for answer in [Answer::Html(503), Answer::Bare(404), Answer::Bare(403)] {
        let balancer = Scripted::start(move |n| if n < 4 { answer } else { Answer::Empty }).await;
        client([balancer.endpoint()]).get("key").await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        assert_eq!(balancer.requests(), 5, "{answer:?}");
    }
}

#[tokio::test]
async fn a_call_that_only_a_balancer_answers_says_so_in_the_end() {
    let balancer = Scripted::start(|_| Answer::Bare(403)).await;
    let client = builder([balancer.endpoint()]).request_timeout(SECOND).connect_lazy().expect("it is valid");
    let read = client.get("key").await.expect_err("nobody else is there");
    for error in [read, refused_in_the_end(async || client.put("key", "value").await).await] {
        assert!(matches!(error, CallError::Timeout { last: Some(_), .. }), "{error}");
        assert!(!error.may_have_executed() && error.to_string().contains("HTTP status 403"), "{error}");
        assert_eq!(error.code(), Some(Code::PermissionDenied));
    }
}

#[tokio::test]
async fn a_watch_goes_on_at_the_healthy_endpoint() {
    let etcd = healthy().await;
    for answer in REFUSALS.into_iter().chain(FAILURES) {
        let balancer = Scripted::start(move |_| answer).await;
        let client = client([balancer.endpoint(), etcd.endpoint()]);
        let mut from_now = client.watch(KeyRange::prefix("key")).expect("it is valid");
        let from_one = WatchRequest::new(KeyRange::prefix("key")).start_revision(1);
        let mut from_one = client.watch(from_one).expect("it is valid");
        let writer = crate::world::client([etcd.endpoint()]);
        loop {
            writer.put("key", "value").await.expect("it is healthy");
            // From now on is from when the watch has found a member.
            if let Ok(taken) = timeout(SECOND / 10, from_now.try_next()).await {
                taken.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
                break;
            }
        }
        let taken = timeout(DEADLINE, from_one.try_next()).await.expect("in time");
        taken.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
    }
}

#[tokio::test]
async fn a_watch_waits_for_a_balancer_that_recovers() {
    for answer in [Answer::Bare(404), Answer::Bare(403), Answer::Html(503)] {
        let balancer = Scripted::start(move |_| answer).await;
        let client = client([balancer.endpoint()]);
        let mut watch =
            client.watch(WatchRequest::new(KeyRange::prefix("key")).start_revision(1)).expect("it is valid");
        while balancer.requests() < 4 {
            assert!(timeout(SECOND / 100, watch.try_next()).await.is_err(), "{answer:?} ends no watch");
        }
        let address = balancer.stop().await;
        let etcd = EmbeddedEtcd::start_on(address, ModelEtcd::new(ModelConfig::default())).await;
        let etcd = etcd.expect("the port is free again");
        client.put("key", "value").await.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        let taken = timeout(DEADLINE, watch.try_next()).await.expect("in time");
        taken.unwrap_or_else(|error| panic!("{answer:?}: {error}"));
        drop(etcd);
    }
}
