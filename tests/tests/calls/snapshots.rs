//! Members that can't begin a snapshot.

use std::time::Duration;

use etcd_watch_client::{CallError, Code, Refusal, admin::Snapshot};

use crate::world::{Answer, Scripted, client};

/// Asks a client of two members for a snapshot. The first member answers so, and the second one begins a snapshot. What
/// came of it, and how many requests each of them has got.
async fn asked(first: Answer) -> (Result<Snapshot, CallError>, [usize; 2], [String; 2]) {
    let members = [Scripted::start(move |_| first).await, Scripted::start(|_| Answer::Empty).await];
    let endpoints = members.each_ref().map(Scripted::endpoint);
    // The first member is waited for that long.
    let maintenance = client(&endpoints).maintenance().timeout(Duration::from_millis(500));
    let result = maintenance.snapshot().await;
    (result, members.each_ref().map(Scripted::requests), endpoints)
}

#[tokio::test]
async fn another_member_begins_a_snapshot_if_the_first_is_silent_or_something_else_answers() {
    for first in [
        Answer::Silence,
        Answer::Bare(503),
        Answer::Html(404),
        Answer::Status(14, "etcdserver: no leader"),
        Answer::Status(12, "unknown method Snapshot"),
    ] {
        let (snapshot, requests, endpoints) = asked(first).await;
        let snapshot = snapshot.unwrap_or_else(|error| panic!("{first:?}: {error}"));
        assert_eq!(snapshot.endpoint().to_string(), endpoints[1], "{first:?}");
        assert_eq!(requests, [1, 1], "{first:?}");
    }
}

#[tokio::test]
async fn another_member_begins_a_snapshot_where_one_can_not_be_reached() {
    let down = Scripted::start(|_| Answer::Empty).await.stop().await;
    let up = Scripted::start(|_| Answer::Empty).await;
    let snapshot = client([format!("http://{down}"), up.endpoint()]).maintenance().snapshot().await;
    assert_eq!(snapshot.expect("it begins").endpoint().to_string(), up.endpoint());
}

#[tokio::test]
async fn no_other_member_is_asked_for_a_snapshot_after_etcds_own_refusal() {
    let (refused, requests, _) = asked(Answer::Status(7, "etcdserver: permission denied")).await;
    let refused = refused.expect_err("it is denied");
    assert_eq!(refused.refusal(), Some(Refusal::PermissionDenied));
    assert_eq!(requests, [1, 0]);
}

#[tokio::test]
async fn a_snapshot_that_no_member_begins_ends_with_the_error_of_the_last() {
    let members =
        [Scripted::start(|_| Answer::Bare(503)).await, Scripted::start(|_| Answer::Html(404)).await];
    let failed = client(members.each_ref().map(Scripted::endpoint)).maintenance().snapshot().await;
    assert_eq!(failed.expect_err("none begins").code(), Some(Code::Unimplemented));
    assert_eq!(members.each_ref().map(Scripted::requests), [1, 1]);
}
