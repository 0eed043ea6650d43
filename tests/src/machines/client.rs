//! A client: the real machine, and a driver as simple as one can be.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use etcd_watch_core::{
    Action, Delivery, EndpointHint, Failure, Instant, Remedy, Request, ServerMisbehaved, StreamEnd,
    StreamKey, WatchKey, Watcher, remedy,
};

use super::net::LinkId;
use super::plan::{Planted, Setup};
use super::schedule::{Turn, Wake};
use super::world::World;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) watcher: Watcher,
    pub(super) links: BTreeMap<StreamKey, LinkId>,
    /// The members, best first; one that failed goes to the back.
    preference: Vec<usize>,
    down: BTreeSet<usize>,
    last_members: BTreeMap<etcd_watch_core::StreamId, usize>,
    pub(super) last_read: Option<usize>,
    /// The number of the newest token it has.
    pub(super) token: u64,
    /// Whose each watch is.
    pub(super) owners: BTreeMap<WatchKey, Owner>,
    pub(super) turn: Turn,
    /// Of use only to a planted bug.
    pub(super) last_header: i64,
    frames: u64,
}

/// Who takes what a watch has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Consumer(usize),
    Mirror(usize),
}

impl Client {
    pub(super) fn new(setup: &Setup, number: usize, seed: u64) -> Self {
        let mut preference: Vec<usize> = (0..setup.members).collect();
        preference.rotate_left(number % setup.members);
        Self {
            watcher: Watcher::new(setup.config(), seed).expect("a valid configuration"),
            links: BTreeMap::new(),
            preference,
            down: BTreeSet::new(),
            last_members: BTreeMap::new(),
            last_read: None,
            token: 0,
            owners: BTreeMap::new(),
            turn: Turn::default(),
            last_header: 0,
            frames: 0,
        }
    }

    pub(super) fn pick(&self, avoid: Option<usize>) -> usize {
        let candidates = || self.preference.iter().filter(|&&member| Some(member) != avoid);
        let up = candidates().find(|member| !self.down.contains(member));
        *up.or_else(|| candidates().next()).unwrap_or(&self.preference[0])
    }

    pub(super) fn failed(&mut self, member: usize) {
        if let Some(at) = self.preference.iter().position(|&other| other == member) {
            self.preference[at..].rotate_left(1);
        }
        self.down.insert(member);
    }

    pub(super) fn answered(&mut self, member: usize) {
        self.down.remove(&member);
    }
}

impl World {
    pub(super) fn machine_now(&self) -> Instant {
        Instant::ZERO + self.now
    }

    /// Does what a client's machine says, until it says nothing more.
    pub(super) fn settle(&mut self, client: usize) {
        let mut actions = 0;
        while let Some(action) = self.clients[client].watcher.poll_action() {
            actions += 1;
            assert!(actions < 100_000, "no end of actions: {action:?}");
            self.perform(client, action);
        }
        if cfg!(debug_assertions) {
            self.clients[client].watcher.assert_consistent();
        }
        self.expect_timeout(client);
    }

    fn expect_timeout(&mut self, client: usize) {
        let client_at = self.clients[client].watcher.poll_timeout();
        if let Some(at) = client_at.map(|at| at.since(Instant::ZERO).max(self.now))
            && self.clients[client].turn.ask(at)
        {
            self.schedule.at(at, Wake::Client(client));
        }
    }

    pub(super) fn client_turn(&mut self, client: usize) {
        if self.clients[client].turn.take(self.now) {
            let now = self.machine_now();
            self.clients[client].watcher.handle_timeout(now);
            self.settle(client);
        }
    }

