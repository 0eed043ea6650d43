//! What the log hears of watches and their streams: every event of theirs is here, so that names and
//! fields are stable and alike. `lib.rs` lists them for users.

use std::{
    collections::{BTreeMap, HashMap},
    mem::{Discriminant, discriminant},
    sync::Arc,
    time::Duration,
};

use etcd_watch_core::{
    Creates, Failure, Instant, KeyRange, Overflow, ServerVersion, StreamEnd, StreamKey, WatchKey,
};
use tracing::Span;

use crate::Endpoint;

/// The span that everything on a watch stream happens in.
pub(crate) fn stream_span(stream: StreamKey, endpoint: &Endpoint) -> Span {
    tracing::info_span!("etcd_watch.stream", ?stream, %endpoint)
}

pub(crate) fn opening(stream: StreamKey, endpoint: &Endpoint) {
    tracing::debug!(name: "stream_opening", ?stream, %endpoint, "opening a watch stream");
}

pub(crate) fn opened(stream: StreamKey, endpoint: &Endpoint, version: Option<ServerVersion>) {
    let version = version.map_or_else(|| "unknown".to_owned(), |version| version.to_string());
    tracing::debug!(name: "stream_opened", ?stream, %endpoint, %version, "opened a watch stream");
}

/// When a stream is opened again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) wait: Option<Duration>,
    pub(crate) failures: u32,
}

pub(crate) fn lost(
    stream: StreamKey,
    endpoint: &Endpoint,
    was_open: bool,
    failure: &Failure,
    backoff: Backoff,
) {
    let Backoff { wait, failures } = backoff;
    if was_open {
        tracing::info!(name: "stream_lost", ?stream, %endpoint, reason = %failure, backoff = ?wait, failures, "lost a watch stream");
    } else if is_alarming(failures) {
        tracing::warn!(name: "stream_failing", ?stream, %endpoint, reason = %failure, backoff = ?wait, failures, "a watch stream can't be opened, over and over; its watches wait");
    } else {
        tracing::debug!(name: "stream_failed", ?stream, %endpoint, reason = %failure, backoff = ?wait, failures, "a watch stream could not be opened");
    }
}

/// Whether so many failures in a row are worth a warning: seldom, as the backoff has reached its longest by then and a
/// stream is tried for ever.
fn is_alarming(failures: u32) -> bool {
    failures >= 8 && failures.is_power_of_two()
}

pub(crate) fn closing(stream: StreamKey, endpoint: &Endpoint, reason: &StreamEnd, backoff: Backoff) {
    let Backoff { wait, failures } = backoff;
    tracing::debug!(name: "stream_closed", ?stream, %endpoint, %reason, backoff = ?wait, failures, "closing a watch stream");
}

/// An endpoint at which no stream had to be replaced for so long is well again.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// Streams that are replaced for what their members do: of each endpoint and kind of trouble, how many in a row.
#[derive(Debug, Default)]
pub(crate) struct Replacements(HashMap<(Arc<Endpoint>, Discriminant<StreamEnd>), (u32, Instant)>);

impl Replacements {
    /// A stream is replaced for what its member did.
    pub(crate) fn tell(
        &mut self,
        now: Instant,
        stream: StreamKey,
        endpoint: &Arc<Endpoint>,
        reason: &StreamEnd,
        backoff: Backoff,
    ) {
        let Backoff { wait, failures } = backoff;
        let in_a_row = self.count(now, endpoint, reason);
        if in_a_row == 1 || is_alarming(in_a_row) {
            tracing::warn!(name: "stream_replaced", ?stream, %endpoint, %reason, backoff = ?wait, failures, in_a_row, "replacing a watch stream");
        } else {
            tracing::debug!(name: "stream_replaced_again", ?stream, %endpoint, %reason, backoff = ?wait, failures, in_a_row, "replacing a watch stream again");
        }
    }

    /// How many in a row there are now at this endpoint.
    fn count(&mut self, now: Instant, endpoint: &Arc<Endpoint>, reason: &StreamEnd) -> u32 {
        self.0.retain(|_, (_, last)| now.since(*last) < WELL_AFTER);
        let (count, last) = self.0.entry((endpoint.clone(), discriminant(reason))).or_insert((0, now));
        (*count, *last) = (count.saturating_add(1), now);
        *count
    }
}

pub(crate) fn creating(stream: StreamKey, creates: Creates, revision: i64) {
    let Creates { watch, resumes } = creates;
    if resumes {
        tracing::debug!(name: "watch_resumed", ?watch, ?stream, revision, "resuming a watch");
    } else {
        tracing::debug!(name: "watch_created", ?watch, ?stream, revision, "creating a watch");
    }
}

