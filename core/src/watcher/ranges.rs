//! "From now" without a race: the current revision is read first, once for all the watches that wait.
//!
//! The other reads, which find out whether a denial stands, are in `denials.rs`; what they share is here.

use alloc::{collections::VecDeque, vec::Vec};

use super::Watcher;
use crate::{
    Action, CloseReason, EndpointHint, Failure, Instant, RangeDone, RangeKey, Remedy, WatchKey,
    failure::{TOKEN_LIMIT, final_reason, message_of},
    reads::{Group, Purpose, ReadState, Shown},
    remedy,
    stream::Lane,
    watch::place::ResumePoint,
    watch::{SharedOptions, State},
};

impl Watcher {
    pub(super) fn await_revision(&mut self, options: &SharedOptions, watch: WatchKey) {
        self.groups.entry(options.clone()).or_default().now.waiting.push_back(watch);
        self.reads_due = true;
    }

    /// Asks for the reads that groups are waiting for.
    pub(super) fn ask_for_reads(&mut self) {
        for (options, group) in &mut self.groups {
            let mut shown = group.now.shown;
            for lane in group.lanes.iter().filter_map(|number| self.lanes.get(number)) {
                shown.note_all(lane.shown);
            }
            for purpose in [Purpose::Now, Purpose::Denial] {
                let read = group.read(purpose);
                if !matches!(read.state, ReadState::Idle) {
                    continue;
                }
                let watches = match purpose {
                    Purpose::Now => read.waiting.drain(..).collect(),
                    Purpose::Denial => super::denials::next_denied(&self.watches, &mut read.waiting),
                };
                let Some(first) = watches.first().and_then(|first| self.watches.get(first)) else { continue };
                let key = RangeKey(self.next_range);
                self.next_range += 1;
                read.patience.attempt(self.now);
                let is_elsewhere = core::mem::take(&mut read.elsewhere);
                self.actions.push_back(Action::Range {
                    range: key,
                    keys: first.range.clone(),
                    options: options.clone(),
                    endpoint: if is_elsewhere { EndpointHint::Another } else { EndpointHint::Any },
                    fresh_token: read.fresh_token,
                });
                read.state = ReadState::InFlight { key, watches, shown };
            }
        }
    }

    /// The answer to [`Action::Range`]. An answer nobody waits for is ignored.
    pub fn handle_range_done(&mut self, now: Instant, range: RangeKey, result: Result<RangeDone, Failure>) {
        let now = self.advance(now);
        let found = self.groups.iter_mut().find_map(|(options, group)| {
            [Purpose::Now, Purpose::Denial]
                .into_iter()
                .find(|&purpose| group.read(purpose).is_in_flight(range))
                .map(|purpose| (options.clone(), group, purpose))
        });
        let Some((options, group, purpose)) = found else { return };
        let state = core::mem::take(&mut group.read(purpose).state);
        let ReadState::InFlight { watches, shown, .. } = state else { return };
        self.reads_due = true;
        match (purpose, result) {
            (Purpose::Denial, result) => self.denial_answered(now, &options, watches, result),
            (Purpose::Now, Ok(done)) if done.revision > 0 => {
                self.revision_answered(now, &options, watches, shown, done);
            }
            (Purpose::Now, Ok(_)) => {
                let failure = Failure::connection("the endpoint leaves the revision out of its responses");
                self.read_failed(now, &options, watches, &failure);
            }
            (Purpose::Now, Err(failure)) => self.read_failed(now, &options, watches, &failure),
        }
        self.drop_group_if_unused(&options);
    }

