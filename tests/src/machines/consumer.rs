//! A watch's consumer: it takes, holds what it takes against the store's history, and may come back.

use std::time::Duration;

use etcd_watch_core::{
    CloseReason, Delivery, Overflow, ResponseKind, StreamOptions, WatchKey, WatchRequest, WatchState,
};

use super::client::Owner;
use super::plan::{Planted, RangePlan, WatchPlan};
use super::schedule::{Turn, Wake};
use super::world::World;
use crate::checks::{Change, Checker, Watched};

/// A watch that is denied three times in a row, each time because its token has just expired, takes that for what it
/// says. The first of these tokens may have expired before it began.
pub(super) const DENIALS: u64 = 2;
/// How often in a row a server has to end a watch before that is taken for what it says.
const CANCELS: u64 = 8;

/// One consumer, through all the watches it has had.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) plan: WatchPlan,
    state: State,
    /// `None` until it is known where "now" is.
    pub(super) checker: Option<Checker>,
    /// The store that it is looking at; one before the last is one that has been restored since.
    pub(super) epoch: usize,
    /// The store that was there when it began.
    opened_epoch: usize,
    /// The store's revision then.
    opened_at: i64,
    /// How often tokens have expired since its watch was last created, that time included.
    pub(super) expiries: u64,
    /// When its present watch began.
    begun: Duration,
    /// Where to go on, by the last response.
    resume: Option<i64>,
    /// Where its present watch began; 0 until that is known.
    start: i64,
    /// A revision that its present watch knew of when it began; 0 for none.
    known: i64,
    pub(super) stalled_until: Duration,
    /// When it last looked for something to take, and found nothing.
    looked_at: Duration,
    /// How often the server was made to end a watch of its client since its present watch began.
    pub(super) server_cancels: u64,
    turn: Turn,
    /// What a planted bug hands out again.
    again: Option<etcd_watch_core::WatchResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Watching(WatchKey),
    /// Its watch was cancelled, and it will come back to go on at a revision, of a cluster.
    Away {
        resume: i64,
        cluster: u64,
        seen: i64,
    },
    Done,
}

impl Consumer {
    pub(super) fn watch(&self) -> Option<WatchKey> {
        match self.state {
            State::Watching(watch) => Some(watch),
            State::Away { .. } | State::Done => None,
        }
    }

    fn watched(&self, from: i64) -> Watched {
        Watched {
            from,
            no_put: self.plan.filters.no_put,
            no_delete: self.plan.filters.no_delete,
            prev_kv: self.plan.prev_kv,
            ..Watched::range(&self.plan.range.range())
        }
    }
}

impl World {
    /// A client opens a watch.
    pub(super) fn open_watch(&mut self, plan: WatchPlan) {
        let from = plan.back.map(|back| (self.cluster.revision() - back).max(1));
        let consumer = self.consumers.len();
        self.consumers.push(Consumer {
            state: State::Done,
            checker: None,
            epoch: self.cluster.epoch(),
            opened_epoch: self.cluster.epoch(),
            opened_at: self.cluster.revision(),
            expiries: 0,
            begun: Duration::ZERO,
            resume: None,
            start: 0,
            known: 0,
            stalled_until: Duration::ZERO,
            looked_at: Duration::ZERO,
            server_cancels: 0,
            turn: Turn::default(),
            again: None,
            plan,
        });
        self.counts.watches += 1;
        self.begin_watch(consumer, from, (0, 0));
    }

