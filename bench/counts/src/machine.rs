//! Workloads of the machine.

use std::hint::black_box;

use bytes::Bytes;
use etcd_watch_core::{
    Action, Delivery, Frame, Stats, StreamKey, WatchKey, WatchRequest, WatchState, WatchStats,
};

use crate::{
    server::{Created, Machine, Running, request},
    workload::Run,
};

/// Hands in a frame with one event, and takes the action that comes of it.
pub struct TakeIn {
    machine: Machine,
    frame: Option<(Running, Frame)>,
    told: Option<WatchKey>,
}

impl TakeIn {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, frame: None, told: None }
    }
}

impl Run for TakeIn {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        if let Some(watch) = self.told.take() {
            while machine.watcher.next(machine.now, watch).is_some() {}
        }
        machine.tick();
        let running = machine.any();
        self.frame = Some((running, machine.event(running)));
    }

    fn call(&mut self) {
        let watcher = &mut self.machine.watcher;
        let Some((running, frame)) = self.frame.take() else { return };
        watcher.handle_frame(self.machine.now, running.stream, Ok(frame));
        while let Some(action) = watcher.poll_action() {
            if let Action::Deliver { watch } = action {
                self.told = Some(watch);
            }
        }
    }

    fn check(&self) {
        assert!(self.told.is_some(), "the consumer is told");
    }
}

/// Takes a frame with one event all the way from its bytes to the consumer, which looks whether there is more.
pub struct Whole {
    machine: Machine,
    frame: Option<(Running, Bytes)>,
    taken: Option<Delivery>,
}

impl Whole {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, frame: None, taken: None }
    }
}

impl Run for Whole {
    fn prepare(&mut self) {
        self.taken = None;
        self.machine.tick();
        let running = self.machine.any();
        self.frame = Some((running, self.machine.event_bytes(running)));
    }

    fn call(&mut self) {
        let Machine { watcher, now, .. } = &mut self.machine;
        let Some((running, bytes)) = self.frame.take() else { return };
        watcher.handle_frame(*now, running.stream, Frame::decode(bytes));
        while let Some(action) = watcher.poll_action() {
            if let Action::Deliver { watch } = action {
                self.taken = watcher.next(*now, watch);
                black_box(watcher.next(*now, watch));
            }
        }
    }

    fn check(&self) {
        assert!(matches!(&self.taken, Some(Delivery::Response(response)) if response.len() == 1));
    }
}

/// Takes the one response that a watch has.
pub struct Take {
    machine: Machine,
    watch: Option<WatchKey>,
    taken: Option<Delivery>,
}

impl Take {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, watch: None, taken: None }
    }
}

impl Run for Take {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        self.taken = None;
        if let Some(watch) = self.watch {
            assert!(machine.watcher.next(machine.now, watch).is_none(), "nothing is left");
        }
        self.watch = Some(machine.receive().watch);
    }

    fn call(&mut self) {
        let Some(watch) = self.watch else { return };
        self.taken = self.machine.watcher.next(self.machine.now, watch);
    }

    fn check(&self) {
        assert!(matches!(&self.taken, Some(Delivery::Response(response)) if response.len() == 1));
    }
}

/// Looks for more after the one response that a watch had.
pub struct TakeNothing {
    machine: Machine,
    watch: Option<WatchKey>,
    found: bool,
}

impl TakeNothing {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, watch: None, found: true }
    }
}

impl Run for TakeNothing {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        let watch = machine.receive().watch;
        assert!(machine.watcher.next(machine.now, watch).is_some(), "the event is there");
        (self.watch, self.found) = (Some(watch), true);
    }

    fn call(&mut self) {
        let Some(watch) = self.watch else { return };
        self.found = self.machine.watcher.next(self.machine.now, watch).is_some();
    }

    fn check(&self) {
        assert!(!self.found, "there is no more");
    }
}

/// Hands in a reply to a manual progress request, which no consumer wants to hear of.
pub struct Progress {
    machine: Machine,
    frame: Option<Frame>,
    seen: u64,
}

impl Progress {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, frame: None, seen: 0 }
    }
}

impl Run for Progress {
    fn prepare(&mut self) {
        self.machine.tick();
        self.seen = self.machine.watcher.stats().progress_notifications;
        self.frame = Some(self.machine.progress());
    }

