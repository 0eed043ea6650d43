//! Members that apply what their leader has committed, each in its own time.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etcd_watch_proto::etcdserverpb::Member;
use tokio::sync::Notify;
use tonic::Status;

use super::shared::{Shared, lock};
use crate::model::{Entry, ModelEtcd};

/// How long a member waits until it has applied a write that it was asked for, as etcd does with its default election
/// timeout of a second.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(7);

/// What makes a member a follower.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) leader: Arc<Shared>,
    pub(super) applier: Arc<Applier>,
}

impl Follower {
    /// Waits until all that is committed by now is applied.
    pub(super) async fn catch_up(&self) {
        let goal = self.applier.with(|state| state.committed());
        loop {
            let advanced = self.applier.advanced.notified();
            if self.applier.with(|state| state.applied) >= goal {
                return;
            }
            advanced.await;
        }
    }

    /// Like [`catch_up`](Self::catch_up), but gives up after etcd's time limit for a write.
    ///
    /// # Errors
    /// It takes too long.
    pub(super) async fn catch_up_in_time(&self) -> Result<(), Status> {
        let late = |_| Status::unavailable("etcdserver: request timed out");
        tokio::time::timeout(REQUEST_TIMEOUT, self.catch_up()).await.map_err(late)
    }
}

/// What is committed, and how far a member has applied it.
#[derive(Debug)]
pub(super) struct Applier {
    /// Whose it is.
    pub(super) member: Member,
    /// Wakes the member's timer.
    timer: Arc<Notify>,
    /// Wakes those who wait until something is applied.
    advanced: Notify,
    /// The longest time from the commit of an entry to its application, in milliseconds.
    slowest: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Entries with the times at which they are to be applied.
    waiting: VecDeque<(Duration, Entry)>,
    /// When the last entry is to be applied.
    last_due: Duration,
    /// How many entries are applied.
    applied: u64,
    /// Nothing is applied while this is above 0.
    lags: u32,
    rng: fastrand::Rng,
}

impl State {
    /// How many entries there were in all.
    fn committed(&self) -> u64 {
        self.applied + self.waiting.len() as u64
    }

    fn next_due(&self) -> Option<Duration> {
        self.waiting.front().filter(|_| self.lags == 0).map(|(due, _)| *due)
    }
}

impl Applier {
    pub(super) fn new(member: Member, timer: Arc<Notify>, slowest: Duration, rng: fastrand::Rng) -> Self {
        let state = State { waiting: VecDeque::new(), last_due: Duration::ZERO, applied: 0, lags: 0, rng };
        let slowest = u64::try_from(slowest.as_millis()).unwrap_or(u64::MAX);
        Self { member, timer, advanced: Notify::new(), slowest, state: Mutex::new(state) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut lock(&self.state))
    }

    /// The leader has committed entries.
    pub(super) fn commit(&self, now: Duration, entries: &[Entry]) {
        self.with(|state| {
            for entry in entries {
                let due = now + Duration::from_millis(state.rng.u64(..=self.slowest));
                state.last_due = state.last_due.max(due);
                state.waiting.push_back((state.last_due, entry.clone()));
            }
        });
        self.timer.notify_one();
    }

    /// Lets the member apply what is due.
    pub(super) fn apply(&self, now: Duration, member: &mut ModelEtcd) {
        let applied = self.with(|state| {
            let before = state.applied;
            while state.next_due().is_some_and(|due| due <= now)
                && let Some((_, entry)) = state.waiting.pop_front()
            {
                member.follow(&entry);
                state.applied += 1;
            }
            state.applied - before
        });
        if applied > 0 {
            self.advanced.notify_waiters();
        }
    }

    /// When there is something to apply next, unless the member lags.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.with(|state| state.next_due())
    }

    /// The member applies nothing, until [`go_on`](Self::go_on) is called as often.
    #[cfg(feature = "sim")]
    pub(super) fn lag(&self) {
        self.with(|state| state.lags += 1);
    }

    #[cfg(feature = "sim")]
    pub(super) fn go_on(&self) {
        self.with(|state| state.lags -= 1);
        self.timer.notify_one();
    }

    /// The member has all there is: it was given the leader's store.
    #[cfg(feature = "sim")]
    pub(super) fn skip(&self) {
        self.with(|state| {
            state.applied = state.committed();
            state.waiting.clear();
        });
        self.advanced.notify_waiters();
    }
}
