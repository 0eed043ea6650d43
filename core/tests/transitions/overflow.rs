//! Consumers that are too slow.

use etcd_watch_core::{
    Action, CloseReason, Delivery, Overflow, ResponseKind, StreamKey, WatchConfig, WatchKey,
};

use crate::support::*;

fn small() -> WatchConfig {
    WatchConfig::default().buffer_floor_bytes(4000).buffer_bytes(4000)
}

#[test]
fn replay_cancels_on_the_server_and_creates_again_once_the_consumer_has_drained() {
    let mut driver = Driver::new(small());
    let (watch, stream, id) = driver.running(all_from(1));
    for revision in 1..=20 {
        driver.frame(stream, big(id, revision, 1000));
    }
    assert_eq!(driver.cancels(), [id], "cancelled once");
    assert!(driver.stats().queued_bytes < 6000, "{:?}", driver.stats());
    assert!(driver.watcher.wants_frame(stream));
    assert_eq!(driver.creates(), []);
    let taken = driver.revisions(watch);
    let create = driver.creates().remove(0);
    assert_eq!(create.start_revision, taken.len() as i64 + 1);
    assert_ne!(create.watch_id, id);
    driver.frame(stream, created(create.watch_id));
    for revision in create.start_revision..=20 {
        driver.frame(stream, big(create.watch_id, revision, 1000));
        assert_eq!(driver.revisions(watch), [revision]);
    }
    assert_eq!((driver.stats().overflows, driver.stats().queued_bytes), (1, 0));
}

#[test]
fn a_watch_that_was_cut_off_is_created_again_when_the_last_thing_is_taken_and_not_the_first() {
    let mut driver = Driver::new(small().batch_events(1));
    let (watch, stream, id) = driver.running(all_from(1));
    for revision in 1..=4 {
        driver.frame(stream, big(id, revision, 1000));
    }
    assert_eq!(driver.cancels(), [id]);
    assert!(driver.take_one(watch).is_some());
    assert_eq!(driver.creates(), []);
    assert!(driver.take_one(watch).is_some());
    assert_eq!(driver.creates()[0].start_revision, 3, "the third response was not kept");
}

#[test]
fn pause_stops_reading_until_there_is_room() {
    let mut driver = Driver::new(small());
    let (watch, stream, id) = driver.running(all_from(1).overflow(Overflow::Pause));
    let mut revision = 0;
    while driver.watcher.wants_frame(stream) {
        revision += 1;
        driver.frame(stream, big(id, revision, 1000));
        assert!(revision < 10);
    }
    assert_eq!(driver.cancels(), []);
    driver.sleep(ms(60_000));
    assert_eq!(driver.closes(), [], "what isn't read can't be silent");
    assert_eq!(driver.revisions(watch), (1..=revision).collect::<Vec<_>>());
    assert!(driver.watcher.wants_frame(stream));
}

#[test]
fn a_paused_stream_is_read_again_when_its_slow_watch_is_cancelled() {
    let mut driver = Driver::new(small());
    let (watch, stream, id) = driver.running(all_from(1).overflow(Overflow::Pause));
    driver.frame(stream, big(id, 1, 9000));
    assert!(!driver.watcher.wants_frame(stream));
    driver.cancel(watch);
    assert!(driver.watcher.wants_frame(stream));
}

#[test]
fn a_stream_that_is_read_again_has_time_for_what_it_was_to_say_meanwhile() {
    for ends_by in ["being taken", "a cancel", "the server"] {
        let mut driver = Driver::new(small().answer_timeout(ms(700)));
        let (slow, stream, id) = driver.running(all_from(1).overflow(Overflow::Pause));
        let other = driver.watch(all_from(1));
        driver.frame(stream, big(id, 1, 9000));
        driver.sleep(ms(60_000));
        match ends_by {
            "being taken" => assert_eq!(driver.revisions(slow), [1]),
            "a cancel" => driver.cancel(slow),
            _ => driver.frame(stream, canceled(id, "")),
        }
        driver.sleep(ms(699));
        assert_eq!(driver.closes(), [], "after {ends_by}");
        let create = driver.creates().remove(0);
        driver.frame(stream, created(create.watch_id));
        driver.frame(stream, events(create.watch_id, &[1]));
        assert_eq!(driver.revisions(other), [1]);
    }
}

