//! One state of everything: the machine, its driver, the server, the consumers; and how a step changes it.

use std::{collections::VecDeque, hash::Hash};

use bytes::Bytes;
use etcd_watch_core::{
    Action, Failure, Instant, RangeDone, RangeKey, Request, ServerMisbehaved, StreamEnd, StreamKey, WatchKey,
    WatchState, Watcher,
};
use etcd_watch_proto::{etcdserverpb::WatchResponse as Frame, prost::Message};

use super::{
    consumer::Consumer,
    plan::{Bug, Consumers, Plan},
    server::{Asked, Member, Server},
    step::Step,
    store::Store,
    violation::{Broken, Promise, ensure},
    wire::{CLUSTER, small},
};

/// The jitter's seed. Any will do: see `fingerprint.rs`.
const SEED: u64 = 1;

#[derive(Clone, Debug)]
pub(super) struct World<'a> {
    pub(super) plan: &'a Plan,
    pub(super) machine: Watcher,
    pub(super) now: Instant,
    pub(super) store: Store,
    pub(super) link: Link,
    pub(super) read: Option<Read>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) left: Left,
    /// What a cut stream had left to say.
    pub(super) stale: VecDeque<Bytes>,
    /// What the machine said and consumers took, if somebody wants to know.
    pub(super) log: Option<Vec<String>>,
}

/// The machine's one stream.
#[derive(Clone, Debug)]
pub(super) enum Link {
    None,
    Opening(StreamKey),
    Open {
        stream: StreamKey,
        /// What the client's watch ids count from, once one is known.
        first_id: Option<i64>,
        server: Server,
    },
}

/// A read of the current revision under way: it may be answered by what there was at any time since it was
/// asked for.
#[derive(Clone, Debug)]
pub(super) struct Read {
    key: RangeKey,
    pub(super) asked_at: i64,
}

/// How often what may happen only so often may still happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) faults: u8,
    pub(super) cuts: u8,
    pub(super) fragments: u8,
    pub(super) compactions: u8,
    pub(super) cancels: u8,
    pub(super) notifications: u8,
    pub(super) asks: u8,
    pub(super) repeats: u8,
    /// Responses that the driver may lose.
    pub(super) losses: u8,
}

