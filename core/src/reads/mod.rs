//! Watches with equal stream options, and the two kinds of read that they share: of the current revision (`now.rs`),
//! and of keys that were denied (`denial.rs`).
//!
//! ```text
//!   Idle --a watch waits--> InFlight --failed, or behind what was seen--> Backoff
//!    ^                         |                                             |
//!    +-------- answered -------+--------------- time is up ------------------+
//! ```

pub(crate) mod denial;
pub(crate) mod now;

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use crate::{
    Failure, Header, Instant, RangeKey, Remedy, StreamId, TimeoutReason, WatchConfig, WatchKey,
    attempts::{Attempt, Attempts, Backoff},
    deadlines::Due,
    key::{GroupId, Purpose},
    watch::{SharedOptions, key_queue::KeyQueue},
};

/// The watches and streams of one set of stream options.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    options: SharedOptions,
    streams: BTreeSet<StreamId>,
    /// How many of them watches may join.
    shared_streams: usize,
    /// Those of them that have room, those with the fewest watches first.
    with_room: BTreeSet<(usize, StreamId)>,
    /// For watches that start "now" and don't know it yet.
    now: Read,
    /// For watches that were denied on a connection whose token may have expired.
    denial: Read,
    /// Since when answers have been behind what was shown before.
    behind_since: Option<Instant>,
    behind: Backoff,
    /// The newest revision that an answer has had.
    shown: Shown,
}

/// One kind of read: one at a time, and the watches that wait for the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read {
    waiting: KeyQueue,
    phase: Phase,
    attempts: Attempts,
}

/// Where a read stands.
#[derive(Clone, Debug, Default)]
enum Phase {
    /// None is under way.
    #[default]
    Idle,
    /// The driver is at it.
    InFlight(Asked),
    /// It failed and is tried again.
    Backoff {
        /// When.
        until: Instant,
    },
}

/// A read that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    key: RangeKey,
    /// Whose it is: the first one's keys are read. Watches that came after it was sent wait for the next one.
    pub(crate) watches: Vec<WatchKey>,
    /// The store had shown this much when the read was sent: it can't find less.
    pub(crate) shown: Shown,
}

/// The highest revision that a cluster has shown to exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    cluster_id: u64,
    revision: i64,
}

impl Shown {
    /// A header has told a revision. Another cluster's history is another; 0 is no id.
    pub(crate) fn note(&mut self, cluster_id: u64, revision: i64) {
        if !self.is_of(cluster_id) {
            *self = Self::default();
        }
        self.cluster_id = if cluster_id == 0 { self.cluster_id } else { cluster_id };
        self.revision = self.revision.max(revision);
    }

    pub(crate) fn note_all(&mut self, other: Self) {
        self.note(other.cluster_id, other.revision);
    }

    /// The highest revision that this cluster has shown; 0 if that was another.
    pub(crate) fn by(&self, cluster_id: u64) -> i64 {
        if self.is_of(cluster_id) { self.revision } else { 0 }
    }

    fn is_of(&self, cluster_id: u64) -> bool {
        Header::may_be_same_cluster(self.cluster_id, cluster_id)
    }
}

impl Read {
    /// Whether none is under way, nor to be tried again.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// A watch waits for the next read.
    pub(crate) fn enqueue(&mut self, key: WatchKey, waits: impl Fn(WatchKey) -> bool) {
        self.waiting.push(key, waits);
    }

    pub(crate) fn waiting(&mut self) -> &mut KeyQueue {
        &mut self.waiting
    }

    pub(crate) fn attempts(&mut self) -> &mut Attempts {
        &mut self.attempts
    }

