//! Machines that processes of the user's run on.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use etcd_watch_client::ClientBuilder;
use tokio::task::JoinHandle;

use super::core::{Core, lock};
use super::etcd::Etcd;
use super::fault::Fault;
use super::gate::Gate;
use super::runtime::{SimRuntime, Sleep};

/// What a host is doing.
#[derive(Debug)]
pub(super) struct HostState {
    pub(super) name: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Its tasks are waiting to be polled while one of these holds.
    frozen: u32,
    suspended: u32,
    /// When the suspension that is under way began.
    since: Duration,
    /// How long it was suspended before that.
    slept: Duration,
    /// Since when it runs, if it does.
    runs_since: Duration,
    /// When its process's clients were made, by its clock.
    clients: BTreeMap<u64, Duration>,
    next_client: u64,
    /// How many of its processes were killed.
    life: u64,
    /// Its tasks.
    gates: BTreeMap<u64, Option<Waker>>,
    next_gate: u64,
}

/// What a task may do.
pub(super) enum Turn {
    Run,
    Wait,
    Killed,
}

impl HostState {
    fn new(name: String) -> Self {
        Self { name, state: Mutex::default() }
    }

    pub(super) fn enter(&self) -> u64 {
        let mut state = lock(&self.state);
        state.next_gate += 1;
        let id = state.next_gate;
        state.gates.insert(id, None);
        id
    }

    pub(super) fn leave(&self, id: u64) {
        lock(&self.state).gates.remove(&id);
    }

    pub(super) fn turn(&self, id: u64, life: u64, waker: &Waker) -> Turn {
        let mut state = lock(&self.state);
        if state.life != life {
            return Turn::Killed;
        }
        let is_stopped = state.is_stopped();
        if let Some(kept) = state.gates.get_mut(&id) {
            match kept {
                Some(kept) => kept.clone_from(waker),
                None => *kept = Some(waker.clone()),
            }
        }
        if is_stopped { Turn::Wait } else { Turn::Run }
    }

    pub(super) fn life(&self) -> u64 {
        lock(&self.state).life
    }

    /// Its monotonic clock, which stands still while it is suspended.
    pub(super) fn clock(&self, now: Duration) -> Duration {
        lock(&self.state).clock(now)
    }

    /// The same for a process; `None` if it was killed.
    pub(super) fn clock_of(&self, life: u64, now: Duration) -> Option<Duration> {
        let state = lock(&self.state);
        (state.life == life).then(|| state.clock(now))
    }

    /// A client is made; its number.
    fn enter_client(&self, now: Duration) -> u64 {
        let began = self.clock(now);
        let mut state = lock(&self.state);
        state.next_client += 1;
        let id = state.next_client;
        state.clients.insert(id, began);
        id
    }

    /// The client is gone; how long it lived, unless its process was killed before.
    fn leave_client(&self, id: u64, now: Duration) -> Duration {
        let clock = self.clock(now);
        let began = lock(&self.state).clients.remove(&id);
        began.map_or(Duration::ZERO, |began| clock.saturating_sub(began))
    }

    /// How long the clients of its process have lived together.
    pub(super) fn client_time(&self, now: Duration) -> Duration {
        let clock = self.clock(now);
        lock(&self.state).clients.values().map(|began| clock.saturating_sub(*began)).sum()
    }

