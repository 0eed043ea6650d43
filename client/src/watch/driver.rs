//! The driver: the one task of a client that stands between the machine and the network.
//!
//! Each turn it performs what the machine asks for, then reads what has arrived, over and over until
//! there is nothing left; only then are the consumers woken, so that they find everything at once. What
//! one stream may take of a turn is bounded, and after a full share the task yields to the others of its
//! runtime.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use etcd_watch_core::{
    Action, Code, EndpointHint, Failure, Instant, RangeDone, RangeKey, Remedy, Request, StreamEnd, StreamId,
    StreamKey, remedy,
};

use crate::{
    Endpoint,
    auth::Generation,
    calls::{attempts::Calls, lists::Asked},
    cluster::aside::Aside,
    runtime::BoxFuture,
    sync::wake_all,
    watch::connection::{Batch, StreamConnection},
    watch::connections::Connections,
    watch::hub::{Hub, Parked, State},
    watch::log::{self, Backoff, Replacements, Slow, SlowConsumers},
    watch::reading::{Extent, Reading},
};

/// How many actions are taken from the machine under one lock.
const ACTIONS_AT_ONCE: usize = 256;

/// Of how many ended streams something may be remembered.
const SPARE_MEMORIES: usize = 64;

/// At most this many connections of streams to members without a leader are kept.
const MOST_ASIDE: usize = 64;

/// Rounds of a turn before the task yields in any case.
const ROUNDS_PER_TURN: usize = 32;

pub(crate) struct Driver {
    hub: Arc<Hub>,
    calls: Arc<Calls>,
    connections: Connections,
    reads: Vec<Read>,
    timer: Option<(Instant, BoxFuture<'static, ()>)>,
    /// What the next connection of each of the machine's streams must know about the last one.
    before: BTreeMap<StreamId, Before>,
    /// The streams' connections to members without a leader.
    aside: Arc<Aside>,
    last_read: Option<Arc<Endpoint>>,
    slow: SlowConsumers,
    replaced: Replacements,
    /// Whether the hub knows that some stream is not being read.
    paused: bool,
    actions: Vec<Action>,
    /// The connections to poll in this round, and whether the machine wants to hear from each.
    ready: Vec<StreamKey>,
    wanted: Vec<bool>,
    batch: Batch,
    wake: Vec<Waker>,
}

/// What is known of a stream's last connection.
#[derive(Default)]
struct Before {
    /// The endpoint that it was last opened on.
    endpoint: Option<Arc<Endpoint>>,
    /// The auth token that it last carried.
    token: Option<Generation>,
}

/// A read of the machine's that is under way.
struct Read {
    key: RangeKey,
    result: BoxFuture<'static, Asked<RangeDone>>,
}

/// How a round went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    /// Nothing was left to do.
    Quiet,
    /// Something was done; there may be more.
    Busy,
    /// A stream has had its share of the turn.
    Full,
}

