//! Cost that does not grow with the number of watches or streams.
//!
//! These tests measure the processor time of their own thread, because work can't be counted from outside; what else the
//! computer does hardly changes that. Their bound is generous: a machine whose cost is in proportion to what changes takes a
//! fraction of it without optimisation, and one whose every call walks all watches or streams takes many times as long.

use std::{collections::VecDeque, hint::black_box, time::Duration};

use bytes::Bytes;
use etcd_watch_core::{Action, Delivery, Instant, Request, StreamKey, WatchConfig, Watcher};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use crate::{many::create_all, support::*};

const BOUND: Duration = Duration::from_secs(5);

/// The processor time that some work takes.
struct Timed {
    began: Duration,
    of: usize,
}

/// The processor time of this thread.
fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("it is not negative")
}

impl Timed {
    fn begin(of: usize) -> Self {
        Self { began: processor_time(), of }
    }

    /// Fails as soon as it is clear that the bound is missed.
    fn has_done(&self, done: usize) {
        let took = processor_time().saturating_sub(self.began);
        assert!(took < BOUND, "{done} of {} took {took:?}", self.of);
    }
}

#[test]
fn watches_from_now_that_are_opened_and_cancelled_while_etcd_is_down_cost_the_same_each() {
    const WATCHES: usize = 100_000;
    let mut watcher = Watcher::new(WatchConfig::default(), 1).expect("a valid configuration");
    let now = Instant::from_nanos(1);
    let timed = Timed::begin(2 * WATCHES);
    let mut watches = Vec::with_capacity(WATCHES);
    for number in 0..WATCHES {
        watches.push(watcher.watch(now, from_now("k")).expect("a valid request"));
        while watcher.poll_action().is_some() {}
        if number % 1000 == 0 {
            timed.has_done(number);
        }
    }
    for (number, watch) in watches.into_iter().enumerate() {
        watcher.cancel(now, watch).expect("an open watch");
        while watcher.poll_action().is_some() {}
        assert!(matches!(watcher.next(now, watch), Some(Delivery::Closed(_))));
        if number % 1000 == 0 {
            timed.has_done(WATCHES + number);
        }
    }
    timed.has_done(2 * WATCHES);
    assert_eq!(watcher.stats().watches, 0);
}

#[test]
fn watches_that_are_created_on_a_member_one_revision_behind_cost_the_same_each() {
    const WATCHES: usize = 10_000;
    let mut driver = Driver::new(WatchConfig::default().max_watches_per_stream(WATCHES));
    driver.watch_together((0..WATCHES).map(|_| all_from(101).known_store(CLUSTER, 101)));
    let stream = driver.open(TRUSTED);
    let timed = Timed::begin(WATCHES);
    let mut created = 0;
    loop {
        let creates = driver.creates();
        if creates.is_empty() {
            break;
        }
        for create in creates {
            driver.frame(stream, created_at(create.watch_id, 100));
            created += 1;
            if created % 100 == 0 {
                timed.has_done(created);
            }
        }
    }
    assert_eq!(created, WATCHES);
    timed.has_done(created);
}

/// A machine with as many open streams, a watch on each.
fn with_streams(streams: usize) -> Watcher {
    let config = WatchConfig::default().max_watches_per_stream(1);
    let mut watcher = Watcher::new(config, 1).expect("a valid configuration");
    let now = Instant::from_nanos(1);
    let mut opened: VecDeque<(StreamKey, i64)> = VecDeque::new();
    for _ in 0..streams {
        watcher.watch(now, all_from(1)).expect("a valid request");
        while let Some(action) = watcher.poll_action() {
            match action {
                Action::Open { stream, .. } => watcher.handle_opened(now, stream, TRUSTED),
                Action::Send { stream, request: Request::Create(create), .. } => {
                    opened.push_back((stream, create.watch_id));
                }
                _ => {}
            }
        }
    }
    for (stream, id) in opened {
        watcher.handle_frame(now, stream, etcd_watch_core::Frame::decode(created(id).encode_to_vec().into()));
        while watcher.poll_action().is_some() {}
    }
    assert_eq!(watcher.stats().streams, streams);
    watcher
}

#[test]
fn asking_for_the_next_timeout_does_not_look_at_every_stream() {
    const CALLS: usize = 10_000;
    let watcher = with_streams(10_000);
    let timed = Timed::begin(CALLS);
    for call in 0..CALLS {
        assert!(black_box(watcher.poll_timeout()).is_some());
        if call % 100 == 0 {
            timed.has_done(call);
        }
    }
    timed.has_done(CALLS);
}

#[test]
fn a_progress_reply_that_tells_nothing_new_does_not_look_at_every_watch() {
    const WATCHES: usize = 100_000;
    const REPLIES: usize = 100;
    let mut driver = Driver::new(WatchConfig::default().max_watches_per_stream(WATCHES));
    let watches = driver.watch_together((0..WATCHES).map(|_| all_from(1)));
    let stream = driver.open(TRUSTED);
    assert_eq!(create_all(&mut driver, stream, 100).len(), WATCHES);
    driver.frame(stream, manual_progress(200));
    let reply = Bytes::from(manual_progress(200).encode_to_vec());
    let timed = Timed::begin(REPLIES);
    for number in 0..REPLIES {
        driver.bytes(stream, reply.clone());
        timed.has_done(number);
    }
    timed.has_done(REPLIES);
    for watch in [watches[0], watches[WATCHES / 2], watches[WATCHES - 1]] {
        assert_eq!(driver.watcher.resume_revision(watch), Some(201));
    }
}