    fn begin_watch(&mut self, consumer: usize, from: Option<i64>, (cluster, known): (u64, i64)) {
        let plan = &self.consumers[consumer].plan;
        let client = plan.client;
        let options = StreamOptions { require_leader: plan.require_leader, ..StreamOptions::default() };
        let mut request = WatchRequest::new(plan.range.range())
            .start_revision(from.unwrap_or(0))
            .prev_kv(plan.prev_kv)
            .filters(plan.filters)
            .progress_notify(plan.progress_notify)
            .created_notify(plan.created_notify)
            .fragment(plan.fragment)
            .overflow(plan.overflow)
            .stream_options(options);
        if known > 0 {
            request = request.known_store(cluster, known);
        }
        let now = self.machine_now();
        let watch = self.clients[client].watcher.watch(now, request).expect("a lawful request");
        self.clients[client].owners.insert(watch, Owner::Consumer(consumer));
        let state = &mut self.consumers[consumer];
        state.state = State::Watching(watch);
        (state.begun, state.looked_at) = (self.now, self.now);
        (state.expiries, state.server_cancels) = (0, 0);
        (state.start, state.known) = (from.unwrap_or(0), known);
        if let Some(from) = from.filter(|_| state.checker.is_none()) {
            state.checker = Some(Checker::new(state.watched(from)));
        }
        self.note(|| format!("consumer {consumer}: opens {watch:?} of client {client} from {from:?}"));
        self.settle(client);
    }

    /// Watches from now on learn where they begin, by a read of the store of `epoch`.
    pub(super) fn find_starts(&mut self, client: usize, epoch: usize) {
        for consumer in 0..self.consumers.len() {
            let state = &self.consumers[consumer];
            let (Some(watch), None) = (state.watch(), &state.checker) else { continue };
            if state.plan.client != client {
                continue;
            }
            let Some(from) = self.clients[client].watcher.resume_revision(watch).filter(|from| *from > 0)
            else {
                continue;
            };
            let is_of_this_store = state.opened_epoch == epoch && epoch == self.cluster.epoch();
            if is_of_this_store && !(state.opened_at + 1..=self.cluster.revision() + 1).contains(&from) {
                let at = state.opened_at;
                self.broken(format!("consumer {consumer}: now is {from}, and was asked for at {at}"));
            }
            let state = &mut self.consumers[consumer];
            state.checker = Some(Checker::new(state.watched(from)));
            (state.start, state.known) = (from, from - 1);
            state.epoch = self.cluster.successor(epoch, from - 1);
        }
    }

    pub(super) fn expect_consumer(&mut self, consumer: usize) {
        let soon = self.soon();
        let state = &mut self.consumers[consumer];
        let at = (soon + state.plan.pause).max(state.stalled_until);
        if state.turn.ask(at) {
            self.schedule.at(at, Wake::Consumer(consumer));
        }
    }

    /// It takes what there is, or one thing if it is slow.
    pub(super) fn consumer_turn(&mut self, consumer: usize) {
        if !self.consumers[consumer].turn.take(self.now) {
            return;
        }
        if self.consumers[consumer].stalled_until > self.now {
            self.expect_consumer(consumer);
            return;
        }
        while let Some(watch) = self.consumers[consumer].watch() {
            let client = self.consumers[consumer].plan.client;
            match self.take(client, watch) {
                None => {
                    self.consumers[consumer].looked_at = self.now;
                    return;
                }
                Some(Delivery::Response(response)) => self.received(consumer, &response),
                Some(Delivery::Closed(reason)) => {
                    self.ended(consumer, &reason);
                    return;
                }
                Some(other) => self.broken(format!("unheard of: {other:?}")),
            }
            if !self.consumers[consumer].plan.pause.is_zero() {
                self.expect_consumer(consumer);
                return;
            }
        }
    }

    fn received(&mut self, consumer: usize, response: &etcd_watch_core::WatchResponse) {
        self.note(|| format!("consumer {consumer}: takes {response:?}"));
        self.counts.responses += 1;
        self.counts.events += response.len() as u64;
        // Each says that everything up to its revision has come; that it was created says nothing of the store.
        let bookmark = (response.kind() != ResponseKind::Created).then(|| response.revision());
        // Below its start it has everything there will ever be.
        let start = self.consumers[consumer].checker.as_ref().map_or(0, |checker| checker.watched().from);
        let newest = self.cluster.revision().max(start - 1);
        let is_current = self.consumers[consumer].epoch == self.cluster.epoch();
        if let Some(ahead) = bookmark.filter(|bookmark| is_current && *bookmark > newest) {
            self.broken(format!("consumer {consumer}: it has everything up to {ahead}, of {newest}"));
        }
        let state = &mut self.consumers[consumer];
        state.resume = Some(response.resume_revision());
        let Some(checker) = &mut state.checker else {
            self.broken(format!("consumer {consumer}: something came before its start was known"));
            return;
        };
        let history = self.cluster.history(state.epoch);
        checker.compacted(self.cluster.compacted);
        checker.response(history, response.events().map(Change::from), bookmark);
        if !checker.is_in_order() {
            let what = match checker.clone().finish_now(history) {
                Err(broken) => broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
                Ok(()) => "something is out of place".to_owned(),
            };
            self.broken(format!("consumer {consumer}: {what}"));
        }
        if self.planted(Planted::HandsOutAgain) && !response.is_empty() {
            self.consumers[consumer].again = Some(response.clone());
        }
    }