pub(crate) fn ended(watch: WatchKey, reason: &etcd_watch_core::CloseReason) {
    tracing::debug!(name: "watch_ended", ?watch, %reason, "a watch ended");
}

/// How many watches are remembered as warned of.
const REMEMBERED: usize = 1024;

/// Warnings of slow consumers: at most one per watch in an interval.
#[derive(Debug)]
pub(crate) struct SlowConsumers {
    every: Option<Duration>,
    warned: BTreeMap<WatchKey, Instant>,
}

/// A consumer that has let its watch's buffer fill up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slow<'a> {
    pub(crate) watch: WatchKey,
    pub(crate) range: Option<&'a KeyRange>,
    pub(crate) policy: Overflow,
    pub(crate) queued_bytes: usize,
    pub(crate) revision: i64,
}

impl SlowConsumers {
    pub(crate) fn new(every: Option<Duration>) -> Self {
        Self { every, warned: BTreeMap::new() }
    }

    pub(crate) fn tell(&mut self, now: Instant, slow: Slow<'_>) {
        let warn = self.is_due(now, slow.watch);
        let Slow { watch, range, policy, queued_bytes, revision } = slow;
        let range = range.map(KeyRange::start);
        if warn {
            tracing::warn!(name: "watch_slow", ?watch, ?range, ?policy, queued_bytes, revision, "a watch's consumer is too slow: its buffer is full");
        } else {
            tracing::debug!(name: "watch_slow_again", ?watch, ?range, ?policy, queued_bytes, revision, "a watch's consumer is too slow still");
        }
    }

    fn is_due(&mut self, now: Instant, watch: WatchKey) -> bool {
        let Some(every) = self.every else { return false };
        if self.warned.len() >= REMEMBERED {
            self.warned.retain(|_, warned| now.since(*warned) < every);
        }
        let is_due = self.warned.get(&watch).is_none_or(|warned| now.since(*warned) >= every);
        // When everything is slow the log has said so a thousand times.
        let has_room = self.warned.len() < REMEMBERED || self.warned.contains_key(&watch);
        if is_due && has_room {
            self.warned.insert(watch, now);
        }
        is_due && has_room
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::{WatchConfig, WatchRequest, Watcher};

    use super::*;

    fn watches(count: usize) -> Vec<WatchKey> {
        let mut machine = Watcher::new(WatchConfig::default(), 0).unwrap();
        let mut watch = || machine.watch(Instant::ZERO, WatchRequest::new(KeyRange::key("k"))).unwrap();
        (0..count).map(|_| watch()).collect()
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn each_watch_is_warned_of_once_per_interval() {
        let watches = watches(2);
        let mut slow = SlowConsumers::new(Some(Duration::from_secs(30)));
        let due: Vec<_> = [0, 1, 29, 30, 31].map(|second| slow.is_due(at(second), watches[0])).into();
        assert_eq!(due, [true, false, false, true, false]);
        assert!(slow.is_due(at(31), watches[1]), "each has its own");
        assert!(!SlowConsumers::new(None).is_due(at(0), watches[0]));
    }

    #[test]
    fn replaced_streams_are_counted_by_endpoint_and_trouble_until_a_minute_has_passed_without_one() {
        let endpoint = |name: &str| Arc::new(name.parse::<Endpoint>().unwrap());
        let (one, other) = (endpoint("http://one:2379"), endpoint("http://other:2379"));
        let lagging = |revision| StreamEnd::Lagging { revision, known: 9 };
        let mut replaced = Replacements::default();
        assert_eq!(replaced.count(at(0), &one, &lagging(1)), 1);
        assert_eq!(replaced.count(at(59), &one, &lagging(2)), 2, "of the same kind");
        assert_eq!(replaced.count(at(59), &other, &lagging(2)), 1);
        assert_eq!(replaced.count(at(60), &one, &StreamEnd::Idle), 1, "of another kind");
        assert_eq!(replaced.count(at(118), &one, &lagging(3)), 3);
        assert_eq!(replaced.count(at(178), &one, &lagging(4)), 1);
        assert_eq!(replaced.0.len(), 1, "the others are forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let watches = watches(REMEMBERED + 2);
        let mut slow = SlowConsumers::new(Some(Duration::from_secs(30)));
        let due = watches.iter().filter(|&&watch| slow.is_due(at(0), watch)).count();
        assert_eq!((due, slow.warned.len()), (REMEMBERED, REMEMBERED));
        assert!(slow.is_due(at(30), watches[REMEMBERED]), "old ones make room");
        assert_eq!(slow.warned.len(), 1);
    }
}
