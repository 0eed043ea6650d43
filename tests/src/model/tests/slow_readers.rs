use super::*;

fn with_queue(watch_queue: usize) -> ModelEtcd {
    ModelEtcd::new(ModelConfig { watch_queue, ..ModelConfig::default() })
}

#[test]
fn a_reader_that_stalls_gets_everything_later_in_larger_batches() {
    let mut etcd = with_queue(4);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    for _ in 0..500 {
        put(&mut etcd, "a", "");
    }
    let responses = drain(&mut etcd, stream);
    let expected: Vec<_> = (2..502).map(|revision| (revision, "a".to_owned())).collect();
    assert_eq!(events(&responses), expected);
    // Four that fitted, the one that didn't, and history.
    let sizes: Vec<_> = responses.iter().map(|response| response.events.len()).collect();
    assert_eq!(sizes, [1, 1, 1, 1, 1, 495]);
    // What waited keeps the revision it had; what came from history is stamped with the newest.
    assert_eq!(responses.iter().map(revision).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 501]);
}

#[test]
fn a_reader_that_stalls_past_compaction_is_told_so_after_what_was_queued() {
    let mut etcd = with_queue(2);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    for _ in 0..10 {
        put(&mut etcd, "a", "");
    }
    compact(&mut etcd, 9);
    let responses = drain(&mut etcd, stream);
    assert_eq!(events(&responses), owned(&[(2, "a"), (3, "a"), (4, "a")]));
    let last = responses.last().expect("the end");
    assert_eq!((last.canceled, last.compact_revision), (true, 9));
}

#[test]
fn watches_of_one_stream_take_turns_in_catching_up() {
    let mut etcd = with_queue(2);
    for _ in 0..3000 {
        put(&mut etcd, "a", "");
    }
    let stream = etcd.open_watch_stream();
    for watch_id in 1..=3 {
        let request = WatchCreateRequest { watch_id, start_revision: 2, ..watch("a", "") };
        created(&mut etcd, stream, request);
    }
    let responses = drain(&mut etcd, stream);
    for id in 1..=3 {
        let of: Vec<_> = responses.iter().filter(|response| response.watch_id == id).cloned().collect();
        assert_eq!(events(&of).len(), 3000);
    }
    let ids: Vec<_> = responses.iter().take(4).map(|response| response.watch_id).collect();
    assert_eq!(ids, [1, 2, 3, 1]);
}

#[test]
fn a_watch_that_is_behind_can_be_cancelled() {
    let mut etcd = with_queue(1);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { watch_id: 7, ..watch("a", "") });
    for _ in 0..5 {
        put(&mut etcd, "a", "");
    }
    cancel(&mut etcd, stream, 7);
    let responses = drain(&mut etcd, stream);
    assert_eq!(responses.len(), 1);
    assert!(responses[0].canceled);
}

#[test]
fn manual_progress_waits_for_watches_that_are_behind() {
    let mut etcd = with_queue(1);
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, watch("a", ""));
    put(&mut etcd, "a", "");
    put(&mut etcd, "a", "");
    request_progress(&mut etcd, stream);
    assert!(drain(&mut etcd, stream).iter().all(|response| response.watch_id != -1));
}

#[test]
fn a_stream_stops_wanting_requests_while_its_replies_wait() {
    let mut etcd = ModelEtcd::new(ModelConfig { control_queue: 2, ..ModelConfig::default() });
    let stream = etcd.open_watch_stream();
    assert!(etcd.wants_watch_request(stream));
    create(&mut etcd, stream, watch("a", ""));
    create(&mut etcd, stream, watch("a", ""));
    assert!(!etcd.wants_watch_request(stream));
    etcd.poll_watch_response(stream);
    assert!(etcd.wants_watch_request(stream));
}

#[test]
fn catching_up_can_go_by_time_as_in_etcd() {
    let tick = Duration::from_millis(100);
    let config = ModelConfig { sync_interval: tick, watch_batch_revisions: 2, ..ModelConfig::default() };
    let mut etcd = ModelEtcd::new(config);
    for _ in 0..3 {
        put(&mut etcd, "a", "");
    }
    let stream = etcd.open_watch_stream();
    created(&mut etcd, stream, WatchCreateRequest { start_revision: 1, ..watch("a", "") });
    assert!(drain(&mut etcd, stream).is_empty());
    assert_eq!(etcd.poll_timeout(), Some(tick));
    etcd.handle_timeout(tick);
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(2, "a"), (3, "a")]));
    // Changes meanwhile come from history too: the watch is still behind.
    put(&mut etcd, "a", "");
    assert!(drain(&mut etcd, stream).is_empty());
    etcd.handle_timeout(2 * tick);
    assert_eq!(events(&drain(&mut etcd, stream)), owned(&[(4, "a"), (5, "a")]));
    assert_eq!(etcd.poll_timeout(), None);
}

#[test]
fn by_time_a_pass_fills_the_queue_and_the_rest_follows() {
    let tick = Duration::from_millis(100);
    let config = ModelConfig { sync_interval: tick, watch_queue: 2, ..ModelConfig::default() };
    let mut etcd = ModelEtcd::new(config);
    put(&mut etcd, "a", "");
    let stream = etcd.open_watch_stream();
    for watch_id in 1..=5 {
        created(&mut etcd, stream, WatchCreateRequest { watch_id, start_revision: 1, ..watch("a", "") });
    }
    let mut got = Vec::new();
    for round in 1..=3 {
        etcd.handle_timeout(round * tick);
        let responses = drain(&mut etcd, stream);
        got.push(responses.len());
    }
    assert_eq!(got, [2, 2, 1]);
    assert_eq!(etcd.poll_timeout(), None);
}
