use alloc::vec;
use bytes::Bytes;

use super::*;
use crate::{
    Frame, Header,
    watch::response::Chunk,
    wire::index::{EventIndex, Events, KvIndex, Span},
};

fn response(bytes: usize) -> WatchResponse {
    let event = EventIndex { kv: KvIndex { mod_revision: 5, ..KvIndex::default() }, ..EventIndex::default() };
    let mut frame = Frame::default();
    (frame.bytes, frame.events) = (Bytes::from(vec![0; bytes]), Events::One(event));
    WatchResponse::events_of(Chunk::take(&mut frame), Header::default())
}

impl Queue {
    fn put(&mut self, now: Instant, response: WatchResponse, base: i64, spares: &mut Spares) {
        self.push(now, Incoming::Response(response), base, &WatchConfig::default(), spares);
    }

    /// Adds a frame with a put of a key at each of these revisions; the value is the revision.
    fn put_frame(&mut self, config: &WatchConfig, revisions: &[i64]) -> (usize, usize) {
        let mut frame = frame(revisions);
        let (before, cost) = (self.bytes(), self.cost_of(&Incoming::Frame(&mut frame), config));
        self.push(at(0), Incoming::Frame(&mut frame), revisions[0], config, &mut Spares::default());
        (self.bytes() - before, cost)
    }
}

fn frame(revisions: &[i64]) -> Frame {
    let mut bytes = Vec::new();
    let mut event = |revision: &i64| {
        let start = u32::try_from(bytes.len()).unwrap();
        bytes.extend([b"key", &revision.to_be_bytes()[..]].concat());
        let (key, value) = (Span::new(start, 3), Span::new(start + 3, 8));
        EventIndex {
            kv: KvIndex { key, value, mod_revision: *revision, ..KvIndex::default() },
            ..EventIndex::default()
        }
    };
    let mut frame = Frame::default();
    frame.events = Events::Many(revisions.iter().map(&mut event).collect());
    frame.bytes = bytes.into();
    frame.header.revision = revisions[revisions.len() - 1];
    frame
}

/// The revisions of the events that are taken next; each event's key and value are looked at.
fn taken(queue: &mut Queue, config: &WatchConfig) -> Vec<i64> {
    let Some(Delivery::Response(response)) = queue.take(at(1), config, &mut Spares::default()) else {
        return Vec::new();
    };
    let revisions: Vec<i64> = response
        .events()
        .map(|event| {
            assert_eq!((event.key(), event.value()), (&b"key"[..], &event.mod_revision().to_be_bytes()[..]));
            event.mod_revision()
        })
        .collect();
    if let Some(last) = revisions.last() {
        assert_eq!((response.revision(), response.header().revision), (*last, *last));
    }
    revisions
}

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

/// A queue with a floor of 1,000 bytes and a budget of 4,000, in which so many wait.
fn queue_with(bytes: usize) -> Queue {
    let waiting = Some(Box::new(Waiting { bytes, ..Waiting::default() }));
    Queue { waiting, ..Queue::new(1000, 4000) }
}

/// The simulator's seed 2000023858: the buffer doubled where a response of its own would have crossed the line by little.
#[test]
fn what_crosses_the_line_costs_no_more_than_a_response_of_its_own() {
    let config = WatchConfig::default();
    for limit in (2_000..20_000).step_by(111) {
        let mut queue = Queue::new(limit, limit);
        let mut before = 0;
        while queue.bytes() <= limit {
            before = queue.bytes();
            queue.put_frame(&config, &[i64::try_from(before).unwrap()]);
        }
        let one = Chunk::cost_of(&frame(&[1])) + COST;
        assert!(queue.bytes() <= before + one, "{limit}: from {before} to {}, one is {one}", queue.bytes());
        let mut count = 0;
        while !taken(&mut queue, &config).is_empty() {
            count += 1;
        }
        assert!(count <= 2, "{limit}: they are taken together");
    }
}

const STALL: Duration = Duration::from_millis(100);

#[test]
fn a_stalled_consumer_gets_no_more_than_the_floor_a_moving_one_the_budget() {
    for (bytes, millis, is_over, limit) in [
        (1000, 0, false, 1000),
        (1001, 99, false, 2000),
        (4000, 99, false, 4000),
        (4001, 99, true, 4000),
        // Nothing was taken for 100 ms.
        (1000, 100, false, 1000),
        (1001, 100, true, 1000),
    ] {
        let mut queue = queue_with(bytes);
        assert_eq!((queue.is_over(at(millis), STALL, 0), queue.limit), (is_over, limit), "{bytes} bytes");
    }
}

#[test]
fn a_consumer_is_given_time_from_the_first_thing_that_it_could_take() {
    let mut queue = Queue::new(1000, 4000);
    queue.put(at(0), response(10), 1, &mut Spares::default());
    queue.put(at(500), response(1500), 1, &mut Spares::default());
    assert!(queue.is_over(at(500), STALL, 0));
    let mut queue = Queue::new(1000, 4000);
    queue.put(at(500), response(1500), 1, &mut Spares::default());
    assert!(!queue.is_over(at(510), STALL, 0));
}