#[test]
fn fail_ends_the_watch_after_what_waits() {
    let mut driver = Driver::new(small());
    let (watch, stream, id) = driver.running(all_from(1).overflow(Overflow::Fail));
    for revision in 1..=20 {
        driver.frame(stream, big(id, revision, 1000));
    }
    assert_eq!(driver.cancels(), [id]);
    let mut taken = driver.take_all(watch);
    let Some(Delivery::Closed(CloseReason::Lagged { next_revision, queued_bytes })) = taken.pop() else {
        panic!("it ends as lagged")
    };
    let Some(Delivery::Response(last)) = taken.pop() else { panic!("after what waited") };
    assert_eq!(last.resume_revision(), next_revision);
    assert!((1000..=4000).contains(&queued_bytes), "the response that crossed the line was not kept");
}

#[test]
fn the_total_budget_holds_whatever_each_watch_may() {
    let mut driver = Driver::new(small().total_buffer_bytes(8000));
    let (_, stream, id) = driver.running(all_from(1));
    let mut ids = vec![id];
    for _ in 0..9 {
        driver.watch(all_from(1));
        ids.push(driver.create_one(stream));
    }
    for revision in 1..=3 {
        ids.iter().for_each(|&id| driver.frame(stream, big(id, revision, 1000)));
    }
    let queued = driver.stats().queued_bytes;
    assert!(queued > 4000 && queued <= 8000, "{queued}");
    assert!(driver.cancels().len() >= 5);
}

#[test]
fn a_watch_that_waits_for_nobody_keeps_what_came_last_and_is_whole_again_when_its_consumer_comes() {
    let mut driver = Driver::new(small().total_buffer_bytes(8000));
    let (first, stream, id) = driver.running(all_from(1).created_notify(true));
    let mut ids = vec![id];
    let mut watches = vec![first];
    for _ in 0..9 {
        watches.push(driver.watch(all_from(1)));
        ids.push(driver.create_one(stream));
    }
    ids.iter().for_each(|&id| driver.frame(stream, big(id, 1, 1000)));
    assert!(driver.cancels().contains(&id), "the first has waited for longest");
    assert_eq!(driver.take_all(first), [], "what waited for it was dropped");
    let create = driver.creates().remove(0);
    assert_eq!(create.start_revision, 1);
    driver.frame(stream, created(create.watch_id));
    driver.frame(stream, big(create.watch_id, 1, 1000));
    let kinds: Vec<_> = driver.responses(first).iter().map(|response| response.kind()).collect();
    assert_eq!(kinds, [ResponseKind::Created, ResponseKind::Events], "its notice comes again, too");
    assert_eq!(driver.revisions(watches[9]), [1], "what came last was kept");
}

/// What one of the responses of the tests below costs while it waits, in bytes.
fn cost_of_one() -> usize {
    let mut driver = Driver::new(WatchConfig::default());
    let (_, stream, id) = driver.running(all_from(1));
    driver.frame(stream, big(id, 1, 1000));
    driver.stats().queued_bytes
}

/// Watches that run on one stream, with room for `responses` in all, all of which may be one watch's.
struct Shared {
    driver: Driver,
    stream: StreamKey,
    watches: Vec<(WatchKey, i64)>,
}

impl Shared {
    fn new(responses: usize, policies: &[Overflow]) -> Self {
        let room = responses * cost_of_one();
        let config =
            WatchConfig::default().buffer_bytes(room).buffer_floor_bytes(room).total_buffer_bytes(room);
        let mut driver = Driver::new(config);
        let (first, stream, id) = driver.running(all_from(1).overflow(policies[0]));
        let mut watches = vec![(first, id)];
        for &policy in &policies[1..] {
            let watch = driver.watch(all_from(1).overflow(policy));
            watches.push((watch, driver.create_one(stream)));
        }
        Self { driver, stream, watches }
    }

    /// A response for one of the watches.
    fn receive(&mut self, watch: usize, revision: i64) {
        self.driver.frame(self.stream, big(self.watches[watch].1, revision, 1000));
    }

    /// A response of a revision for a watch, one after the other.
    fn receive_all(&mut self, responses: &[(usize, i64)]) {
        responses.iter().for_each(|&(watch, revision)| self.receive(watch, revision));
    }

    /// Which watches were taken off the server since it was last asked.
    fn taken_off(&mut self) -> Vec<usize> {
        let of_id = |id| self.watches.iter().position(|&(_, own)| own == id).expect("a watch of the test");
        let cancels = self.driver.cancels();
        cancels.into_iter().map(of_id).collect()
    }

    /// Of which watches an overflow was told since it was last asked.
    fn told(&mut self) -> Vec<usize> {
        let of_key = |action| match action {
            Action::Overflowed { watch, .. } => self.watches.iter().position(|&(key, _)| key == watch),
            _ => None,
        };
        let overflows = self.driver.overflows();
        overflows.into_iter().filter_map(of_key).collect()
    }

