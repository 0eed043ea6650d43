use super::*;
use crate::model::ProgressMode;

const INTERVAL: Duration = Duration::from_secs(600);

fn notifying(watch_id: i64, key: &str) -> WatchCreateRequest {
    WatchCreateRequest { watch_id, progress_notify: true, ..watch(key, "") }
}

fn ids_and_revisions(responses: &[WatchResponse]) -> Vec<(i64, i64)> {
    responses.iter().map(|response| (response.watch_id, revision(response))).collect()
}

#[test]
fn a_manual_request_is_answered_for_the_whole_stream() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "b", "");
    request_progress(&mut etcd, stream);
    let responses = drain(&mut etcd, stream);
    assert_eq!(ids_and_revisions(&responses), [(-1, 2)]);
    assert!(responses[0].events.is_empty() && !responses[0].created && !responses[0].canceled);
}

#[test]
fn a_manual_answer_comes_behind_the_events_it_speaks_of() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    put(&mut etcd, "a", "");
    request_progress(&mut etcd, stream);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(7, 2), (-1, 2)]);
}

#[test]
fn a_manual_request_is_not_answered_while_a_watch_is_behind() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "");
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    create(&mut etcd, stream, WatchCreateRequest { start_revision: 1, ..watch("a", "") });
    request_progress(&mut etcd, stream);
    let responses = drain(&mut etcd, stream);
    assert!(responses.iter().all(|response| response.watch_id != -1));
    request_progress(&mut etcd, stream);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(-1, 2)]);
}

#[test]
fn a_manual_request_is_not_answered_without_watches() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    request_progress(&mut etcd, stream);
    assert!(drain(&mut etcd, stream).is_empty());
}

#[test]
fn a_manual_request_is_not_answered_before_the_start_of_a_watch() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 3, ..watch("a", "") });
    request_progress(&mut etcd, stream);
    assert!(drain(&mut etcd, stream).is_empty());
    put(&mut etcd, "b", "");
    put(&mut etcd, "b", "");
    request_progress(&mut etcd, stream);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(-1, 3)]);
}

#[test]
fn an_old_server_answers_a_manual_request_ahead_of_events_on_their_way() {
    let config = ModelConfig { progress: ProgressMode::Overtaking, ..ModelConfig::default() };
    let mut etcd = ModelEtcd::new(config);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    put(&mut etcd, "a", "");
    request_progress(&mut etcd, stream);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(-1, 2), (7, 2)]);
}

#[test]
fn a_quiet_watch_is_notified_every_interval_if_it_asked() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, notifying(1, "a"));
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 2, ..watch("a", "") });
    put(&mut etcd, "b", "");
    assert_eq!(etcd.poll_timeout(), Some(INTERVAL));
    etcd.handle_timeout(INTERVAL - SECOND);
    assert!(drain(&mut etcd, stream).is_empty());
    etcd.poll_ready();
    etcd.handle_timeout(INTERVAL);
    assert_eq!(etcd.poll_ready(), Some(stream));
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(1, 2)]);
    assert_eq!(etcd.poll_timeout(), Some(2 * INTERVAL));
}

#[test]
fn a_watch_that_had_events_is_notified_one_interval_later() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, notifying(1, "a"));
    put(&mut etcd, "a", "");
    drain(&mut etcd, stream);
    etcd.handle_timeout(INTERVAL);
    assert!(drain(&mut etcd, stream).is_empty());
    etcd.handle_timeout(2 * INTERVAL);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(1, 2)]);
}

#[test]
fn a_watch_that_is_behind_is_not_notified() {
    let mut etcd = etcd();
    put(&mut etcd, "a", "");
    let stream = etcd.open_watch_stream();
    create(&mut etcd, stream, WatchCreateRequest { start_revision: 1, ..notifying(1, "a") });
    etcd.handle_timeout(INTERVAL);
    let responses = drain(&mut etcd, stream);
    assert!(responses[0].created);
    assert_eq!(events(&responses[1..]), owned(&[(2, "a")]));
    assert_eq!(responses.len(), 2);
}

#[test]
fn nothing_is_due_when_nobody_asked() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, notifying(1, "a"));
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 2, ..watch("a", "") });
    cancel(&mut etcd, stream, 1);
    assert_eq!(etcd.poll_timeout(), None);
}

#[test]
fn the_end_of_time_is_a_time_like_any_other() {
    let mut etcd = etcd();
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, notifying(1, "a"));
    etcd.handle_timeout(Duration::MAX);
    assert_eq!(ids_and_revisions(&drain(&mut etcd, stream)), [(1, 1)]);
    let late = etcd.open_watch_stream();
    created(&mut etcd, late, notifying(1, "a"));
    assert_eq!(etcd.poll_timeout(), Some(Duration::MAX));
}
