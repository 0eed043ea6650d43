//! The machine and those who wait for it: where watch handles and the driver meet.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, OnceLock},
    task::{Context, Waker},
};

use etcd_watch_core::{
    Action, ApiMisuse, CloseReason, Delivery, Instant, Stats, StreamKey, WatchKey, WatchRequest, WatchStats,
    Watcher,
};

use crate::{
    calls::end::End,
    sync::{WaitList, lock, wake_all},
    watch::links::Links,
};

/// The machine behind a lock. Watch handles take from it directly, so a watch needs no task and no
/// channel; the driver feeds it, and is woken when a handle has made work for it.
///
/// Under the lock only the machine runs: the clock is read before it is taken, and wakers and responses are dropped
/// after it was released.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// The tasks that wait for the driver's end.
    closing: WaitList,
    /// The tasks that wait for a watch or a stream to change its state.
    monitoring: WaitList,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

/// Why a watch has ended, and since when it had been away, once its handle has taken that or is gone.
pub(crate) type Ending = Arc<OnceLock<(CloseReason, Instant)>>;

pub(crate) struct State {
    pub(crate) machine: Watcher,
    /// Actions that came out of a handle's call and wait for the driver.
    pending: VecDeque<Action>,
    /// Whom the streams are connected to.
    pub(crate) links: Links,
    /// How many changes of state, of watches, streams and links, those who wait for them have been told of.
    told: u64,
    /// The tasks that wait for a watch.
    consumers: Consumers,
    driver: Option<Waker>,
    /// When the driver will wake by itself.
    armed: Option<Instant>,
    /// Some stream is not being read until a consumer has made room.
    paused: bool,
    /// The driver is to spread the streams over the endpoints.
    spread: bool,
    /// The driver is to move the streams that were opened with other credentials than the present ones.
    renew: bool,
    phase: Phase,
    /// The driver has ended without being asked to.
    is_runtime_gone: bool,
}

impl State {
    /// How often a watch, a stream or a link has changed its state.
    fn changes(&self) -> u64 {
        self.machine.state_changes().wrapping_add(self.links.changes())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The driver is to shut the machine down and end.
    Stopping,
    /// The driver has ended.
    Ended,
}

/// What was asked of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// To perform the last actions and end.
    pub(crate) stop: bool,
    /// To spread the streams over the endpoints.
    pub(crate) spread: bool,
    /// To move the streams that were opened with other credentials than the present ones.
    pub(crate) renew: bool,
    /// Whether there may be more actions.
    pub(crate) more: bool,
}

/// What the driver finds when it has nothing left to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Nothing: it may sleep until this time, or until it is woken.
    Until(Option<Instant>),
    /// More to do after all.
    MoreToDo,
}

impl Hub {
    pub(crate) fn new(machine: Watcher, clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        let state = State {
            machine,
            pending: VecDeque::new(),
            links: Links::default(),
            told: 0,
            consumers: Consumers::default(),
            driver: None,
            armed: None,
            paused: false,
            spread: false,
            renew: false,
            phase: Phase::Running,
            is_runtime_gone: false,
        };
        Self {
            state: Mutex::new(state),
            closing: WaitList::default(),
            monitoring: WaitList::default(),
            clock: Box::new(clock),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        (self.clock)()
    }

    #[cfg(not(etcd_watch_lock_times))]
    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// For the bench: how long the lock is held is measured.
    #[cfg(etcd_watch_lock_times)]
    #[track_caller]
    pub(crate) fn lock(&self) -> crate::watch::lock_times::Timed<'_, State> {
        crate::watch::lock_times::Timed::new(lock(&self.state))
    }

    /// A command of a handle; the driver performs what comes of it. What the command returns is dropped
    /// after unlocking.
    pub(crate) fn command<T>(&self, command: impl FnOnce(&mut State, Instant) -> T) -> T {
        self.call(command, State::driver_of_command)
    }