#[test]
fn there_is_room_again_when_half_is_taken() {
    let has_room = |bytes| queue_with(bytes).has_room();
    assert!(has_room(0) && has_room(500) && !has_room(501));
}

/// A queue with one response, of some bytes in all, that may have more.
fn queue_of_one(limit: impl Fn(usize) -> usize) -> (Queue, usize) {
    let mut queue = Queue::new(10, 1 << 30);
    queue.put(at(0), response(10_000), 1, &mut Spares::default());
    let bytes = queue.bytes();
    queue.limit = limit(bytes);
    let config = WatchConfig::default().buffer_floor_bytes(10);
    let taken = queue.take(at(1), &config, &mut Spares::default());
    assert!(taken.is_some() && queue.is_empty() && queue.bytes() == 0);
    (queue, bytes)
}

#[test]
fn the_limit_is_halved_when_less_than_a_quarter_was_used() {
    let (queue, bytes) = queue_of_one(|bytes| bytes * 4);
    assert_eq!(queue.limit, bytes * 4);
    let (queue, bytes) = queue_of_one(|bytes| (bytes + 1) * 4);
    assert_eq!(queue.limit, (bytes + 1) * 2);
}

#[test]
fn what_is_dropped_is_asked_for_again_from_where_the_consumer_is() {
    let mut queue = Queue::new(1000, 1 << 30);
    assert_eq!(queue.discard(), None);
    queue.put(
        at(0),
        WatchResponse::notice(ResponseKind::Created, Header::default(), 3),
        3,
        &mut Spares::default(),
    );
    queue.put(at(0), response(10), 4, &mut Spares::default());
    let all = Dropped { base: 3, created: true, progress: false };
    assert_eq!((queue.clone().discard(), queue.clone().bytes() > 0), (Some(all), true));
    assert!(queue.take(at(1), &WatchConfig::default(), &mut Spares::default()).is_some());
    let rest = Dropped { base: 3, created: false, progress: false };
    assert_eq!((queue.discard(), queue.bytes()), (Some(rest), 0));
    queue.put(
        at(0),
        WatchResponse::notice(ResponseKind::Progress, Header::default(), 9),
        7,
        &mut Spares::default(),
    );
    queue.lower_base(6);
    assert_eq!(queue.discard(), Some(Dropped { base: 6, created: false, progress: true }));
}

#[test]
fn small_lists_are_kept_for_other_queues_and_not_too_many_of_them() {
    let list = |slots| Box::new(Waiting { responses: VecDeque::with_capacity(slots), ..Waiting::default() });
    let mut spares = Spares::default();
    spares.give(list(0));
    spares.give(list(SPARE_SLOTS + 1));
    assert_eq!(spares.0.len(), 0);
    (0..2 * SPARES).for_each(|_| spares.give(list(SPARE_SLOTS)));
    assert_eq!(spares.0.len(), SPARES);

    let mut queue = Queue::new(1000, 4000);
    queue.put(at(0), response(10), 1, &mut spares);
    let slots = queue.waiting.as_ref().map(|waiting| waiting.responses.capacity());
    assert_eq!((spares.0.len(), slots), (SPARES - 1, Some(SPARE_SLOTS)));
    assert!(queue.take(at(1), &WatchConfig::default(), &mut spares).is_some());
    assert_eq!((spares.0.len(), queue.waiting.is_none()), (SPARES, true));
}

#[test]
fn the_limit_shrinks_again_when_the_room_is_not_used() {
    let config = WatchConfig::default().buffer_floor_bytes(1000);
    let mut queue = Queue::new(1000, 1 << 20);
    queue.put(at(0), response(100_000), 1, &mut Spares::default());
    assert!(!queue.is_over(at(1), STALL, 0));
    let grown = queue.limit;
    assert!(grown >= 100_000);
    for millis in 2..12 {
        while queue.take(at(millis), &config, &mut Spares::default()).is_some() {}
        queue.put(at(millis), response(10), 1, &mut Spares::default());
    }
    assert!(queue.limit < grown / 8, "{} of {grown}", queue.limit);
}