    /// Its watch has ended: was it lawful?
    fn ended(&mut self, consumer: usize, reason: &CloseReason) {
        self.note(|| format!("consumer {consumer}: ends: {reason}"));
        *self.counts.ends.entry(name_of(reason)).or_default() += 1;
        let state = &mut self.consumers[consumer];
        state.state = State::Done;
        self.counts.watch_time += self.now - state.begun;
        if !self.may_end(consumer, reason) {
            self.broken(format!("consumer {consumer} had no reason to end: {reason}"));
        }
    }

    /// Whether a watch that has not been cancelled may end so.
    fn may_end(&self, consumer: usize, reason: &CloseReason) -> bool {
        let state = &self.consumers[consumer];
        let reached = state.checker.as_ref().map_or(0, Checker::reached);
        match reason {
            CloseReason::Compacted { compact_revision, next_revision } => {
                (reached + 1..*compact_revision).contains(next_revision)
                    && *compact_revision <= self.cluster.compacted
            }
            CloseReason::Lagged { .. } => state.plan.overflow == Overflow::Fail,
            CloseReason::PermissionDenied { .. } => {
                state.plan.range == RangePlan::Secret || state.expiries >= DENIALS
            }
            CloseReason::StoreChanged { .. } => self.cluster.has_other_id_since(state.opened_epoch),
            CloseReason::StoreRegressed { .. } => {
                self.may_have_seemed_restored(state.opened_epoch, state.looked_at)
            }
            CloseReason::CancelledByServer { .. } => state.server_cancels >= CANCELS,
            _ => false,
        }
    }

    /// The application cancels a watch.
    pub(super) fn cancel_watch(&mut self, consumer: usize, back_after: Option<Duration>) {
        let Some(watch) = self.consumers[consumer].watch() else { return };
        let client = self.consumers[consumer].plan.client;
        let now = self.machine_now();
        // What waits is thrown away: it goes on after what it has taken.
        let cluster = self.cluster.truth.config().cluster_id;
        let state = &mut self.consumers[consumer];
        self.counts.watch_time += self.now - state.begun;
        let is_current = state.epoch == self.cluster.past.len();
        let seen = state.checker.as_ref().map_or(0, Checker::reached);
        let start = state.checker.as_ref().map(|checker| checker.watched().from);
        let resume = state.resume.or(start);
        state.state = match (back_after, resume) {
            (Some(_), Some(resume)) if is_current => State::Away { resume, cluster, seen },
            _ => State::Done,
        };
        if let (Some(after), State::Away { .. }) = (back_after, state.state) {
            self.schedule.at(self.now + after, Wake::Return(consumer));
        }
        self.note(|| format!("consumer {consumer}: cancels {watch:?}"));
        if self.clients[client].watcher.cancel(now, watch).is_err() {
            self.broken(format!("{watch:?} can't be cancelled and has not ended"));
        }
        self.settle(client);
        // Its end is taken at once. If it had ended already, what waits comes first.
        let mut waiting = 0;
        loop {
            match self.take(client, watch) {
                Some(Delivery::Response(_)) => waiting += 1,
                Some(Delivery::Closed(CloseReason::Cancelled)) if waiting == 0 => return,
                Some(Delivery::Closed(reason)) if self.may_end(consumer, &reason) => return,
                other => {
                    self.broken(format!(
                        "consumer {consumer}: a cancelled watch ends with {other:?}, after {waiting} responses"
                    ));
                    return;
                }
            }
        }
    }