    /// The current revision is known, unless it is less than was known before. Then another member is asked,
    /// until the deadline for members that lag; after that it was the store that went back, and what counts
    /// for watches without a past is where it is now.
    fn revision_answered(
        &mut self,
        now: Instant,
        options: &SharedOptions,
        watches: Vec<WatchKey>,
        shown: Shown,
        done: RangeDone,
    ) {
        let Some(group) = self.groups.get_mut(options) else { return };
        let read = &mut group.now;
        read.answered();
        if done.revision < shown.by(done.cluster_id) {
            let deadline = *read.behind_since.get_or_insert(now) + self.config.lag_deadline;
            if now < deadline {
                read.elsewhere = true;
                let until = (now + read.behind.next(&self.config, &mut self.rng)).min(deadline);
                read.state = ReadState::Backoff { until };
                self.wait_again(options, Purpose::Now, watches.into());
                return;
            }
            read.shown = Shown::default();
            for number in &group.lanes {
                self.lanes.get_mut(number).map(|lane: &mut Lane| core::mem::take(&mut lane.shown));
            }
        }
        read.behind_since = None;
        read.behind.reset();
        read.shown.note(done.cluster_id, done.revision);
        for watch in watches {
            self.start_at(watch, done);
        }
    }

    fn start_at(&mut self, key: WatchKey, now: RangeDone) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if !matches!(watch.state, State::AwaitingRevision) {
            return;
        }
        watch.resume = Some(ResumePoint::at(now.revision.saturating_add(1)));
        watch.known = now.revision;
        watch.cluster_id = now.cluster_id;
        watch.state = State::Waiting;
        let lane = watch.lane;
        self.enqueue_create(lane, key);
    }

    fn read_failed(
        &mut self,
        now: Instant,
        options: &SharedOptions,
        watches: Vec<WatchKey>,
        failure: &Failure,
    ) {
        let remedy = remedy(failure);
        let Some(reason) = final_reason(remedy, failure) else {
            self.retry_read(now, options, Purpose::Now, watches, failure);
            return;
        };
        // The keys read were the first watch's: what is wrong with them concerns no other.
        let is_for_all = matches!(remedy, Remedy::Unsupported | Remedy::BadCredentials);
        let concerned = if is_for_all { watches.len() } else { watches.len().min(1) };
        let mut watches = VecDeque::from(watches);
        for watch in watches.drain(..concerned) {
            self.close_watch(watch, reason.clone());
        }
        self.wait_again(options, Purpose::Now, watches);
    }

    /// A read failed in a way that may pass. A token that is refused is replaced by a new one; where new ones
    /// are refused too, that ends.
    pub(super) fn retry_read(
        &mut self,
        now: Instant,
        options: &SharedOptions,
        purpose: Purpose,
        watches: Vec<WatchKey>,
        failure: &Failure,
    ) {
        let remedy = remedy(failure);
        let Some(group) = self.groups.get_mut(options) else { return };
        let read = group.read(purpose);
        if remedy == Remedy::Reauthenticate {
            // The first one to be refused had not been asked for anew.
            read.refused_tokens += u32::from(read.fresh_token);
            read.fresh_token = true;
            if read.refused_tokens >= TOKEN_LIMIT {
                let waiting: Vec<WatchKey> = read.waiting.drain(..).collect();
                let tokens = core::mem::take(&mut read.refused_tokens);
                let reason = CloseReason::TokenRefused { tokens, message: message_of(failure) };
                self.close_waiting(watches.into_iter().chain(waiting), purpose, &reason);
                return;
            }
        }
        read.patience.failed(now, failure, remedy == Remedy::NoLeader);
        read.elsewhere = !matches!(remedy, Remedy::Retry);
        let until = now + read.backoff.next(&self.config, &mut self.rng);
        read.state = ReadState::Backoff { until };
        self.wait_again(options, purpose, watches.into());
    }

    fn waits_for(&self, watch: WatchKey, purpose: Purpose) -> bool {
        self.watches.get(&watch).is_some_and(|watch| match purpose {
            Purpose::Now => matches!(watch.state, State::AwaitingRevision),
            Purpose::Denial => matches!(watch.state, State::Denied(_)),
        })
    }

    /// Puts watches back, ahead of those that came later.
    fn wait_again(&mut self, options: &SharedOptions, purpose: Purpose, mut watches: VecDeque<WatchKey>) {
        watches.retain(|&watch| self.waits_for(watch, purpose));
        let Some(group) = self.groups.get_mut(options) else { return };
        let read = group.read(purpose);
        watches.append(&mut read.waiting);
        read.waiting = watches;
    }

    pub(super) fn close_waiting(
        &mut self,
        watches: impl IntoIterator<Item = WatchKey>,
        purpose: Purpose,
        reason: &CloseReason,
    ) {
        for watch in watches {
            if self.waits_for(watch, purpose) {
                self.close_watch(watch, reason.clone());
            }
        }
    }

    /// A group's timers.
    pub(super) fn group_timeout(&mut self, now: Instant, options: &SharedOptions) {
        for purpose in [Purpose::Now, Purpose::Denial] {
            self.read_timeout(now, options, purpose);
        }
        // The watches a read was for may have been cancelled meanwhile.
        self.drop_group_if_unused(options);
    }

    fn read_timeout(&mut self, now: Instant, options: &SharedOptions, purpose: Purpose) {
        let Some(group) = self.groups.get_mut(options) else { return };
        let read = group.read(purpose);
        let is_reading = !matches!(read.state, ReadState::Idle);
        if is_reading && let Some(reason) = read.patience.verdict(now, &self.config) {
            let mut watches: Vec<WatchKey> = read.waiting.drain(..).collect();
            if let ReadState::InFlight { watches: reading, .. } = core::mem::take(&mut read.state) {
                watches.extend(reading);
            }
            read.patience.proved();
            self.close_waiting(watches, purpose, &reason);
        } else if let ReadState::Backoff { until } = read.state
            && now >= until
        {
            read.state = ReadState::Idle;
            self.reads_due = true;
        }
    }

    pub(super) fn drop_group_if_unused(&mut self, options: &SharedOptions) {
        if self.groups.get(options).is_some_and(Group::is_unused) {
            self.groups.remove(options);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;
    use crate::{Config, KeyRange, Opened, StreamOptions, WatchRequest};

    fn watch_of(tenant: &str) -> WatchRequest {
        let metadata = alloc::vec![("tenant".into(), tenant.into())];
        let options = StreamOptions { metadata, ..StreamOptions::default() };
        WatchRequest::new(KeyRange::all()).stream_options(options)
    }

    #[test]
    fn nothing_is_left_of_options_that_nobody_uses_any_more() {
        let at = |secs: u64| Instant::ZERO + Duration::from_secs(secs);
        let mut watcher = Watcher::new(Config::default(), 1).unwrap();
        let watches = ["red", "blue"].map(|tenant| watcher.watch(at(0), watch_of(tenant)).unwrap());
        assert_eq!(watcher.groups.len(), 2);
        let mut reads = Vec::new();
        while let Some(action) = watcher.poll_action() {
            match action {
                Action::Open { stream, .. } => watcher.handle_opened(at(0), stream, Opened::default()),
                Action::Range { range, .. } => reads.push(range),
                other => panic!("{other:?}"),
            }
        }
        watches.into_iter().for_each(|watch| watcher.cancel(at(1), watch).unwrap());
        watcher.handle_range_done(at(2), reads[0], Ok(RangeDone { revision: 5, cluster_id: 1 }));
        watcher.handle_timeout(at(60));
        assert_eq!((watcher.lanes.len(), watcher.groups.len()), (0, 1), "of the one that is read for");
        watcher.handle_range_done(at(61), reads[1], Err(Failure::connection("refused")));
        while watcher.poll_action().is_some() {}
        watcher.handle_timeout(at(120));
        while watcher.poll_action().is_some() {}
        assert_eq!((watcher.groups.len(), watcher.poll_timeout()), (0, None));
    }
}