    /// A handle takes something; the driver is woken only if that makes work for it.
    pub(crate) fn take<T>(&self, take: impl FnOnce(&mut State, Instant) -> T) -> T {
        self.call(take, State::driver_of_take)
    }

    fn call<T>(
        &self,
        call: impl FnOnce(&mut State, Instant) -> T,
        driver: impl FnOnce(&mut State) -> Option<Waker>,
    ) -> T {
        let now = self.now();
        let mut state = self.lock();
        let output = call(&mut state, now);
        let driver = driver(&mut state);
        drop(state);
        wake_all(driver);
        output
    }

    /// Takes what waits for a watch's consumer. If nothing does, `waker` is woken once something may.
    /// An end is written into `ending` as well, before anybody can see that the machine has forgotten the watch.
    ///
    /// The waker is cloned before locking if `is_wait_expected`, and otherwise only after nothing was found.
    pub(crate) fn next(
        &self,
        watch: WatchKey,
        waker: &Waker,
        ending: &OnceLock<Ending>,
        is_wait_expected: bool,
    ) -> Option<Delivery> {
        let mut spare = is_wait_expected.then(|| waker.clone());
        loop {
            let (taken, _replaced) =
                self.take(|state, now| state.next_or_wait(now, watch, waker, ending, &mut spare));
            match taken {
                Taken::Delivery(delivery) => return Some(delivery),
                Taken::Waiting => return None,
                Taken::NeedsWaker => spare = Some(waker.clone()),
            }
        }
    }

    /// Ends a watch whose handle is gone.
    pub(crate) fn discard(&self, watch: WatchKey) {
        let _discarded = self.command(|state, now| {
            // An unknown watch is one that has ended already.
            let _ = state.machine.cancel(now, watch);
            let untaken: Vec<Delivery> = std::iter::from_fn(|| state.machine.next(now, watch)).collect();
            (untaken, state.consumers.remove(watch))
        });
    }

