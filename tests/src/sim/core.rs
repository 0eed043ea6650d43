//! What all parts of one simulated world share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::Clock;
use super::host::HostState;
use super::link::LinkState;
use super::plan::Plan;
use super::report::Cause;
use super::server::ServerState;
use super::transcript::Transcript;

pub(super) use crate::server::lock;

/// So many polls at one moment of virtual time are a livelock.
const LIVELOCK_POLLS: u64 = 1_000_000;

/// What all parts of one world share.
pub(super) struct Core {
    pub(super) seed: u64,
    pub(super) handle: Handle,
    clock: Arc<Clock>,
    /// The network's longest delay when nothing is wrong.
    pub(super) latency: Duration,
    rng: Mutex<fastrand::Rng>,
    transcript: Mutex<Transcript>,
    pub(super) hosts: Mutex<BTreeMap<String, Arc<HostState>>>,
    pub(super) links: Mutex<BTreeMap<(String, usize), Arc<LinkState>>>,
    /// Servers of the scenario's own.
    pub(super) servers: Mutex<Vec<Arc<ServerState>>>,
    /// What the storms bring.
    pub(super) plan: Mutex<Plan>,
    cause: Mutex<Option<Cause>>,
    failed: Notify,
    /// The sum of the lifetimes of clients that no longer exist.
    client_time: Mutex<Duration>,
    /// The run has ended: nothing may be started any more.
    is_over: AtomicBool,
    polls: Mutex<Polls>,
    connections: AtomicU64,
}

#[derive(Debug, Default)]
struct Polls {
    at: Duration,
    here: u64,
    all: u64,
}

impl Core {
    /// In the runtime of the run.
    pub(super) fn new(seed: u64, latency: Duration, plan: Plan, clock: Arc<Clock>) -> Self {
        clock.read();
        Self {
            seed,
            handle: Handle::current(),
            clock,
            latency,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            transcript: Mutex::new(Transcript::new(seed)),
            hosts: Mutex::default(),
            links: Mutex::default(),
            servers: Mutex::default(),
            plan: Mutex::new(plan),
            cause: Mutex::default(),
            failed: Notify::new(),
            client_time: Mutex::default(),
            is_over: AtomicBool::new(false),
            polls: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Virtual time since the beginning of the run.
    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// That moment, as tokio counts.
    pub(super) fn at(&self, since_start: Duration) -> Instant {
        self.clock.at(since_start)
    }

    /// This moment, as tokio counts.
    pub(super) fn instant(&self) -> Instant {
        self.at(self.now())
    }

    /// Another source of random numbers, which follows from the seed.
    pub(super) fn rng(&self) -> fastrand::Rng {
        lock(&self.rng).fork()
    }

    pub(super) fn note(&self, who: &str, what: fmt::Arguments<'_>) {
        lock(&self.transcript).note(self.now(), who, what);
    }

    /// Notes a fault, and counts it.
    pub(super) fn fault(&self, who: &str, what: fmt::Arguments<'_>) {
        let mut transcript = lock(&self.transcript);
        transcript.counts.faults += 1;
        transcript.note(self.now(), who, what);
    }

    pub(super) fn transcript(&self) -> MutexGuard<'_, Transcript> {
        lock(&self.transcript)
    }

    /// The number of another connection.
    pub(super) fn next_connection(&self) -> u64 {
        lock(&self.transcript).counts.connections += 1;
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// A task of some host is polled.
    pub(super) fn polled(&self) {
        let now = self.now();
        let mut polls = lock(&self.polls);
        polls.all += 1;
        if polls.at != now {
            (polls.at, polls.here) = (now, 0);
        }
        polls.here += 1;
        if polls.here == LIVELOCK_POLLS {
            drop(polls);
            self.fail(Cause::Livelock);
        }
    }

    pub(super) fn polls(&self) -> u64 {
        lock(&self.polls).all
    }

    /// The run fails; the first cause is kept.
    pub(super) fn fail(&self, cause: Cause) {
        lock(&self.cause).get_or_insert(cause);
        self.failed.notify_one();
    }

    pub(super) fn take_cause(&self) -> Option<Cause> {
        lock(&self.cause).take()
    }

    /// Completes when the run has failed, with the cause.
    pub(super) async fn failed(&self) -> Cause {
        loop {
            let failed = self.failed.notified();
            if let Some(cause) = self.take_cause() {
                return cause;
            }
            failed.await;
        }
    }

    /// A client is gone that lived for so long.
    pub(super) fn client_lived(&self, time: Duration) {
        *lock(&self.client_time) += time;
    }

    /// How long all clients have lived together.
    pub(super) fn client_time(&self) -> Duration {
        let now = self.now();
        let alive: Duration = lock(&self.hosts).values().map(|host| host.client_time(now)).sum();
        *lock(&self.client_time) + alive
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// The words of a panic.
pub(super) fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word").to_owned()
}