    pub(super) fn come_back(&mut self, consumer: usize) {
        let State::Away { resume, cluster, seen } = self.consumers[consumer].state else { return };
        let epoch = self.consumers[consumer].epoch;
        // What it stored may be of a store that is gone: it would have to begin anew, as another consumer.
        if epoch < self.cluster.epoch() || self.is_ending {
            self.consumers[consumer].state = State::Done;
            return;
        }
        self.counts.returns += 1;
        self.begin_watch(consumer, Some(resume), (cluster, seen));
    }

    /// Those of whom something is still to be expected, and whom it has not reached: up to `revision`, or word
    /// that their store is gone.
    pub(super) fn behind(&self, revision: i64) -> Option<String> {
        self.consumers.iter().enumerate().find_map(|(number, consumer)| {
            let watch = consumer.watch()?;
            if consumer.stalled_until > self.now {
                return None;
            }
            let reached = consumer.checker.as_ref().map_or(0, Checker::reached);
            if consumer.epoch < self.cluster.epoch() {
                return Some(format!("consumer {number} ({watch:?}) was not told that its store is gone"));
            }
            let from = consumer.checker.as_ref().map_or(0, |checker| checker.watched().from);
            let is_behind = reached < revision && from <= revision;
            is_behind
                .then(|| format!("consumer {number} ({watch:?}) is at {reached}, the store at {revision}"))
        })
    }

    /// The store was restored: consumers that had not seen more of it than is there still go on.
    pub(super) fn consumers_follow(&mut self) {
        for consumer in 0..self.consumers.len() {
            let state = &self.consumers[consumer];
            let position = match state.state {
                State::Watching(watch) => {
                    let stats = self.clients[state.plan.client].watcher.watch_stats(watch);
                    let Some(stats) = stats else { continue };
                    // One that has heard nothing knows of nothing that could be gone.
                    let heard = stats.accepted_revision.max(stats.resume_revision - 1);
                    if heard < state.start { state.known } else { heard }
                }
                State::Away { seen, .. } => seen,
                State::Done => continue,
            };
            let reached = state.checker.as_ref().map_or(0, Checker::reached);
            let epoch = self.cluster.successor(state.epoch, position.max(reached));
            self.consumers[consumer].epoch = epoch;
        }
    }

    /// Whether some consumer has to notice that its store is gone, and its machine has not yet.
    pub(super) fn consumers_are_noticing(&self) -> bool {
        self.consumers.iter().any(|consumer| {
            // One that never takes anything again has no need to know.
            self.cluster.is_replaced_in_silence(consumer.epoch)
                && consumer.stalled_until < Duration::MAX
                && consumer.watch().is_some_and(|watch| {
                    let stats = self.clients[consumer.plan.client].watcher.watch_stats(watch);
                    stats.is_some_and(|stats| stats.state != WatchState::Closed)
                })
        })
    }

    /// What two of the planted bugs do when a stream breaks.
    pub(super) fn mishandle_loss(&mut self, client: usize) {
        for consumer in 0..self.consumers.len() {
            if self.consumers[consumer].plan.client != client {
                continue;
            }
            if self.planted(Planted::HandsOutAgain)
                && let Some(response) = self.consumers[consumer].again.take()
            {
                self.received(consumer, &response);
            }
            if self.planted(Planted::DropsQueued)
                && let Some(watch) = self.consumers[consumer].watch()
            {
                let now = self.machine_now();
                if self.clients[client]
                    .watcher
                    .watch_stats(watch)
                    .is_some_and(|stats| stats.queued_events > 0)
                {
                    drop(self.clients[client].watcher.next(now, watch));
                    self.settle(client);
                }
            }
        }
    }
}

/// The reason's name, for the counts.
pub(super) fn name_of(reason: &CloseReason) -> String {
    let text = format!("{reason:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