    fn revisions(&mut self, watch: usize) -> Vec<i64> {
        self.driver.revisions(self.watches[watch].0)
    }
}

#[test]
fn the_common_budget_may_be_used_up_to_its_last_byte() {
    let mut shared = Shared::new(3, &[Overflow::Replay; 3]);
    (0..3).for_each(|watch| shared.receive(watch, 1));
    assert_eq!(shared.taken_off(), [], "all that waits is as much as may");
    shared.receive(2, 2);
    assert_eq!(shared.taken_off(), [0]);
}

#[test]
fn a_watch_that_receives_more_has_still_waited_for_longest() {
    let mut shared = Shared::new(3, &[Overflow::Replay; 3]);
    shared.receive_all(&[(0, 1), (1, 1), (0, 2), (2, 1)]);
    assert_eq!((shared.taken_off(), shared.told()), (vec![0], vec![0]));
    assert_eq!([0, 1, 2].map(|watch| shared.revisions(watch)), [vec![], vec![1], vec![1]]);
}

#[test]
fn what_waits_for_a_watch_that_pauses_is_never_dropped_for_another() {
    let mut shared = Shared::new(3, &[Overflow::Pause, Overflow::Replay, Overflow::Replay]);
    shared.receive_all(&[(0, 1), (1, 1), (2, 1), (2, 2)]);
    assert_eq!(shared.taken_off(), [1]);
    assert_eq!([0, 1, 2].map(|watch| shared.revisions(watch)), [vec![1], vec![], vec![1, 2]]);
}

#[test]
fn a_watch_for_which_there_is_no_room_in_all_keeps_what_waits_for_it() {
    let mut shared = Shared::new(3, &[Overflow::Pause, Overflow::Replay]);
    shared.receive_all(&[(0, 1), (0, 2), (1, 1), (1, 2)]);
    assert_eq!((shared.taken_off(), shared.told()), (vec![1], vec![1]));
    assert_eq!(shared.revisions(1), [1], "only the response for which there was no room was not kept");
    assert_eq!(shared.driver.creates()[0].start_revision, 2);
}

#[test]
fn a_watch_that_is_off_the_server_already_does_not_overflow_again_when_what_waits_is_dropped() {
    let mut shared = Shared::new(3, &[Overflow::Replay; 2]);
    (1..=4).for_each(|revision| shared.receive(0, revision));
    assert_eq!((shared.taken_off(), shared.told()), (vec![0], vec![0]), "by its own limit");
    shared.receive(1, 1);
    assert_eq!((shared.taken_off(), shared.told()), (vec![], vec![]));
    assert_eq!([0, 1].map(|watch| shared.revisions(watch)), [vec![], vec![1]]);
    assert_eq!(shared.driver.stats().overflows, 1);
    assert_eq!(shared.driver.creates()[0].start_revision, 1);
}

#[test]
fn what_waits_for_a_watch_that_etcd_has_ended_is_never_dropped_for_another() {
    let mut shared = Shared::new(3, &[Overflow::Replay; 3]);
    shared.receive_all(&[(0, 1), (1, 1)]);
    shared.driver.frame(shared.stream, compacted(shared.watches[0].1, 50));
    assert_eq!(shared.taken_off(), [0]);
    shared.receive_all(&[(2, 1), (2, 2)]);
    assert_eq!(shared.taken_off(), [1], "it can be asked for again");
    let mut left = shared.driver.take_all(shared.watches[0].0);
    assert!(matches!(left.pop(), Some(Delivery::Closed(CloseReason::Compacted { .. }))));
    assert!(matches!(&left[..], [Delivery::Response(_)]), "it can't: {left:?}");
}

#[test]
fn what_waits_for_a_watch_that_ended_because_it_was_too_slow_is_dropped_for_others() {
    let mut shared = Shared::new(3, &[Overflow::Fail, Overflow::Replay]);
    shared.receive_all(&[(0, 1), (0, 2), (0, 3), (0, 4)]);
    assert_eq!(shared.taken_off(), [0]);
    shared.receive(1, 1);
    assert_eq!((shared.taken_off(), shared.revisions(1)), (vec![], vec![1]));
    let reason = shared.driver.closed(shared.watches[0].0);
    let CloseReason::Lagged { next_revision, .. } = reason else { panic!("it was too slow: {reason:?}") };
    assert_eq!(next_revision, 1, "it can be asked for again from there");
}

