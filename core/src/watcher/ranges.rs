//! "From now" without a race: the current revision is read first, once for all the watches that wait.

use alloc::{collections::VecDeque, vec::Vec};

use super::Watcher;
use crate::{
    Action, EndpointHint, Failure, Instant, RangeDone, RangeKey, Remedy, WatchKey,
    failure::final_reason,
    group::{Group, RevisionRead},
    remedy,
    resume::ResumePoint,
    substream::{SharedOptions, State},
};

impl Watcher {
    pub(super) fn await_revision(&mut self, options: &SharedOptions, watch: WatchKey) {
        self.groups.entry(options.clone()).or_default().waiting.push_back(watch);
        self.reads_due = true;
    }

    /// Asks for the reads that groups are waiting for.
    pub(super) fn ask_for_revisions(&mut self) {
        for (options, group) in &mut self.groups {
            if !matches!(group.read, RevisionRead::Idle) {
                continue;
            }
            let watches: Vec<WatchKey> = group.waiting.drain(..).collect();
            let Some(first) = watches.first().and_then(|first| self.watches.get(first)) else { continue };
            let key = RangeKey(self.next_range);
            self.next_range += 1;
            group.patience.attempt(self.now);
            let endpoint =
                if core::mem::take(&mut group.elsewhere) { EndpointHint::Another } else { EndpointHint::Any };
            self.actions.push_back(Action::Range {
                range: key,
                keys: first.range.clone(),
                options: options.clone(),
                endpoint,
                fresh_token: core::mem::take(&mut group.fresh_token),
            });
            group.read = RevisionRead::InFlight { key, watches };
        }
    }

    /// The answer to [`Action::Range`]. An answer nobody waits for is ignored.
    pub fn handle_range_done(&mut self, now: Instant, range: RangeKey, result: Result<RangeDone, Failure>) {
        let now = self.advance(now);
        let Some((options, group)) = self
            .groups
            .iter_mut()
            .find(|(_, group)| matches!(&group.read, RevisionRead::InFlight { key, .. } if *key == range))
        else {
            return;
        };
        let options = options.clone();
        let RevisionRead::InFlight { watches, .. } = core::mem::take(&mut group.read) else { return };
        self.reads_due = true;
        match result {
            Ok(done) if done.revision > 0 => {
                group.patience.proved();
                group.backoff.reset();
                for watch in watches {
                    self.start_at(watch, done);
                }
            }
            Ok(_) => {
                let failure = Failure::connection("the endpoint leaves the revision out of its responses");
                self.range_failed(now, &options, watches, &failure);
            }
            Err(failure) => self.range_failed(now, &options, watches, &failure),
        }
        self.drop_group_if_unused(&options);
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

    fn range_failed(
        &mut self,
        now: Instant,
        options: &SharedOptions,
        watches: Vec<WatchKey>,
        failure: &Failure,
    ) {
        let remedy = remedy(failure);
        // The keys read were the first watch's: what is wrong with them concerns no other.
        let concerned = if remedy == Remedy::Unsupported { watches.len() } else { watches.len().min(1) };
        let mut watches = VecDeque::from(watches);
        if let Some(reason) = final_reason(remedy, failure) {
            for watch in watches.drain(..concerned) {
                self.close_watch(watch, reason.clone());
            }
            self.wait_again(options, watches);
            return;
        }
        let Some(group) = self.groups.get_mut(options) else { return };
        group.patience.failed(now, failure, remedy == Remedy::NoLeader);
        group.elsewhere = !matches!(remedy, Remedy::Retry);
        group.fresh_token = remedy == Remedy::Reauthenticate;
        let until = now + group.backoff.next(&self.config, &mut self.rng);
        group.read = RevisionRead::Backoff { until };
        self.wait_again(options, watches);
    }

    /// Puts watches back, ahead of those that came later.
    fn wait_again(&mut self, options: &SharedOptions, mut watches: VecDeque<WatchKey>) {
        let waits = |key: &WatchKey| {
            self.watches.get(key).is_some_and(|watch| matches!(watch.state, State::AwaitingRevision))
        };
        watches.retain(waits);
        let Some(group) = self.groups.get_mut(options) else { return };
        watches.append(&mut group.waiting);
        group.waiting = watches;
    }

    /// A group's timers.
    pub(super) fn group_timeout(&mut self, now: Instant, options: &SharedOptions) {
        let Some(group) = self.groups.get_mut(options) else { return };
        let reads = !matches!(group.read, RevisionRead::Idle);
        if reads && let Some(reason) = group.patience.verdict(now, &self.config) {
            let mut watches: Vec<WatchKey> = group.waiting.drain(..).collect();
            if let RevisionRead::InFlight { watches: reading, .. } = core::mem::take(&mut group.read) {
                watches.extend(reading);
            }
            group.patience.proved();
            for watch in watches {
                let waits =
                    self.watches.get(&watch).is_some_and(|w| matches!(w.state, State::AwaitingRevision));
                if waits {
                    self.close_watch(watch, reason.clone());
                }
            }
            self.drop_group_if_unused(options);
            return;
        }
        if let RevisionRead::Backoff { until } = group.read
            && now >= until
        {
            group.read = RevisionRead::Idle;
            self.reads_due = true;
            // The watches it was for may have been cancelled meanwhile.
            self.drop_group_if_unused(options);
        }
    }

    pub(super) fn drop_group_if_unused(&mut self, options: &SharedOptions) {
        if self.groups.get(options).is_some_and(Group::is_unused) {
            self.groups.remove(options);
        }
    }
}