impl Driver {
    pub(crate) fn new(hub: Arc<Hub>, calls: Arc<Calls>, slow: SlowConsumers) -> Self {
        Self {
            hub,
            calls,
            connections: Connections::default(),
            reads: Vec::new(),
            timer: None,
            before: BTreeMap::new(),
            aside: Arc::new(Aside::new(MOST_ASIDE)),
            last_read: None,
            slow,
            replaced: Replacements::default(),
            paused: false,
            actions: Vec::new(),
            ready: Vec::new(),
            wanted: Vec::new(),
            batch: Batch::default(),
            wake: Vec::new(),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.connections.register(cx);
        for _ in 0..ROUNDS_PER_TURN {
            let asked = self.hub.begin_round(ACTIONS_AT_ONCE, &mut self.actions, &mut self.wake);
            if asked.spread {
                self.spread();
            }
            if asked.renew {
                self.renew();
            }
            let mut round = self.perform(asked.spread || asked.renew || asked.more);
            if asked.stop {
                // The last actions are performed; the streams are reset by dropping them.
                return Poll::Ready(());
            }
            round = round.max(self.read_streams());
            round = round.max(self.read_ranges(cx));
            match round {
                Round::Full => break,
                Round::Busy => {}
                Round::Quiet => match self.park(cx) {
                    Parked::MoreToDo => {}
                    Parked::Until(timeout) if self.wait(cx, timeout) => {}
                    Parked::Until(_) => return Poll::Pending,
                },
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Goes to sleep, unless there is more to do.
    fn park(&self, cx: &Context<'_>) -> Parked {
        let is_idle = self.connections.is_empty() && !self.aside.is_empty();
        if is_idle && self.hub.lock().machine.stats().streams == 0 {
            // No stream is left that could use them.
            self.aside.clear();
        }
        self.hub.park(cx, self.connections.paused().iter().copied())
    }

    /// Performs the actions that the round has begun with, and all others there are if there may be `more`.
    fn perform(&mut self, mut more: bool) -> Round {
        let mut actions = std::mem::take(&mut self.actions);
        let mut round = Round::Quiet;
        loop {
            if !actions.is_empty() {
                // Performing an action may lead to others.
                (round, more) = (Round::Busy, true);
            }
            for action in actions.drain(..) {
                self.perform_one(action);
            }
            if !more {
                break;
            }
            more = self.hub.drain(ACTIONS_AT_ONCE, &mut actions, &mut self.wake);
        }
        self.actions = actions;
        round
    }

    fn perform_one(&mut self, action: Action) {
        match action {
            Action::Open { stream, options, endpoint, fresh_token } => {
                let streams = self.streams();
                let dialer = &self.calls.pool.dialer;
                let before = self.before.entry(stream.stream()).or_default();
                if fresh_token && let Some(token) = before.token {
                    dialer.token_refused(token);
                }
                let avoid = avoid(endpoint, before.endpoint.as_ref()).map(|endpoint| &**endpoint);
                let candidates = dialer.endpoints.candidates_for_stream(avoid, &streams);
                let connection =
                    StreamConnection::open(dialer, candidates, self.aside.clone(), stream, options);
                before.endpoint = Some(connection.endpoint().clone());
                log::opening(stream, connection.endpoint());
                let now = self.hub.now();
                self.hub.lock().links.opening(stream.stream(), now);
                self.connections.insert(connection);
                self.forget_ended_streams();
            }
            Action::Send { stream, request, creates } => {
                if let (Some(creates), Request::Create(create)) = (creates, &request) {
                    log::creating(stream, creates, create.start_revision);
                }
                if let Some(connection) = self.connections.get(stream) {
                    connection.send(&request);
                }
            }
            Action::Close { stream, reason } => {
                if let Some(connection) = self.connections.remove(stream) {
                    self.closed(&connection, &reason);
                }
            }
            // A read that is refused for its token says so itself, and the next one has another.
            Action::Range { range, request, options, endpoint, fresh_token: _ } => {
                let avoid = avoid(endpoint, self.last_read.as_ref()).cloned();
                let calls = self.calls.clone();
                let result = async move { calls.revision(request, &options, avoid).await };
                self.reads.push(Read { key: range, result: Box::pin(result) });
            }
            Action::Overflowed { watch, policy, queued_bytes, resume_revision } => {
                let now = self.hub.now();
                // The log is written without the lock.
                let range = self.hub.lock().machine.range(watch);
                let slow =
                    Slow { watch, range: range.as_ref(), policy, queued_bytes, revision: resume_revision };
                self.slow.tell(now, slow);
            }
            // Taken out by `Hub::drain`, which has the lock that the consumers' wakers are under.
            Action::Deliver { .. } => {}
        }
    }

    /// How many streams there are on each endpoint.
    fn streams(&self) -> HashMap<Arc<Endpoint>, usize> {
        let mut streams = HashMap::new();
        for connection in self.connections.iter() {
            *streams.entry(connection.endpoint().clone()).or_default() += 1;
        }
        streams
    }

    /// Moves streams to where there are fewer, and away from endpoints that are not in use any more.
    fn spread(&self) {
        let (keys, on): (Vec<StreamKey>, Vec<Arc<Endpoint>>) =
            self.connections.iter().map(|each| (each.key, each.endpoint().clone())).unzip();
        let misplaced = self.calls.pool.dialer.endpoints.misplaced(&on);
        let now = self.hub.now();
        let mut state = self.hub.lock();
        for at in misplaced {
            // One that is not open yet is left where it is: should it fail, it is opened elsewhere.
            let _ = state.machine.move_stream(now, keys[at]);
        }
    }

    /// Moves the streams that were opened with other credentials than the present ones: a stream keeps its token for life.
    /// One that is not open yet is moved once it is, see [`Reading`].
    fn renew(&self) {
        let auth = &self.calls.pool.dialer.auth;
        let stale: Vec<StreamKey> =
            self.connections.iter().filter(|each| each.is_stale(auth)).map(|each| each.key).collect();
        let now = self.hub.now();
        let mut state = self.hub.lock();
        for stream in stale {
            let _ = state.machine.move_stream(now, stream);
        }
    }

    fn closed(&mut self, connection: &StreamConnection, reason: &StreamEnd) {
        self.remember(connection);
        let endpoints = &self.calls.pool.dialer.endpoints;
        let (stream, endpoint) = (connection.key, connection.endpoint());
        let (now, backoff) = (self.hub.now(), self.backoff(stream));
        match reason {
            StreamEnd::Misbehaved(_) | StreamEnd::Lagging { .. } | StreamEnd::Deaf { .. } => {
                self.replaced.tell(now, stream, endpoint, reason, backoff);
            }
            _ => log::closing(stream, endpoint, reason, backoff),
        }
        self.unlink(connection, is_trouble(reason).then(|| Arc::new(reason.clone()) as Arc<_>));
        if is_members_fault(reason) {
            connection.leave(&self.calls.pool.dialer, remedy_of(reason));
            endpoints.failed(endpoint, now, reason);
        }
        if *reason == StreamEnd::Idle {
            self.before.remove(&stream.stream());
        }
    }

    /// Reads what has arrived on the streams that were woken, and on those that the machine wants to hear from again.
    fn read_streams(&mut self) -> Round {
        let (mut ready, mut wanted) = (std::mem::take(&mut self.ready), std::mem::take(&mut self.wanted));
        if self.paused {
            let paused = self.connections.paused();
            self.hub.wanted(paused.iter().copied(), &mut wanted);
            let resumed = paused.iter().zip(&wanted).filter(|(_, is_wanted)| **is_wanted);
            resumed.for_each(|(key, _)| self.connections.poll_again(*key));
        }
        self.connections.take_ready(&mut ready);
        if !ready.is_empty() {
            // Under one lock for all: what one stream brings does not change what is wanted of another.
            self.hub.wanted(ready.iter().copied(), &mut wanted);
        }
        let mut round = Round::Quiet;
        for (key, is_wanted) in ready.drain(..).zip(wanted.drain(..)) {
            round = round.max(self.read_stream(key, is_wanted));
        }
        (self.ready, self.wanted) = (ready, wanted);
        let paused = !self.connections.paused().is_empty();
        if paused != self.paused {
            self.paused = paused;
            self.hub.set_paused(paused);
        }
        round
    }

    fn read_stream(&mut self, key: StreamKey, is_wanted: bool) -> Round {
        let Some((connection, waker)) = self.connections.for_polling(key) else { return Round::Quiet };
        let reading = Reading { hub: &self.hub, dialer: &self.calls.pool.dialer, connection };
        match reading.read(is_wanted, &mut Context::from_waker(waker), &mut self.batch) {
            Extent::Done { is_news, is_paused } => {
                self.connections.set_paused(key, is_paused);
                if is_news { Round::Busy } else { Round::Quiet }
            }
            Extent::Share => {
                self.connections.set_paused(key, false);
                self.connections.poll_again(key);
                Round::Full
            }
            Extent::Failed(failure) => {
                if let Some(connection) = self.connections.remove(key) {
                    self.failed(&connection, failure);
                }
                Round::Busy
            }
        }
    }

    /// A stream that ends while it has no connection ends without a word to the driver. So what is remembered of streams
    /// is cut back to those with a connection once most of it is of streams that have ended.
    fn forget_ended_streams(&mut self) {
        let streams = {
            let mut state = self.hub.lock();
            let State { machine, links, .. } = &mut *state;
            let streams = machine.stats().streams;
            if links.len() > 2 * streams + SPARE_MEMORIES {
                links.retain(|stream| machine.stream(stream).is_some());
            }
            streams
        };
        if self.before.len() > 2 * streams + SPARE_MEMORIES {
            let connected: BTreeSet<StreamId> =
                self.connections.iter().map(|each| each.key.stream()).collect();
            self.before.retain(|stream, _| connected.contains(stream));
        }
    }

    /// What the stream's next connection has to know of this one.
    fn remember(&mut self, connection: &StreamConnection) {
        let before = self.before.entry(connection.key.stream()).or_default();
        before.endpoint = Some(connection.endpoint().clone());
        before.token = connection.token().or(before.token);
    }

    fn failed(&mut self, connection: &StreamConnection, failure: Failure) {
        self.remember(connection);
        let endpoints = &self.calls.pool.dialer.endpoints;
        let (stream, endpoint) = (connection.key, connection.endpoint());
        let now = self.hub.now();
        let remedy = remedy(&failure);
        // What could not even be connected to, the dialer has noted.
        if connection.is_connected() && matches!(remedy, Remedy::RetryElsewhere | Remedy::NoLeader) {
            connection.leave(&self.calls.pool.dialer, remedy);
            endpoints.failed(endpoint, now, &failure);
        }
        self.hub.lock().machine.handle_failed(now, stream, failure.clone());
        self.unlink(connection, Some(Arc::new(failure.clone())));
        log::lost(stream, endpoint, connection.is_opened(), &failure, self.backoff(stream));
    }

    /// A stream has lost its connection, or could not get one.
    fn unlink(&self, connection: &StreamConnection, error: Option<Arc<dyn StdError + Send + Sync>>) {
        let (now, stream) = (self.hub.now(), connection.key.stream());
        let mut state = self.hub.lock();
        let State { machine, links, .. } = &mut *state;
        links.closed(stream, now, connection.heard(), error);
        if machine.stream(stream).is_none() {
            links.retain(|other| other != stream);
        }
    }

    /// When a stream that has just ended is opened again.
    fn backoff(&self, stream: StreamKey) -> Backoff {
        let now = self.hub.now();
        let state = self.hub.lock();
        let wait = state.machine.reopens_at(stream).map(|at| at.since(now));
        Backoff { wait, failures: state.machine.failures_in_a_row(stream) }
    }

    fn read_ranges(&mut self, cx: &mut Context<'_>) -> Round {
        let mut round = Round::Quiet;
        let mut at = 0;
        while let Some(read) = self.reads.get_mut(at) {
            let Poll::Ready((endpoint, result)) = read.result.as_mut().poll(cx) else {
                at += 1;
                continue;
            };
            let key = self.reads.swap_remove(at).key;
            self.last_read = endpoint.or_else(|| self.last_read.take());
            if let Err(failure) = &result {
                tracing::debug!(name: "revision_not_read", range = ?key, reason = %failure, "a read of the store failed");
            }
            let now = self.hub.now();
            let error = result.as_ref().err().map(|failure| Arc::new(failure.clone()));
            let mut state = self.hub.lock();
            state.machine.handle_range_done(now, key, result);
            if let Some(error) = error {
                state.links.read_failed(now, error);
            }
            drop(state);
            round = Round::Busy;
        }
        round
    }

    /// Waits for the machine's timeout; whether it is over, and handled.
    fn wait(&mut self, cx: &mut Context<'_>, timeout: Option<Instant>) -> bool {
        let Some(timeout) = timeout else { return false };
        let now = self.hub.now();
        if timeout <= now {
            self.hub.lock().machine.handle_timeout(now);
            return true;
        }
        // A timer that is due earlier does no harm; a new one for each change would cost more.
        if self.timer.as_ref().is_none_or(|(at, _)| timeout < *at) {
            self.timer = Some((timeout, self.calls.runtime().sleep(timeout.since(now))));
        }
        let rang = self.timer.as_mut().is_some_and(|(_, sleep)| sleep.as_mut().poll(cx).is_ready());
        if rang {
            self.timer = None;
        }
        rang
    }

    fn wake_consumers(&mut self) {
        wake_all(self.wake.drain(..));
    }
}

/// Whether another member may do better, so that this one is to be the last choice for every stream.
fn is_members_fault(reason: &StreamEnd) -> bool {
    matches!(
        reason,
        StreamEnd::Misbehaved(_)
            | StreamEnd::Unavailable { .. }
            | StreamEnd::Lagging { .. }
            | StreamEnd::Deaf { .. }
    )
}

/// What the end of a stream, which is the member's fault, asks for. Only a member that has sent a watch away says why.
fn remedy_of(reason: &StreamEnd) -> Remedy {
    match reason {
        StreamEnd::Unavailable { message } => remedy(&Failure::status(Code::Unknown, message)),
        _ => Remedy::RetryElsewhere,
    }
}

/// Whether something is wrong, rather than the stream not needed, or not there.
fn is_trouble(reason: &StreamEnd) -> bool {
    !matches!(reason, StreamEnd::Idle | StreamEnd::Moved | StreamEnd::ShutDown)
}

/// Which endpoint not to use.
fn avoid(hint: EndpointHint, last: Option<&Arc<Endpoint>>) -> Option<&Arc<Endpoint>> {
    match hint {
        EndpointHint::Any => None,
        EndpointHint::Another => last,
    }
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let turn = self.turn(cx);
        self.wake_consumers();
        turn
    }
}

impl Drop for Driver {
    /// However the task ends, those who wait on it are woken.
    fn drop(&mut self) {
        self.connections.clear();
        self.reads.clear();
        // The calls first: whoever finds its watch ended for this finds the calls ended, too.
        if !self.hub.was_asked_to_stop() {
            self.calls.runtime_is_gone();
        }
        self.hub.end();
        self.wake_consumers();
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