    fn call(&mut self) {
        let machine = &mut self.machine;
        let (Some(running), Some(frame)) = (machine.running.first(), self.frame.take()) else { return };
        machine.watcher.handle_frame(machine.now, running.stream, Ok(frame));
        while machine.watcher.poll_action().is_some() {}
    }

    fn check(&self) {
        let stats = self.machine.watcher.stats();
        assert_eq!((stats.progress_notifications, stats.untrusted_progress), (self.seen + 1, 0));
    }
}

/// Opens one more watch, and takes the actions up to its create request.
pub struct Open {
    machine: Machine,
    request: Option<WatchRequest>,
    sent: Option<Action>,
}

impl Open {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, request: None, sent: None }
    }
}

impl Run for Open {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        if let Some(created) = self.sent.take().and_then(|action| machine.perform(action)) {
            let frame = machine.created(created.id);
            machine.watcher.handle_frame(machine.now, created.stream, Ok(frame));
            machine.answer_all();
        }
        machine.tick();
        self.request = Some(request());
    }

    fn call(&mut self) {
        let machine = &mut self.machine;
        let Some(request) = self.request.take() else { return };
        if machine.watcher.watch(machine.now, request).is_ok() {
            while let Some(action) = machine.watcher.poll_action() {
                self.sent = Some(action);
            }
        }
    }

    fn check(&self) {
        assert!(matches!(self.sent, Some(Action::Send { creates: Some(_), .. })), "{:?}", self.sent);
    }
}

/// Hands in the server's answer to a create.
pub struct TakeInCreated {
    machine: Machine,
    frame: Option<(StreamKey, Frame)>,
}

impl TakeInCreated {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, frame: None }
    }
}

impl Run for TakeInCreated {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        machine.tick();
        machine.open();
        while let Some(action) = machine.watcher.poll_action() {
            if let Some(Created { stream, id }) = machine.perform(action) {
                self.frame = Some((stream, machine.created(id)));
            }
        }
    }

    fn call(&mut self) {
        let watcher = &mut self.machine.watcher;
        let Some((stream, frame)) = self.frame.take() else { return };
        watcher.handle_frame(self.machine.now, stream, Ok(frame));
        while watcher.poll_action().is_some() {}
    }

    fn check(&self) {
        let newest =
            self.machine.running.last().and_then(|last| self.machine.watcher.watch_stats(last.watch));
        assert!(newest.is_some_and(|stats| stats.state == WatchState::Active));
    }
}

/// Asks how one watch is doing.
pub struct AskStats {
    machine: Machine,
    running: Option<Running>,
    stats: Option<WatchStats>,
}

impl AskStats {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine, running: None, stats: None }
    }
}

impl Run for AskStats {
    fn prepare(&mut self) {
        self.running = Some(self.machine.any());
    }

    fn call(&mut self) {
        self.stats = self.running.and_then(|running| self.machine.watcher.watch_stats(running.watch));
    }

    fn check(&self) {
        let stream = self.running.map(|running| running.stream);
        assert!(self.stats.as_ref().is_some_and(|stats| stats.stream == stream));
    }
}

/// Asks for what is exported as metrics, while nothing waits for a consumer but one.
pub struct Export {
    machine: Machine,
    exported: Option<(Stats, u64)>,
}

impl Export {
    /// In this machine.
    #[must_use]
    pub fn of(mut machine: Machine) -> Self {
        machine.receive();
        Self { machine, exported: None }
    }
}

impl Run for Export {
    fn call(&mut self) {
        self.exported = Some((self.machine.watcher.stats(), self.machine.watcher.max_lag()));
    }

    fn check(&self) {
        let watches = self.machine.running.len();
        assert!(self.exported.is_some_and(|(stats, lag)| stats.watches == watches && lag > 0));
    }
}

/// Asks when the machine wants to be called.
pub struct PollTimeout {
    machine: Machine,
}

impl PollTimeout {
    /// In this machine.
    #[must_use]
    pub fn of(machine: Machine) -> Self {
        Self { machine }
    }
}

impl Run for PollTimeout {
    fn call(&mut self) {
        black_box(self.machine.watcher.poll_timeout());
    }

    fn check(&self) {
        assert!(self.machine.watcher.poll_timeout().is_some(), "every stream waits for its progress");
    }
}