#[test]
fn waiting_responses_are_merged_up_to_the_limits_and_the_close_comes_last() {
    let config = WatchConfig::default().batch_events(2);
    let mut queue = Queue::new(1000, 1 << 20);
    for _ in 0..3 {
        queue.put(at(0), response(10), 1, &mut Spares::default());
    }
    queue.close(CloseReason::Cancelled);
    queue.close(CloseReason::ShutDown);
    let sizes: Vec<usize> =
        core::iter::from_fn(|| match queue.take(at(1), &config, &mut Spares::default()) {
            Some(Delivery::Response(response)) => Some(response.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [2, 1]);
    assert_eq!(queue.bytes(), 0);
    assert_eq!(queue.take(at(1), &config, &mut Spares::default()), None, "the close was taken above, once");
}

#[test]
fn responses_are_merged_as_long_as_they_have_no_more_bytes_than_a_batch() {
    let both = 2 * response(10).memory_bytes();
    for (batch_bytes, len) in [(both, 2), (both - 1, 1)] {
        let mut queue = Queue::new(1000, 1 << 20);
        for _ in 0..3 {
            queue.put(at(0), response(10), 1, &mut Spares::default());
        }
        let config = WatchConfig::default().batch_bytes(batch_bytes);
        let taken = queue.take(at(1), &config, &mut Spares::default());
        assert!(matches!(taken, Some(Delivery::Response(response)) if response.len() == len));
    }
}

#[test]
fn a_consumer_is_told_once_until_it_has_found_the_queue_empty() {
    let config = WatchConfig::default();
    let mut queue = Queue::new(1000, 1 << 20);
    queue.put(at(0), response(10), 1, &mut Spares::default());
    assert!(queue.notify() && !queue.notify());
    assert!(queue.take(at(0), &config, &mut Spares::default()).is_some());
    assert!(!queue.notify(), "it has not looked again yet");
    assert!(queue.take(at(0), &config, &mut Spares::default()).is_none());
    assert!(queue.notify());
}

#[test]
fn bookmarks_that_nobody_reads_do_not_pile_up() {
    let mut queue = Queue::new(1000, 1 << 20);
    for revision in 0..1000 {
        queue.put(
            at(0),
            WatchResponse::notice(ResponseKind::Progress, Header::default(), revision),
            1,
            &mut Spares::default(),
        );
    }
    assert_eq!((queue.newest_revision(), queue.count()), (Some(998), (1, 0)));
}

#[test]
fn small_frames_that_wait_are_gathered_and_come_in_order() {
    let config = WatchConfig::default();
    let mut queue = Queue::new(1 << 20, 1 << 30);
    let revisions: Vec<i64> = (1..=2_000).collect();
    for revisions in revisions.chunks(3) {
        let (more, cost) = queue.put_frame(&config, revisions);
        assert_eq!(more, cost, "of revision {}", revisions[0]);
    }
    // The first response, and what was gathered until that was full, again and again.
    let (responses, events) = queue.count();
    assert!(responses < 20 && events == 2_000, "{events} events in {responses} responses");
    assert_eq!(queue.newest_revision(), Some(2_000));
    let mut all = Vec::new();
    while !queue.is_empty() {
        all.extend(taken(&mut queue, &config));
    }
    assert_eq!((all, queue.bytes()), (revisions, 0));
}

#[test]
fn what_is_gathered_is_held_to_the_limits_of_a_batch() {
    let config = WatchConfig::default().batch_events(5);
    let mut queue = Queue::new(1 << 20, 1 << 30);
    for revisions in [&[1, 2][..], &[3, 4], &[5], &[6, 7], &[8, 9, 10], &[11]] {
        queue.put_frame(&config, revisions);
    }
    let batches: Vec<_> = core::iter::from_fn(|| Some(taken(&mut queue, &config)))
        .take_while(|batch| !batch.is_empty())
        .collect();
    assert_eq!(batches, [vec![1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10], vec![11]]);
}

#[test]
fn what_is_gathered_is_held_to_a_batchs_bytes_with_the_room_it_grows_to() {
    let config = WatchConfig::default().batch_bytes(1_000);
    let mut queue = Queue::new(1 << 20, 1 << 30);
    (1..=200).for_each(|revision| _ = queue.put_frame(&config, &[revision]));
    let mut all = 0;
    while let Some(Delivery::Response(response)) = queue.take(at(1), &config, &mut Spares::default()) {
        assert!(response.memory_bytes() <= 1_000, "{response:?}");
        all += response.len();
    }
    assert_eq!(all, 200);
}

#[test]
fn a_notice_stays_between_the_events_that_it_came_between() {
    let config = WatchConfig::default();
    let mut queue = Queue::new(1 << 20, 1 << 30);
    for revision in [1, 2] {
        queue.put_frame(&config, &[revision]);
    }
    queue.put(
        at(0),
        WatchResponse::notice(ResponseKind::Progress, Header::default(), 3),
        3,
        &mut Spares::default(),
    );
    for revision in [3, 4] {
        queue.put_frame(&config, &[revision]);
    }
    assert_eq!(taken(&mut queue, &config), [1, 2]);
    assert!(matches!(
        queue.take(at(1), &config, &mut Spares::default()),
        Some(Delivery::Response(notice)) if notice.kind() == ResponseKind::Progress
    ));
    assert_eq!(taken(&mut queue, &config), [3, 4]);
    assert!(queue.is_empty() && queue.bytes() == 0);
}

#[test]
fn what_was_gathered_is_dropped_with_the_rest() {
    let config = WatchConfig::default();
    let mut queue = Queue::new(1 << 20, 1 << 30);
    for revision in [5, 6, 7] {
        queue.put_frame(&config, &[revision]);
    }
    assert_eq!(queue.discard(), Some(Dropped { base: 5, created: false, progress: false }));
    assert_eq!((queue.bytes(), queue.count(), queue.newest_revision()), (0, (0, 0), None));
}