    /// The driver is asked for a read, for these watches.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        key: RangeKey,
        watches: Vec<WatchKey>,
        shown: Shown,
    ) -> Attempt {
        self.phase = Phase::InFlight(Asked { key, watches, shown });
        self.attempts.begin(now)
    }

    /// The answer to a read has come; `None` if nobody waits for it.
    pub(crate) fn answer(&mut self, key: RangeKey) -> Option<Asked> {
        match core::mem::take(&mut self.phase) {
            Phase::InFlight(asked) if asked.key == key => Some(asked),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// The server has answered, whatever it said of the keys: it can be reached, and took the token.
    pub(crate) fn answered(&mut self) {
        self.attempts.reset();
        self.attempts.token_accepted();
    }

    /// It failed in a way that may pass, and is tried again. The number of new tokens that were refused in a row, if
    /// it is time to give up.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        config: &WatchConfig,
        rng: &mut fastrand::Rng,
        failure: &Failure,
        remedy: Remedy,
    ) -> Option<u32> {
        if remedy == Remedy::Reauthenticate
            && let Some(tokens) = self.attempts.token_refused()
        {
            return Some(tokens);
        }
        self.attempts.failed(now, failure, remedy);
        self.phase = Phase::Backoff { until: self.attempts.try_again_at(now, config, rng) };
        None
    }

    /// It is tried again at this time, and elsewhere.
    fn wait_until(&mut self, until: Instant) {
        self.attempts.go_elsewhere();
        self.phase = Phase::Backoff { until };
    }

    /// It is given up; the read that was under way, if one was.
    pub(crate) fn abandon(&mut self) -> Option<Asked> {
        self.attempts.stop_clock();
        match core::mem::take(&mut self.phase) {
            Phase::InFlight(asked) => Some(asked),
            Phase::Idle | Phase::Backoff { .. } => None,
        }
    }

    /// Whether a backoff is over by now; it ends by that.
    pub(crate) fn end_backoff(&mut self, now: Instant) -> bool {
        let is_over = matches!(self.phase, Phase::Backoff { until } if now >= until);
        if is_over {
            self.phase = Phase::Idle;
        }
        is_over
    }

    /// The next thing it waits for.
    pub(crate) fn due(&self, config: &WatchConfig) -> Option<Due> {
        let retry = match self.phase {
            Phase::Idle => return None,
            Phase::InFlight(_) => None,
            Phase::Backoff { until } => Some((until, TimeoutReason::RetryRange)),
        };
        let give_up = self.attempts.give_up_at(config).map(|at| (at, TimeoutReason::GiveUp));
        [retry, give_up].into_iter().flatten().min()
    }
}

impl Group {
    fn new(options: SharedOptions) -> Self {
        Self {
            options,
            streams: BTreeSet::new(),
            shared_streams: 0,
            with_room: BTreeSet::new(),
            now: Read::default(),
            denial: Read::default(),
            behind_since: None,
            behind: Backoff::default(),
            shown: Shown::default(),
        }
    }

    pub(crate) fn options(&self) -> &SharedOptions {
        &self.options
    }

    pub(crate) fn streams(&self) -> &BTreeSet<StreamId> {
        &self.streams
    }

    /// A stream is opened for the group; one for one watch alone is not joined by others.
    pub(crate) fn add_stream(&mut self, stream: StreamId, is_own: bool) {
        self.streams.insert(stream);
        self.shared_streams += usize::from(!is_own);
    }

    /// A stream with so many watches is gone.
    pub(crate) fn remove_stream(&mut self, stream: StreamId, is_own: bool, watches: usize) {
        self.streams.remove(&stream);
        self.shared_streams -= usize::from(!is_own);
        self.with_room.remove(&(watches, stream));
    }

    /// The stream that the next watch is to join, if there is one.
    pub(crate) fn stream_with_room(&self, config: &WatchConfig) -> Option<StreamId> {
        let &(watches, stream) = self.with_room.first()?;
        // Up to the number of streams to spread over, a new one is better than one that is in use.
        (watches == 0 || self.shared_streams >= config.streams).then_some(stream)
    }

    /// A stream that watches may join has `after` watches now, and had `before`.
    pub(crate) fn count_watches(
        &mut self,
        stream: StreamId,
        before: usize,
        after: usize,
        config: &WatchConfig,
    ) {
        self.with_room.remove(&(before, stream));
        if after < config.max_watches_per_stream {
            self.with_room.insert((after, stream));
        }
    }

    pub(crate) fn read(&self, purpose: Purpose) -> &Read {
        match purpose {
            Purpose::Now => &self.now,
            Purpose::Denial => &self.denial,
        }
    }

    pub(crate) fn read_mut(&mut self, purpose: Purpose) -> &mut Read {
        match purpose {
            Purpose::Now => &mut self.now,
            Purpose::Denial => &mut self.denial,
        }
    }

    /// Whether it has no stream, no read and no watch that waits for one.
    fn is_unused(&mut self, waits: impl Fn(WatchKey, Purpose) -> bool) -> bool {
        let mut is_left = |purpose| {
            let read = self.read_mut(purpose);
            read.is_idle() && read.waiting.first(|key| waits(key, purpose)).is_none()
        };
        is_left(Purpose::Now) && is_left(Purpose::Denial) && self.streams.is_empty()
    }
}

/// All groups. Whoever changes one has it looked at when the call is over.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups {
    groups: BTreeMap<GroupId, Group>,
    by_options: BTreeMap<SharedOptions, GroupId>,
    next: u32,
    touched: Vec<GroupId>,
}

impl Groups {
    /// The group of these options, which is made if there is none.
    pub(crate) fn of(&mut self, options: crate::StreamOptions) -> GroupId {
        if let Some(&id) = self.by_options.get(&options) {
            return id;
        }
        let options = SharedOptions::new(options);
        let id = GroupId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_options.insert(options.clone(), id);
        self.groups.insert(id, Group::new(options));
        id
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
        self.groups.get_mut(&id)
    }