    fn perform(&mut self, client: usize, action: Action) {
        match action {
            Action::Open { stream, options, endpoint, fresh_token } => {
                let last = self.clients[client].last_members.get(&stream.stream()).copied();
                let avoid = last.filter(|_| endpoint == EndpointHint::Another);
                let member = self.clients[client].pick(avoid);
                self.clients[client].last_members.insert(stream.stream(), member);
                self.open_link(client, member, stream, options.require_leader, fresh_token);
            }
            Action::Send { stream, request, creates: _ } => match self.clients[client].links.get(&stream) {
                Some(&id) if self.links[id.0].is_live() => self.send(client, id, request),
                _ => self.broken(format!("{request:?} was sent on {stream:?}, which is not open")),
            },
            Action::Close { stream, reason } => {
                self.note(|| format!("client {client}: closes {stream:?}: {reason}"));
                let Some(id) = self.clients[client].links.remove(&stream) else {
                    self.broken(format!("{stream:?} was closed and is not there"));
                    return;
                };
                let is_members_fault = matches!(
                    reason,
                    StreamEnd::Misbehaved(_)
                        | StreamEnd::Unavailable { .. }
                        | StreamEnd::Lagging { .. }
                        | StreamEnd::Deaf { .. }
                );
                if is_members_fault {
                    let member = self.links[id.0].member;
                    self.clients[client].failed(member);
                }
                let is_excused = match reason {
                    StreamEnd::Misbehaved(ServerMisbehaved::Unresponsive { .. }) => self.was_silent(id),
                    StreamEnd::Misbehaved(_) => self.garbled.contains(&id),
                    _ => true,
                };
                if !is_excused {
                    self.broken(format!("a lawful server is said to have misbehaved: {reason}"));
                }
                self.count_loss();
                self.reset(id);
            }
            Action::Range { range, request, options: _, endpoint, fresh_token: _ } => {
                self.ask_for_revision(client, range, &request, endpoint);
            }
            Action::Deliver { watch } => match self.clients[client].owners.get(&watch) {
                Some(&Owner::Consumer(consumer)) => self.expect_consumer(consumer),
                Some(&Owner::Mirror(mirror)) => self.expect_mirror(mirror, self.now),
                None => self.broken(format!("{watch:?} has something and has ended")),
            },
            Action::Overflowed { .. } => self.counts.overflows += 1,
        }
    }

    fn send(&mut self, client: usize, id: LinkId, mut request: Request) {
        if self.planted(Planted::KeepsCancels) && matches!(request, Request::Cancel { .. }) {
            return;
        }
        if self.planted(Planted::ResumesAfterHeader)
            && let Request::Create(create) = &mut request
            && self.links[id.0].stream.connection() > 0
        {
            create.start_revision = create.start_revision.max(self.clients[client].last_header + 1);
        }
        self.note(|| format!("client {client}: sends {request:?}"));
        self.send_request(id, request);
    }

    /// A stream is lost or given up; those that nobody needs any more at the end don't count.
    fn count_loss(&mut self) {
        self.counts.reconnects += u64::from(!self.is_ending);
    }

    /// A stream has failed: the machine is told.
    pub(super) fn client_lost(&mut self, client: usize, member: usize, stream: StreamKey, failure: Failure) {
        self.count_loss();
        self.clients[client].links.remove(&stream);
        if matches!(remedy(&failure), Remedy::RetryElsewhere | Remedy::NoLeader) {
            self.clients[client].failed(member);
        }
        if self.planted(Planted::DropsQueued) || self.planted(Planted::HandsOutAgain) {
            self.mishandle_loss(client);
        }
        let now = self.machine_now();
        self.clients[client].watcher.handle_failed(now, stream, failure);
        self.settle(client);
    }

    /// What waits for consumers has a limit, for each and in all, and each may be over it by the response that crossed
    /// the line.
    pub(super) fn check_bounds(&mut self, client: usize) {
        let slack = 2 * self.largest_response + 1024;
        let state = &mut self.clients[client];
        let total = self.setup.buffer_bytes * 4 + slack * state.owners.len().max(1);
        let queued = state.watcher.stats().queued_bytes;
        if queued > total {
            self.broken(format!("client {client} holds {queued} bytes, {total} are allowed"));
            return;
        }
        // Each watch's own account now and then: it takes a walk over what waits.
        state.frames += 1;
        if state.frames.is_multiple_of(4) {
            let limit = self.setup.buffer_bytes + slack;
            let over = state.watcher.all_watch_stats().find(|(_, stats)| stats.queued_bytes > limit);
            if let Some((watch, stats)) = over {
                let queued = stats.queued_bytes;
                self.broken(format!("{watch:?} of client {client} holds {queued} bytes of {limit}"));
            }
        }
    }

    /// Takes one thing that a watch has.
    pub(super) fn take(&mut self, client: usize, watch: WatchKey) -> Option<Delivery> {
        let now = self.machine_now();
        let taken = self.clients[client].watcher.next(now, watch);
        if matches!(taken, Some(Delivery::Closed(_))) {
            self.clients[client].owners.remove(&watch);
        }
        self.settle(client);
        // There may be room now for what a stream was not read for.
        let waiting: Vec<LinkId> = self.clients[client].links.values().copied().collect();
        for id in waiting {
            self.client_reads(id);
        }
        taken
    }

    /// Time that a client's driver would take to look again.
    pub(super) fn soon(&self) -> Duration {
        self.now + Duration::from_micros(50)
    }
}