impl<'a> World<'a> {
    pub(super) fn new(plan: &'a Plan) -> Result<Self, Broken> {
        let unusable = |error: &dyn std::fmt::Display| Broken::new(Promise::Panic, error.to_string());
        let faults = plan.faults;
        let mut world = Self {
            plan,
            machine: Watcher::new(plan.config(), SEED).map_err(|error| unusable(&error))?,
            now: Instant::from_nanos(1),
            store: Store::new(),
            link: Link::None,
            read: None,
            consumers: (0..plan.watches.len()).map(Consumer::new).collect(),
            left: Left {
                faults: faults.sum,
                cuts: faults.cuts,
                fragments: if plan.server.fragments { faults.fragments } else { 0 },
                compactions: faults.compactions,
                cancels: faults.cancels,
                notifications: plan.notifications,
                asks: plan.asks,
                repeats: plan.repeats,
                losses: u8::from(plan.bug == Some(Bug::LostResponse)),
            },
            stale: VecDeque::new(),
            log: None,
        };
        for watch in 0..plan.watches.len() {
            if !plan.watches[watch].is_late {
                world.open(watch)?;
            }
        }
        world.settle()?;
        Ok(world)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            log.push(line());
        }
    }

    /// The server and what it looks at.
    pub(super) fn server(&mut self) -> Option<(&mut Server, Member<'_>)> {
        let Link::Open { first_id, server, .. } = &mut self.link else { return None };
        let first_id = first_id.unwrap_or(0);
        Some((server, Member { plan: self.plan, store: &self.store, first_id }))
    }

    /// Does a step that is possible.
    pub(super) fn apply(&mut self, step: Step) -> Result<(), Broken> {
        match step {
            Step::Write => {
                self.store.revision += 1;
                self.with_server(Server::settle);
            }
            Step::Compact { revision } => {
                self.with_server(Server::expect_compaction);
                self.store.compacted = i64::from(revision);
                self.with_server(Server::settle);
                self.left.fault(|left| &mut left.compactions);
            }
            Step::Watch { watch } => self.open(usize::from(watch))?,
            Step::Opened => {
                if let Link::Opening(stream) = self.link {
                    self.link = Link::Open { stream, first_id: None, server: Server::default() };
                    self.machine.handle_opened(self.now, stream, self.plan.server.opened());
                }
            }
            Step::Handle => {
                if let Some((server, member)) = self.server() {
                    server.handle(member).map_err(|slot| {
                        Broken::new(Promise::Requests, format!("id {slot} was used on this stream before"))
                    })?;
                }
            }
            Step::Drop => {
                if let Some((server, _)) = self.server() {
                    server.inbox.pop_front();
                }
            }
            Step::Control => self.transmit(Server::take_reply),
            Step::Progress => self.transmit(Server::take_notice),
            Step::Events { slot, to, cut } => {
                self.transmit(|server, member| server.send(member, slot, i64::from(to), cut));
                self.cut_response(cut);
            }
            Step::Rest { slot, cut } => {
                self.transmit(|server, member| server.send_rest(member, slot, cut));
                self.cut_response(cut);
            }
            Step::Compacted { slot } => self.transmit(|server, member| server.tell_compacted(member, slot)),
            Step::Notify { slot } => {
                self.with_server(|server, member| server.notify(member, slot));
                self.left.notifications -= 1;
            }
            Step::Answer { revision } => {
                let done = RangeDone { revision: i64::from(revision), cluster_id: CLUSTER, mod_revision: 0 };
                self.answer(Ok(done));
            }
            Step::FailRead => {
                self.left.fault(|left| &mut left.cuts);
                self.answer(Err(Failure::connection("reset")));
            }
            Step::Timeout => self.pass_deadline(),
            Step::Take { watch } => {
                self.take(usize::from(watch))?;
            }
            Step::Ask { watch } => {
                let consumer = &mut self.consumers[usize::from(watch)];
                consumer.has_asked = true;
                self.left.asks -= 1;
                if let Some(key) = consumer.key {
                    let result = self.machine.request_progress(self.now, key);
                    ensure(result.is_ok(), Promise::End, || format!("watch {watch}: {result:?}"))?;
                }
            }
            Step::Cancel { watch } => {
                self.left.fault(|left| &mut left.cancels);
                self.cancel(usize::from(watch))?;
            }
            Step::Cut => {
                self.left.fault(|left| &mut left.cuts);
                self.cut();
            }
            Step::Stale => {
                let frame = self.stale.pop_front();
                if let (Link::Open { stream, .. }, Some(frame)) = (&self.link, frame) {
                    self.machine.handle_frame(self.now, *stream, etcd_watch_core::Frame::decode(frame));
                }
            }
            Step::Lose { slot, to } => {
                self.left.losses -= 1;
                self.with_server(|server, member| drop(server.send(member, slot, i64::from(to), None)));
            }
        }
        self.settle()
    }

    fn with_server(&mut self, act: impl FnOnce(&mut Server, Member<'_>)) {
        if let Some((server, member)) = self.server() {
            act(server, member);
        }
    }

    /// Something goes from the server to the machine.
    fn transmit(&mut self, send: impl FnOnce(&mut Server, Member<'_>) -> Option<Frame>) {
        let frame = self.server().and_then(|(server, member)| send(server, member));
        if let (Link::Open { stream, .. }, Some(frame)) = (&self.link, frame) {
            self.machine.handle_frame(
                self.now,
                *stream,
                etcd_watch_core::Frame::decode(frame.encode_to_vec().into()),
            );
        }
    }

    fn cut_response(&mut self, cut: Option<u8>) {
        if cut.is_some() {
            self.left.fault(|left| &mut left.fragments);
        }
    }

    fn open(&mut self, watch: usize) -> Result<(), Broken> {
        let key = self.machine.watch(self.now, self.plan.request(watch));
        let key = key.map_err(|error| Broken::new(Promise::Start, error.to_string()))?;
        let consumer = &mut self.consumers[watch];
        consumer.key = Some(key);
        match self.plan.watches[watch].start {
            Some(start) => consumer.cursor = Some(start),
            None => consumer.opened_at = self.store.revision,
        }
        Ok(())
    }

    pub(super) fn cancel(&mut self, watch: usize) -> Result<(), Broken> {
        let consumer = &mut self.consumers[watch];
        let Some(key) = consumer.key else { return Ok(()) };
        consumer.is_cancelled = true;
        let result = self.machine.cancel(self.now, key);
        ensure(result.is_ok(), Promise::End, || format!("watch {watch}: {result:?}"))
    }

    fn cut(&mut self) {
        let stream = match self.link {
            Link::Open { stream, .. } | Link::Opening(stream) => stream,
            Link::None => return,
        };
        if self.plan.bug == Some(Bug::StaleFrames)
            && let Some((server, member)) = self.server()
        {
            let stale = server.leftovers(member).into_iter().map(|frame| frame.encode_to_vec().into());
            self.stale = stale.collect();
        }
        self.link = Link::None;
        self.machine.handle_failed(self.now, stream, Failure::connection("reset"));
    }

    fn answer(&mut self, result: Result<RangeDone, Failure>) {
        if let Some(read) = self.read.take() {
            self.machine.handle_range_done(self.now, read.key, result);
        }
    }

    fn pass_deadline(&mut self) {
        use etcd_watch_core::TimeoutReason as Reason;
        match self.machine.timeout_reason() {
            Some(Reason::AnswerDue) => self.left.fault(|left| &mut left.cuts),
            Some(Reason::Reconnect | Reason::RetryRange | Reason::Linger) | None => {}
            Some(_) => self.left.repeats -= 1,
        }
        if let Some(at) = self.machine.poll_timeout() {
            self.now = at;
            self.machine.handle_timeout(at);
        }
    }

    /// The consumer takes one delivery; whether there was one.
    fn take(&mut self, watch: usize) -> Result<bool, Broken> {
        let consumer = &mut self.consumers[watch];
        let Some(key) = consumer.key else { return Ok(false) };
        let delivery = self.machine.next(self.now, key);
        consumer.is_told = self.plan.bug != Some(Bug::SingleTakes) && delivery.is_some();
        if let Some(delivery) = &delivery {
            consumer.take(self.plan, &self.store, delivery)?;
            consumer.is_told &= !consumer.is_closed;
            self.note(|| format!("    watch {watch} takes {delivery:?}"));
        }
        Ok(delivery.is_some())
    }

    /// Does what the machine says, and holds everything to its promises.
    pub(super) fn settle(&mut self) -> Result<(), Broken> {
        loop {
            while let Some(action) = self.machine.poll_action() {
                self.note(|| format!("    -> {action:?}"));
                self.perform(action)?;
            }
            let is_prompt = self.plan.consumers == Consumers::Prompt;
            let told = self.consumers.iter().position(|consumer| is_prompt && consumer.is_told);
            let Some(told) = told else { break };
            self.take(told)?;
        }
        self.learn_starts()?;
        self.check_resume()
    }

    fn perform(&mut self, action: Action) -> Result<(), Broken> {
        match action {
            Action::Open { stream, .. } => {
                let is_first = matches!(self.link, Link::None);
                ensure(is_first, Promise::Requests, || format!("{stream:?} is opened beside another"))?;
                self.link = Link::Opening(stream);
            }
            Action::Close { reason, .. } => {
                if let StreamEnd::Misbehaved(what) = reason {
                    let is_deserved = matches!(what, ServerMisbehaved::Unresponsive { .. })
                        || self.plan.bug == Some(Bug::StaleFrames)
                        || self.plan.is_blind;
                    ensure(is_deserved, Promise::Accusation, || format!("a server is accused: {what}"))?;
                }
                self.link = Link::None;
            }
            Action::Range { range, .. } => {
                ensure(self.read.is_none(), Promise::Requests, || "two reads at once".to_owned())?;
                self.read = Some(Read { key: range, asked_at: self.store.revision });
            }
            Action::Deliver { watch } => {
                let consumer = self.consumers.iter_mut().find(|consumer| consumer.key == Some(watch));
                let is_new = consumer.is_some_and(|consumer| !std::mem::replace(&mut consumer.is_told, true));
                ensure(is_new, Promise::End, || format!("{watch:?} is announced twice"))?;
            }
            Action::Overflowed { .. } => {}
            Action::Send { stream, request, creates } => {
                self.send(stream, &request, creates.map(|creates| creates.watch))?;
            }
        }
        Ok(())
    }

    fn send(&mut self, to: StreamKey, request: &Request, creates: Option<WatchKey>) -> Result<(), Broken> {
        let wrong = |what: &str| Broken::new(Promise::Requests, format!("{what}: {request:?}"));
        let echoes_ids = self.plan.server.echoes_ids;
        let Link::Open { stream, first_id, server } = &mut self.link else {
            return Err(wrong("no stream is open"));
        };
        if *stream != to {
            return Err(wrong("another stream is open"));
        }
        let slot_of = |id: i64, first_id: Option<i64>| {
            let slot = if echoes_ids { id - first_id.unwrap_or(id) } else { id };
            u8::try_from(slot).map_err(|_| wrong("no such id"))
        };
        let asked = match request {
            Request::Create(create) => {
                let consumer = self.consumers.iter().find(|consumer| consumer.key == creates);
                let consumer = consumer.ok_or_else(|| wrong("for no watch"))?;
                let is_right = create.range == self.plan.watches[consumer.watch].range
                    && create.start_revision > 0
                    && create.progress_notify
                    && consumer.is_open();
                if !is_right {
                    return Err(wrong("not what the watch is"));
                }
                if create.watch_id != 0 {
                    first_id.get_or_insert(create.watch_id);
                }
                let slot = if echoes_ids { Some(slot_of(create.watch_id, *first_id)?) } else { None };
                Asked::Create { watch: small(consumer.watch), slot, start: create.start_revision }
            }
            Request::Cancel { watch_id } => {
                let slot = slot_of(*watch_id, *first_id)?;
                let served = server.watches.iter().find(|served| served.slot == slot);
                let consumer = served.map(|served| &self.consumers[usize::from(served.watch)]);
                let state = consumer
                    .filter(|consumer| consumer.is_open())
                    .and_then(|consumer| self.machine.watch_stats(consumer.key?))
                    .map(|stats| stats.state);
                if matches!(state, Some(WatchState::Creating | WatchState::Active)) {
                    return Err(wrong("that watch is wanted"));
                }
                if self.plan.bug == Some(Bug::ForgottenCancels) {
                    return Ok(());
                }
                Asked::Cancel { slot }
            }
            Request::Progress => Asked::Progress,
        };
        server.inbox.push_back(asked);
        Ok(())
    }

    fn learn_starts(&mut self) -> Result<(), Broken> {
        for consumer in self.consumers.iter_mut().filter(|consumer| consumer.cursor.is_none()) {
            match consumer.key.and_then(|key| self.machine.resume_revision(key)) {
                Some(0) | None => {}
                Some(start) => consumer.starts_at(self.plan, &self.store, start)?,
            }
        }
        Ok(())
    }

    /// Where watches would go on: not past anything that was neither taken nor waits.
    fn check_resume(&self) -> Result<(), Broken> {
        if self.machine.stats().queued_bytes == 0 {
            return self.consumers.iter().try_for_each(|consumer| self.check_resume_of(consumer));
        }
        // What waits is found by taking all of it, from a copy.
        let mut ahead = Self { log: None, ..self.clone() };
        for watch in 0..ahead.consumers.len() {
            while ahead.take(watch)? {}
        }
        ahead.consumers.iter().try_for_each(|consumer| ahead.check_resume_of(consumer))
    }

    fn check_resume_of(&self, consumer: &Consumer) -> Result<(), Broken> {
        match consumer.key.and_then(|key| self.machine.resume_revision(key)) {
            Some(resume) if !consumer.is_cancelled => consumer.goes_on_at(self.plan, &self.store, resume),
            _ => Ok(()),
        }
    }
}

impl Left {
    pub(super) fn fault(&mut self, kind: impl Fn(&mut Self) -> &mut u8) {
        self.faults -= 1;
        *kind(self) -= 1;
    }
}