    /// A group, for a change that moves no deadline of its reads and takes none of its streams.
    pub(crate) fn get_untouched(&mut self, id: GroupId) -> Option<&mut Group> {
        self.groups.get_mut(&id)
    }

    /// A group that must be there: it has a stream, a read or a watch that waits for one.
    pub(crate) fn known_mut(&mut self, id: GroupId) -> Option<&mut Group> {
        let group = self.get_mut(id);
        debug_assert!(group.is_some(), "{id:?} is there");
        group
    }

    /// Forgets all groups.
    pub(crate) fn clear(&mut self) {
        self.touched.extend(self.groups.keys());
        self.groups.clear();
        self.by_options.clear();
    }

    /// A group that has been changed since the last time, if one is left. A group that is of no use any more is gone.
    /// `waits` says of a watch whether it waits for a read.
    pub(crate) fn next_touched(&mut self, waits: impl Fn(WatchKey, Purpose) -> bool) -> Option<GroupId> {
        let id = self.touched.pop()?;
        if self.groups.get_mut(&id).is_some_and(|group| group.is_unused(waits))
            && let Some(group) = self.groups.remove(&id)
        {
            self.by_options.remove(&group.options);
        }
        Some(id)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.groups.len(), self.by_options.len());
        self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::key::Asker;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    fn range_key(number: u64) -> RangeKey {
        RangeKey { number, asker: Asker::Group(GroupId(0), Purpose::Now) }
    }

    fn watch_key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    #[test]
    fn another_cluster_starts_over_and_no_cluster_id_counts_as_the_same() {
        let mut shown = Shown::default();
        shown.note(0, 5);
        shown.note(7, 3);
        assert_eq!((shown.by(7), shown.by(0), shown.by(8)), (5, 5, 0));
        shown.note(0, 9);
        assert_eq!(shown.by(7), 9);
        shown.note(8, 2);
        assert_eq!((shown.by(7), shown.by(8)), (0, 2));
    }

    #[test]
    fn a_group_is_in_use_while_a_watch_waits_or_a_read_is_under_way_or_it_has_a_stream() {
        type MakeUse = fn(&mut Group);
        let uses: [(MakeUse, bool); 4] = [
            (|_| {}, true),
            (|group| group.now.enqueue(watch_key(1), |_| true), false),
            (|group| _ = group.denial.begin(at(0), range_key(1), Vec::new(), Shown::default()), false),
            (|group| group.add_stream(StreamId(3), true), false),
        ];
        for (make_use, is_unused) in uses {
            let mut groups = Groups::default();
            let id = groups.of(crate::StreamOptions::default());
            make_use(groups.get_mut(id).unwrap());
            assert_eq!(groups.next_touched(|_, _| true), Some(id));
            assert_eq!((groups.len() == 0, groups.next_touched(|_, _| true)), (is_unused, None));
        }
    }

    #[test]
    fn only_a_read_that_is_under_way_is_given_up() {
        let config = WatchConfig::default().unreachable_deadline(Some(Duration::from_secs(3)));
        let mut read = Read::default();
        assert_eq!(read.due(&config), None);
        read.begin(at(1), range_key(1), Vec::new(), Shown::default());
        assert_eq!(read.due(&config), Some((at(4), TimeoutReason::GiveUp)));
        assert!(read.answer(range_key(2)).is_none() && read.answer(range_key(1)).is_some());
        assert_eq!(read.due(&config), None);
        read.wait_until(at(2));
        assert_eq!(read.due(&config), Some((at(2), TimeoutReason::RetryRange)));
        assert!(!read.end_backoff(at(1)) && read.end_backoff(at(2)) && read.is_idle());
    }

    #[test]
    fn the_next_watch_joins_the_stream_with_the_fewest() {
        let config = WatchConfig::default().streams(2).max_watches_per_stream(3);
        let mut group = Group::new(SharedOptions::default());
        for stream in [1, 2].map(StreamId) {
            assert_eq!(group.stream_with_room(&config), None);
            group.add_stream(stream, false);
            group.count_watches(stream, 0, 1, &config);
        }
        assert_eq!(group.stream_with_room(&config), Some(StreamId(1)));
        group.count_watches(StreamId(1), 1, 3, &config);
        assert_eq!(group.stream_with_room(&config), Some(StreamId(2)));
        group.count_watches(StreamId(2), 1, 3, &config);
        assert_eq!(group.stream_with_room(&config), None, "both are full");
        group.count_watches(StreamId(1), 3, 2, &config);
        group.remove_stream(StreamId(1), false, 2);
        assert_eq!(group.stream_with_room(&config), None);
    }
}