#[test]
fn a_wanted_notification_that_is_dropped_is_asked_for_again() {
    let mut shared = Shared::new(2, &[Overflow::Replay; 2]);
    let (watch, _) = shared.watches[0];
    shared.driver.request_progress(watch);
    shared.driver.frame(shared.stream, manual_progress(120));
    assert_eq!(shared.driver.progress_requests(), 1);
    shared.receive_all(&[(1, 121), (1, 122)]);
    assert_eq!((shared.taken_off(), shared.driver.take_all(watch)), (vec![0], vec![]));
    shared.driver.create_one(shared.stream);
    assert_eq!(shared.driver.progress_requests(), 1);
}

#[test]
fn one_incomplete_revision_at_a_time_may_exceed_the_common_budget_until_it_is_complete() {
    let mut shared = Shared::new(1, &[Overflow::Replay; 2]);
    let (driver, stream) = (&mut shared.driver, shared.stream);
    let [(first, first_id), (second, second_id)] = shared.watches[..] else { panic!("two watches") };
    let part = |id: i64, key: &str| fragment(id, vec![put_value(5, key, vec![b'x'; 5000])]);
    ["a", "b", "c"].iter().for_each(|key| driver.frame(stream, part(first_id, key)));
    assert_eq!(driver.cancels(), [], "it goes on");
    driver.frame(stream, part(second_id, "a"));
    assert_eq!(driver.cancels(), [second_id], "while it does, no other may");
    driver.frame(stream, batch(first_id, vec![put(5, "d")]));
    assert_eq!(driver.revisions(first), [5; 4]);
    driver.sleep_to_timeout();
    let id = driver.create_one(stream);
    ["a", "b", "c"].iter().for_each(|key| driver.frame(stream, part(id, key)));
    driver.frame(stream, batch(id, vec![put(5, "d")]));
    assert_eq!((driver.cancels(), driver.revisions(second)), (vec![], vec![5; 4]), "it has its turn");
}

#[test]
fn a_notice_is_kept_if_nothing_else_waits_and_is_too_much_only_beyond_the_limit() {
    let tiny = WatchConfig::default().buffer_bytes(1).buffer_floor_bytes(1);
    for (config, is_too_much) in [(tiny, true), (small(), false)] {
        let mut driver = Driver::new(config);
        let (watch, stream, id) = driver.running(all_from(1).created_notify(true).progress_notify(true));
        assert_eq!(driver.cancels(), [], "it has one response to take");
        driver.frame(stream, progress(id, 100));
        assert_eq!(driver.cancels(), if is_too_much { vec![id] } else { vec![] });
        let kinds: Vec<_> = driver.responses(watch).iter().map(|response| response.kind()).collect();
        assert_eq!(kinds, [ResponseKind::Created, ResponseKind::Progress]);
    }
}

#[test]
fn a_response_over_its_own_watch_s_limit_costs_no_other_watch_its_place() {
    let mut driver = Driver::new(small().total_buffer_bytes(5000));
    let (neighbour, stream, id) = driver.running(all_from(1));
    driver.watch(all_from(1));
    let slow = driver.create_one(stream);
    driver.frame(stream, big(id, 1, 1200));
    (1..=3).for_each(|revision| driver.frame(stream, big(slow, revision, 1200)));
    assert_eq!(driver.cancels(), [slow]);
    assert_eq!(driver.revisions(neighbour), [1]);
}

#[test]
fn a_slow_watch_does_not_disturb_its_neighbour() {
    let mut driver = Driver::new(small());
    let (_, stream, slow) = driver.running(all_from(1));
    let watch = driver.watch(all_from(1));
    let id = driver.create_one(stream);
    for revision in 1..=20 {
        driver.frame(stream, big(slow, revision, 1000));
        driver.frame(stream, big(id, revision, 1000));
        assert_eq!(driver.revisions(watch), [revision]);
    }
}

#[test]
fn a_paused_watch_takes_no_more_with_every_new_stream() {
    let mut driver = Driver::new(small());
    let (watch, mut stream, mut id) = driver.running(all_from(1).overflow(Overflow::Pause));
    driver.frame(stream, big(id, 1, 5000));
    let queued = driver.stats().queued_bytes;
    for revision in 2..=20 {
        driver.cut(stream);
        stream = driver.reopen(TRUSTED);
        if let Some(create) = driver.creates().first() {
            id = create.watch_id;
            driver.frame(stream, created(id));
            driver.frame(stream, big(id, revision, 5000));
        }
    }
    assert_eq!(driver.stats().queued_bytes, queued, "nothing was taken, so nothing more is held");
    assert_eq!(driver.revisions(watch), [1]);
    assert_eq!(driver.creates()[0].start_revision, 2, "it goes on where it was");
}