    /// Changes what it is doing, and wakes its tasks if they may run again, or are to end.
    fn change(&self, now: Duration, change: impl FnOnce(&mut State)) {
        let mut state = lock(&self.state);
        let was_stopped = state.is_stopped();
        change(&mut state);
        if was_stopped && !state.is_stopped() {
            state.runs_since = now;
        }
        // A killed process's tasks end even on a host that stands still.
        let wakers: Vec<Waker> = state.gates.values().flatten().cloned().collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn clock(&self, now: Duration) -> Duration {
        let running = if self.suspended > 0 { self.since } else { now };
        running.saturating_sub(self.slept)
    }

    fn is_stopped(&self) -> bool {
        self.frozen > 0 || self.suspended > 0
    }
}

/// A machine with a process of the user's on it. Cheap to clone.
///
/// Clients that it [makes](Self::client) and tasks that it [spawns](Self::spawn) run while the host does: they can be
/// frozen, suspended and killed together. What runs elsewhere (by `tokio::spawn`, or in the scenario itself) is not
/// concerned by that.
#[derive(Clone)]
pub struct Host {
    core: Arc<Core>,
    state: Arc<HostState>,
    etcd: Etcd,
}

impl Host {
    /// The host with this name: a new one if there is none yet.
    pub(super) fn named(core: &Arc<Core>, etcd: &Etcd, name: &str) -> Self {
        let mut hosts = lock(&core.hosts);
        let state = hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(HostState::new(name.to_owned())));
        Self { core: core.clone(), state: state.clone(), etcd: etcd.clone() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// A client on this host, of all members, with a seed that follows from the run's, and as the first user if there are
    /// [users](super::Sim::users). It takes no proxy from the environment.
    pub fn client(&self) -> ClientBuilder {
        let seed = self.core.rng().u64(..);
        let runtime = self.runtime().of_client(Presence::new(&self.core, &self.state));
        let builder = ClientBuilder::on(runtime).endpoints(self.etcd.endpoints()).no_proxy().seed(seed);
        match self.etcd.users().first() {
            Some((name, password)) => builder.user(name, password),
            None => builder,
        }
    }

    /// The runtime of the process that is on this host now, for what is not a client but needs one.
    #[must_use]
    pub fn runtime(&self) -> SimRuntime {
        SimRuntime::new(self.core.clone(), self.state.clone(), self.etcd.clone())
    }

    /// Runs a task in this host's process.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let gate = Gate::new(self.core.clone(), self.state.clone(), self.state.life(), future);
        Task(self.core.handle.spawn(gate))
    }

    /// Waits by this host's monotonic clock, which stands still while it is suspended. Tokio's timers go on then, and
    /// ring when the host wakes up.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        Sleep::new(self.core.clone(), self.state.clone(), self.state.life(), time)
    }

    /// Starves the host: none of its tasks is polled, though time goes on; when that ends all timers that were due ring
    /// at once.
    pub fn freeze(&self) -> Fault {
        self.core.fault(self.name(), format_args!("is frozen"));
        self.state.change(self.core.now(), |state| state.frozen += 1);
        let Self { core, state, .. } = self.clone();
        Fault::new(move || {
            core.note(&state.name, format_args!("goes on"));
            state.change(core.now(), |state| state.frozen -= 1);
        })
    }

    /// Suspends the host, as a laptop that is shut: nothing runs, its monotonic clock stands still, and only its
    /// [boot time](etcd_watch_client::Runtime::boot_time) tells afterwards how long that was.
    pub fn suspend(&self) -> Fault {
        self.core.fault(self.name(), format_args!("is suspended"));
        let now = self.core.now();
        self.state.change(now, |state| {
            if state.suspended == 0 {
                state.since = now;
            }
            state.suspended += 1;
        });
        let Self { core, state, .. } = self.clone();
        Fault::new(move || {
            core.note(&state.name, format_args!("wakes up"));
            let now = core.now();
            state.change(now, |state| {
                state.suspended -= 1;
                if state.suspended == 0 {
                    state.slept += now.saturating_sub(state.since);
                }
            });
        })
    }

    /// Kills the process: its tasks are dropped where they are, its connections end. What is spawned afterwards, and
    /// clients that are built afterwards, are of another process.
    pub fn kill(&self) {
        self.core.fault(self.name(), format_args!("its process is killed"));
        let now = self.core.now();
        self.core.client_lived(self.state.client_time(now));
        self.state.change(now, |state| {
            state.life += 1;
            state.clients.clear();
        });
    }

    /// For how long it has been running, neither frozen nor suspended; `None` while it stands still.
    #[must_use]
    pub fn running_for(&self) -> Option<Duration> {
        let state = lock(&self.state.state);
        (!state.is_stopped()).then(|| self.core.now().saturating_sub(state.runs_since))
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("name", &self.state.name).finish_non_exhaustive()
    }
}

/// A client on a host, from its making until nothing of it is left: its time is counted.
pub(super) struct Presence {
    core: Arc<Core>,
    host: Arc<HostState>,
    id: u64,
}

impl Presence {
    fn new(core: &Arc<Core>, host: &Arc<HostState>) -> Self {
        let id = host.enter_client(core.now());
        Self { core: core.clone(), host: host.clone(), id }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // Once the run has ended, its time is in the report.
        if !self.core.is_over() {
            let lived = self.host.leave_client(self.id, self.core.now());
            self.core.client_lived(lived);
        }
    }
}

/// A task of a host's. It goes on when this is dropped. As a future it completes with the task's output, or with `None`
/// if its process was killed or it panicked (which fails the run).
#[derive(Debug)]
pub struct Task<T>(JoinHandle<Option<T>>);

impl<T> Task<T> {
    /// Ends the task where it is.
    pub fn abort(&self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|joined| joined.ok().flatten())
    }
}
