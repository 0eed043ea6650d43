//! Workloads of the machine.

use std::hint::black_box;

use bytes::Bytes;
use etcd_watch_core::{Action, Delivery, Frame, Stats, StreamKey, WatchKey, WatchRequest, WatchStats};

use crate::{
    server::{Created, Machine, Running, request},
    workload::{Run, Section, Unit, Workload},
};

/// Calls whose cost must not depend on the number of watches. All are on one stream.
pub(crate) const OF_WATCHES: Section = Section {
    of: ["watch", "watches"],
    sizes: &[1, 1_000, 100_000],
    workloads: &[
        Workload {
            name: "take in a frame of 1 put",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 2_180 }],
            allocations: 2.1,
            start: |watches| Box::new(TakeIn::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "decode a frame of 1 put, take it in, and next twice",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 3_306 }],
            allocations: 2.1,
            start: |watches| Box::new(Whole::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "next that gets 1 response",
            units: &[Unit { name: "call", of: 1, goal: None, ceiling: 324 }],
            allocations: 0.1,
            start: |watches| Box::new(Take::of(Machine::with(watches, PER_STREAM), 1)),
        },
        Workload {
            name: "next that gets nothing",
            units: &[Unit { name: "call", of: 1, goal: None, ceiling: 155 }],
            allocations: 0.1,
            start: |watches| Box::new(Take::of(Machine::with(watches, PER_STREAM), 0)),
        },
        Workload {
            name: "take in a manual progress reply",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 1_410 }],
            allocations: 0.1,
            start: |watches| Box::new(Progress::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "watch, up to its create request",
            units: &[Unit { name: "watch", of: 1, goal: None, ceiling: 3_810 }],
            allocations: 4.5,
            start: |watches| Box::new(Open::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "take in a Created frame",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 2_258 }],
            allocations: 0.5,
            start: |watches| Box::new(TakeInCreated::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "watch_stats of 1 watch",
            units: &[Unit { name: "call", of: 1, goal: None, ceiling: 249 }],
            allocations: 0.1,
            start: |watches| Box::new(AskStats::of(Machine::with(watches, PER_STREAM))),
        },
        Workload {
            name: "stats and max_lag, as an export of metrics asks for them",
            units: &[Unit { name: "export", of: 1, goal: None, ceiling: 162 }],
            allocations: 0.1,
            start: |watches| Box::new(Export::of(Machine::with(watches, PER_STREAM))),
        },
    ],
};

/// Calls whose cost must not depend on the number of streams. Each has one watch.
pub(crate) const OF_STREAMS: Section = Section {
    of: ["stream", "streams"],
    sizes: &[1, 1_000, 10_000],
    workloads: &[
        Workload {
            name: "poll_timeout",
            units: &[Unit { name: "call", of: 1, goal: None, ceiling: 9 }],
            allocations: 0.1,
            start: |streams| Box::new(PollTimeout::of(Machine::with(streams, 1))),
        },
        Workload {
            name: "take in a frame of 1 put",
            units: &[Unit { name: "frame", of: 1, goal: None, ceiling: 2_412 }],
            allocations: 2.1,
            start: |streams| Box::new(TakeIn::of(Machine::with(streams, 1))),
        },
        Workload {
            name: "next that gets 1 response",
            units: &[Unit { name: "call", of: 1, goal: None, ceiling: 324 }],
            allocations: 0.1,
            start: |streams| Box::new(Take::of(Machine::with(streams, 1), 1)),
        },
    ],
};

/// One stream has room for all watches of a workload.
const PER_STREAM: usize = 1_000_000;

/// Hands in a frame with one event, and takes the action that comes of it.
struct TakeIn {
    machine: Machine,
    frame: Option<(Running, Frame)>,
    told: Option<WatchKey>,
}

impl TakeIn {
    fn of(machine: Machine) -> Self {
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
struct Whole {
    machine: Machine,
    frame: Option<(Running, Bytes)>,
    taken: Option<Delivery>,
}

impl Whole {
    fn of(machine: Machine) -> Self {
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

/// Takes what a watch has, in a call that is the first after an event, or the second.
struct Take {
    machine: Machine,
    /// How many responses the call gets: 1 or 0.
    gets: usize,
    watch: Option<WatchKey>,
    taken: Option<Delivery>,
}

impl Take {
    fn of(machine: Machine, gets: usize) -> Self {
        Self { machine, gets, watch: None, taken: None }
    }
}

impl Run for Take {
    fn prepare(&mut self) {
        let machine = &mut self.machine;
        self.taken = None;
        if let Some(watch) = self.watch {
            assert!(machine.watcher.next(machine.now, watch).is_none(), "nothing is left");
        }
        machine.tick();
        let running = machine.any();
        let event = machine.event(running);
        machine.watcher.handle_frame(machine.now, running.stream, Ok(event));
        while machine.watcher.poll_action().is_some() {}
        if self.gets == 0 {
            assert!(machine.watcher.next(machine.now, running.watch).is_some(), "the event is there");
        }
        self.watch = Some(running.watch);
    }

    fn call(&mut self) {
        let Some(watch) = self.watch else { return };
        self.taken = self.machine.watcher.next(self.machine.now, watch);
    }

    fn check(&self) {
        let taken = match &self.taken {
            Some(Delivery::Response(response)) => response.len(),
            _ => 0,
        };
        assert_eq!(taken, self.gets, "as many events are taken as there are");
    }
}

/// Hands in a reply to a manual progress request, which no consumer wants to hear of.
struct Progress {
    machine: Machine,
    frame: Option<Frame>,
    seen: u64,
}

impl Progress {
    fn of(machine: Machine) -> Self {
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
struct Open {
    machine: Machine,
    request: Option<WatchRequest>,
    sent: Option<Action>,
}

impl Open {
    fn of(machine: Machine) -> Self {
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
struct TakeInCreated {
    machine: Machine,
    frame: Option<(StreamKey, Frame)>,
}

impl TakeInCreated {
    fn of(machine: Machine) -> Self {
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
        assert!(newest.is_some_and(|stats| stats.state == etcd_watch_core::WatchState::Active));
    }
}

/// Asks how one watch is doing.
struct AskStats {
    machine: Machine,
    running: Option<Running>,
    stats: Option<WatchStats>,
}

impl AskStats {
    fn of(machine: Machine) -> Self {
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
struct Export {
    machine: Machine,
    exported: Option<(Stats, u64)>,
}

impl Export {
    fn of(mut machine: Machine) -> Self {
        let running = machine.any();
        let event = machine.event(running);
        machine.watcher.handle_frame(machine.now, running.stream, Ok(event));
        while machine.watcher.poll_action().is_some() {}
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
struct PollTimeout {
    machine: Machine,
}

impl PollTimeout {
    fn of(machine: Machine) -> Self {
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