    pub(crate) fn watch(&self, request: WatchRequest) -> Result<(WatchKey, Option<i64>), ApiMisuse> {
        self.command(|state, now| {
            let key = state.machine.watch(now, request)?;
            let start = state.machine.resume_revision(key).filter(|&revision| revision > 0);
            Ok((key, start))
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.lock().machine.stats()
    }

    pub(crate) fn watch_stats(&self, watch: WatchKey) -> Option<WatchStats> {
        self.lock().machine.watch_stats(watch)
    }

    pub(crate) fn all_watch_stats(&self) -> Vec<(WatchKey, WatchStats)> {
        self.lock().machine.all_watch_stats().collect()
    }

    /// The lag of the watch that lags most.
    #[cfg(feature = "metrics")]
    pub(crate) fn max_lag(&self) -> u64 {
        self.lock().machine.max_lag()
    }

    /// Asks the driver to spread the streams over the endpoints.
    pub(crate) fn spread(&self) {
        self.command(|state, _| state.spread = true);
    }

    /// Tells the driver that the credentials have changed.
    pub(crate) fn renew(&self) {
        self.command(|state, _| state.renew = true);
    }

    /// The tasks that wait for a watch or a stream to change its state.
    pub(crate) fn monitoring(&self) -> &WaitList {
        &self.monitoring
    }

    /// Asks the driver to end everything.
    pub(crate) fn stop(&self) {
        let driver = {
            let mut state = self.lock();
            if state.phase == Phase::Running {
                state.phase = Phase::Stopping;
            }
            state.driver.take()
        };
        wake_all(driver);
        self.monitoring.wake_all();
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().phase == Phase::Ended
    }

    /// Completes once the driver has ended. Cancel-safe.
    pub(crate) async fn ended(&self) {
        self.closing.until((), || self.has_ended().then_some(())).await;
    }

    /// A round of the driver begins: says what was asked of it, and [drains](Self::drain) up to `limit` actions. Shuts the
    /// machine down if that was asked; the actions that follow are the last.
    pub(crate) fn begin_round(
        &self,
        limit: usize,
        actions: &mut Vec<Action>,
        wake: &mut Vec<Waker>,
    ) -> Asked {
        let now = self.now();
        let mut state = self.lock();
        let changes = state.changes();
        let has_changed = std::mem::replace(&mut state.told, changes) != changes;
        let stop = state.phase == Phase::Stopping;
        let spread = std::mem::take(&mut state.spread);
        let renew = std::mem::take(&mut state.renew);
        if stop {
            state.machine.shutdown(now);
        }
        let more = state.drain(limit, actions, wake);
        drop(state);
        if has_changed {
            self.monitoring.wake_all();
        }
        Asked { stop, spread, renew, more }
    }

    /// Takes up to `limit` actions: the consumers to wake are added to `wake`, the rest to `actions`. Whether there
    /// may be more.
    pub(crate) fn drain(&self, limit: usize, actions: &mut Vec<Action>, wake: &mut Vec<Waker>) -> bool {
        self.lock().drain(limit, actions, wake)
    }

    /// Which of these streams the machine wants to hear from.
    pub(crate) fn wanted(&self, streams: impl IntoIterator<Item = StreamKey>, wanted: &mut Vec<bool>) {
        let state = self.lock();
        wanted.clear();
        wanted.extend(streams.into_iter().map(|stream| state.machine.wants_frame(stream)));
    }

    /// The driver has nothing left to do, unless something came up just now.
    pub(crate) fn park(&self, cx: &Context<'_>, streams: impl IntoIterator<Item = StreamKey>) -> Parked {
        let waker = cx.waker().clone();
        let mut state = self.lock();
        let reopened = streams.into_iter().any(|stream| state.machine.wants_frame(stream));
        let action = state.machine.poll_action();
        state.pending.extend(action);
        let is_asked = state.spread || state.renew || state.phase == Phase::Stopping;
        let has_changed = state.told != state.changes();
        if reopened || is_asked || has_changed || !state.pending.is_empty() {
            return Parked::MoreToDo;
        }
        let armed = state.machine.poll_timeout();
        state.armed = armed;
        let previous = state.driver.replace(waker);
        drop(state);
        drop(previous);
        Parked::Until(armed)
    }

    /// Says whether some stream is not being read, so that a handle that takes something tells the driver.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.lock().paused = paused;
    }

    /// Whether the driver was asked to end. One that ends unasked has lost its runtime.
    pub(crate) fn was_asked_to_stop(&self) -> bool {
        self.lock().phase != Phase::Running
    }

    /// The driver has ended, for whatever reason: whoever waits is woken and finds its watch closed.
    pub(crate) fn end(&self) {
        let now = self.now();
        let (consumers, driver) = {
            let mut state = self.lock();
            let phase = std::mem::replace(&mut state.phase, Phase::Ended);
            if phase == Phase::Running {
                state.is_runtime_gone = true;
                state.machine.abandon(now);
            } else {
                state.machine.shutdown(now);
            }
            (std::mem::take(&mut state.consumers), state.driver.take())
        };
        drop(driver);
        wake_all(consumers.into_wakers());
        self.closing.wake_all();
        self.monitoring.wake_all();
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// The tasks that wait for a watch each, by the watches' slots in the machine.
#[derive(Debug, Default)]
struct Consumers(Vec<Option<Waker>>);

impl Consumers {
    fn get(&self, watch: WatchKey) -> Option<&Waker> {
        self.0.get(watch.slot())?.as_ref()
    }

    /// The task waits for the watch, in the place of the one that is returned.
    fn insert(&mut self, watch: WatchKey, waker: Waker) -> Option<Waker> {
        let slot = watch.slot();
        if slot >= self.0.len() {
            self.0.resize(slot + 1, None);
        }
        self.0[slot].replace(waker)
    }

    fn remove(&mut self, watch: WatchKey) -> Option<Waker> {
        self.0.get_mut(watch.slot())?.take()
    }

    fn into_wakers(self) -> impl Iterator<Item = Waker> {
        self.0.into_iter().flatten()
    }
}

/// What came of taking from a watch.
enum Taken {
    Delivery(Delivery),
    /// There was nothing; the waker is registered.
    Waiting,
    /// There was nothing; the waker must be cloned to be registered.
    NeedsWaker,
}

impl State {
    /// Why the client has ended, if it has, or is about to.
    pub(crate) fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Running => None,
            _ if self.is_runtime_gone => Some(End::RuntimeGone),
            Phase::Stopping | Phase::Ended => Some(End::Closed),
        }
    }

    /// Takes what waits for a watch, or registers the consumer's waker, for which `spare` may hold a clone. The waker
    /// that is no longer needed is to be dropped after unlocking: with the last waker of a task the task may go, and
    /// the handles it holds.
    fn next_or_wait(
        &mut self,
        now: Instant,
        watch: WatchKey,
        waker: &Waker,
        ending: &OnceLock<Ending>,
        spare: &mut Option<Waker>,
    ) -> (Taken, Option<Waker>) {
        let behind = self.machine.ended_behind(watch);
        // It may find nothing although it was woken: what waited was dropped for the common budget. Then this very
        // call has the server asked for it again.
        match self.machine.next(now, watch) {
            Some(delivery) => {
                let Delivery::Closed(reason) = &delivery else { return (Taken::Delivery(delivery), None) };
                let _ = ending.get_or_init(Ending::default).set((reason.clone(), behind.unwrap_or(now)));
                let done = self.consumers.remove(watch);
                (Taken::Delivery(delivery), done)
            }
            None if self.consumers.get(watch).is_some_and(|waiting| waiting.will_wake(waker)) => {
                (Taken::Waiting, None)
            }
            None => match spare.take() {
                Some(waker) => (Taken::Waiting, self.consumers.insert(watch, waker)),
                None => (Taken::NeedsWaker, None),
            },
        }
    }

    fn drain(&mut self, limit: usize, actions: &mut Vec<Action>, wake: &mut Vec<Waker>) -> bool {
        for _ in 0..limit {
            match self.pending.pop_front().or_else(|| self.machine.poll_action()) {
                Some(Action::Deliver { watch }) => wake.extend(self.consumers.remove(watch)),
                Some(action) => actions.push(action),
                None => return false,
            }
        }
        true
    }

    /// The driver is not asked whether there is something to do, it finds out: the more commands it
    /// finds at once, the fewer requests it makes of them.
    fn driver_of_command(&mut self) -> Option<Waker> {
        self.discard_after_end();
        self.driver.take()
    }

    fn driver_of_take(&mut self) -> Option<Waker> {
        self.discard_after_end();
        if self.machine.has_actions() {
            self.pending.extend(std::iter::from_fn(|| self.machine.poll_action()));
        }
        let timeout = self.machine.poll_timeout();
        let sooner = timeout.is_some_and(|at| self.armed.is_none_or(|armed| at < armed));
        if self.pending.is_empty() && !sooner && !self.paused {
            return None;
        }
        self.driver.take()
    }

    /// Once the driver has ended nobody performs actions any more.
    fn discard_after_end(&mut self) {
        if self.phase == Phase::Ended {
            self.pending.clear();
            while self.machine.poll_action().is_some() {}
        }
    }
}

/// Keeps the driver running: held by every client and every watch handle.
#[derive(Debug)]
pub(crate) struct Lifeline(pub(crate) Arc<Hub>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::WatchConfig;

    use super::*;

    #[test]
    fn a_driver_that_is_told_to_end_as_it_goes_to_sleep_does_not_sleep() {
        let machine = Watcher::new(WatchConfig::default(), 1).expect("valid settings");
        let hub = Hub::new(machine, || Instant::ZERO);
        let begin_round = || hub.begin_round(1, &mut Vec::new(), &mut Vec::new());
        assert!(!begin_round().stop, "nothing is asked of it yet");
        hub.stop();
        let cx = Context::from_waker(Waker::noop());
        assert_eq!(hub.park(&cx, []), Parked::MoreToDo);
        assert!(begin_round().stop);
    }
}
