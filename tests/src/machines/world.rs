//! The world: everything there is, and what happens in it, one thing after the other.

use std::collections::BTreeSet;
use std::time::Duration;

use etcd_watch_core::{Overflow, WatchState};
use fastrand::Rng;

use super::calls::Call;
use super::client::Client;
use super::cluster::Cluster;
use super::consumer::Consumer;
use super::mirror::Mirror;
use super::net::{Link, LinkId};
use super::plan::{Change, KEYS, Plan, Planted, Setup};
use super::report::Counts;
use super::schedule::{Schedule, Wake};

/// Once nothing fails any more, everybody has to be where the store is within this time.
const RECOVERY: Duration = Duration::from_secs(120);
/// A client listens to one watch after the other behind a proxy, to each for less than this time.
const TURN: Duration = Duration::from_secs(20);
/// Consumers that have to catch up don't take longer over a response than this.
const QUICK: Duration = Duration::from_millis(10);
/// Once nobody watches any more, nothing may be left of it after this time.
const FAREWELL: Duration = Duration::from_secs(90);
/// More than that can't lawfully happen in a run.
const TURNS: u64 = 3_000_000;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) schedule: Schedule,
    pub(super) setup: Setup,
    planted: Option<Planted>,
    pub(super) random: Rng,
    pub(super) cluster: Cluster,
    pub(super) clients: Vec<Client>,
    pub(super) links: Vec<Link>,
    pub(super) calls: Vec<Call>,
    pub(super) consumers: Vec<Consumer>,
    pub(super) mirrors: Vec<Mirror>,
    /// Until when nothing passes between each client and each member.
    pub(super) holes: Vec<Vec<Duration>>,
    /// Links on which something unlawful was sent.
    pub(super) garbled: BTreeSet<LinkId>,
    pub(super) restored_at: Duration,
    /// Until when clients may take the store for restored because of a member that was behind.
    pub(super) behind_until: Duration,
    pub(super) largest_response: usize,
    pub(super) is_ending: bool,
    pub(super) counts: Counts,
    /// What was broken first; then it ends.
    violation: Option<String>,
    transcript: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(plan: &Plan, with_transcript: bool) -> Self {
        let setup = plan.setup.clone();
        let mut random = Rng::with_seed(plan.seed);
        let clients = (0..setup.clients).map(|number| Client::new(&setup, number, random.u64(..))).collect();
        Self {
            now: Duration::from_millis(1),
            schedule: Schedule::default(),
            planted: plan.planted,
            cluster: Cluster::new(&setup, plan.seed),
            clients,
            links: Vec::new(),
            calls: Vec::new(),
            consumers: Vec::new(),
            mirrors: Vec::new(),
            holes: vec![vec![Duration::ZERO; setup.members]; setup.clients],
            garbled: BTreeSet::new(),
            restored_at: Duration::ZERO,
            behind_until: Duration::ZERO,
            largest_response: 0,
            is_ending: false,
            counts: Counts::default(),
            violation: None,
            transcript: with_transcript.then(Vec::new),
            random,
            setup,
        }
    }

    /// Randomness of its own, for something that begins.
    pub(super) fn fork(&mut self) -> Rng {
        self.random.fork()
    }

    pub(super) fn planted(&self, bug: Planted) -> bool {
        self.planted == Some(bug)
    }

    /// A line of the transcript, if there is one.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(transcript) = &mut self.transcript {
            let now = self.now.as_secs_f64();
            transcript.push(format!("{now:10.4} {}", line()));
        }
    }

    /// A promise was broken. The first is kept: the rest may follow from it.
    pub(super) fn broken(&mut self, what: String) {
        self.note(|| format!("!! {what}"));
        self.violation.get_or_insert(what);
    }

    pub(super) fn into_parts(self) -> (Counts, Option<String>, Vec<String>) {
        (self.counts, self.violation, self.transcript.unwrap_or_default())
    }

    /// From the first step to the last, and on until everything is over.
    pub(super) fn run(&mut self, plan: &Plan) {
        for (at, step) in &plan.steps {
            self.run_until(*at, |_| false);
            if self.violation.is_some() {
                return;
            }
            self.step(step.clone());
        }
        let end = plan.steps.last().map_or(self.now, |(at, _)| *at);
        self.run_until(end, |_| false);
        self.recover();
        self.counts.client_time = self.now * u32::try_from(self.clients.len()).unwrap_or(u32::MAX);
        self.part();
    }

    /// Lets everything happen that is due by then; ends early when `is_done`, or when something is broken.
    fn run_until(&mut self, until: Duration, is_done: impl Fn(&Self) -> bool) {
        while self.violation.is_none()
            && let Some(at) = self.schedule.next_at().filter(|at| *at <= until)
        {
            let Some((_, wake)) = self.schedule.pop() else { break };
            self.now = self.now.max(at);
            self.counts.turns += 1;
            if self.counts.turns > TURNS {
                self.broken(format!("no end of things to do: {wake:?}"));
            }
            self.wake(wake);
            if is_done(self) {
                return;
            }
        }
        self.now = self.now.max(until);
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Opened(id) => self.opened(id),
            Wake::Link(id) => self.link_turn(id),
            Wake::Keepalive(id) => self.keepalive(id),
            Wake::ServerGone(id) => self.server_gone(id),
            Wake::Client(client) => self.client_turn(client),
            Wake::Mirror(mirror) => self.mirror_turn(mirror),
            Wake::Consumer(consumer) => self.consumer_turn(consumer),
            Wake::Return(consumer) => self.come_back(consumer),
            Wake::Member(member) => self.member_turn(member),
            Wake::Apply(member) => self.member_applies(member),
            Wake::Start(member) => self.start(member),
            Wake::Leaderless(member) => self.leaderless(member),
            Wake::Call(call) => self.call_turn(call),
        }
    }

    /// A member does what is due by its own clock.
    fn member_turn(&mut self, member: usize) {
        let now = self.now;
        let state = &mut self.cluster.members[member];
        if state.turn.take(now) {
            if state.is_up && state.frozen_until <= now {
                state.etcd.handle_timeout(now);
            }
            self.pump_member(member);
        }
    }

    /// Nothing fails any more: everybody who can has to come to where the store is.
    fn recover(&mut self) {
        if self.violation.is_some() {
            return;
        }
        self.note(|| "* everything heals".to_owned());
        let now = self.now;
        self.holes.iter_mut().flatten().for_each(|until| *until = (*until).min(now));
        for member in 0..self.cluster.members.len() {
            let state = &mut self.cluster.members[member];
            state.frozen_until = now.min(state.frozen_until);
            state.isolated_until = now.min(state.isolated_until);
            state.lags_until = now.min(state.lags_until);
            self.start(member);
        }
        // One consumer never takes anything again; the others are not to notice.
        let is_harmless =
            |consumer: &Consumer| consumer.watch().is_some() && consumer.plan.overflow != Overflow::Pause;
        let harmless: Vec<usize> =
            (0..self.consumers.len()).filter(|number| is_harmless(&self.consumers[*number])).collect();
        let stalls_forever = self.fork().choice(harmless);
        for (number, consumer) in self.consumers.iter_mut().enumerate() {
            consumer.plan.pause = consumer.plan.pause.min(QUICK);
            consumer.stalled_until = if Some(number) == stalls_forever { Duration::MAX } else { now };
        }
        for consumer in 0..self.consumers.len() {
            if self.consumers[consumer].stalled_until < Duration::MAX {
                self.expect_consumer(consumer);
            }
        }
        for mirror in 0..self.mirrors.len() {
            self.hurry_mirror(mirror, QUICK);
        }
        let deadline = now + RECOVERY;
        self.run_until(deadline, |world| world.may_write());
        if self.violation.is_none() && !self.may_write() {
            self.broken("somebody was not told that their store is gone".to_owned());
        }
        // Every watch has something to come to.
        let puts: Vec<Change> = (0..KEYS.len()).map(|key| Change::Put { key, bytes: 1 }).collect();
        let deletes: Vec<Change> = (0..KEYS.len()).map(|key| Change::Delete { key }).collect();
        self.write(&puts);
        self.find_lost_watches(&puts);
        self.write(&deletes);
        let revision = self.cluster.revision();
        let deadline = self.now + RECOVERY;
        self.run_until(deadline, |world| {
            world.behind(revision).is_none() && world.mirror_behind(revision).is_none()
        });
        if self.violation.is_none()
            && let Some(who) = self.behind(revision).or_else(|| self.mirror_behind(revision))
        {
            self.broken(format!("{RECOVERY:?} after the last fault, {who}"));
        }
        let deadline = self.now + RECOVERY;
        self.run_until(deadline, |world| world.leak().is_none());
        if self.violation.is_none()
            && let Some(leak) = self.leak()
        {
            self.broken(leak);
        }
    }

    /// What a proxy has lost is noticed by a put that is still there when the store is asked.
    fn find_lost_watches(&mut self, puts: &[Change]) {
        if self.violation.is_some() || self.lost_watches() == 0 {
            return;
        }
        // Some watches begin a little later.
        (0..4).for_each(|_| self.write(puts));
        let watches: usize = self.clients.iter().map(|client| client.watcher.stats().watches).sum();
        let deadline = self.now + RECOVERY + TURN * u32::try_from(watches).unwrap_or(u32::MAX);
        self.run_until(deadline, |world| world.lost_watches() == 0);
        let lost = self.lost_watches();
        if self.violation.is_none() && lost > 0 {
            self.broken(format!("nobody notices that a proxy has lost {lost} watches"));
        }
    }

    /// While everything is well, members hold no watches but those that clients have, once cancels have arrived.
    fn leak(&self) -> Option<String> {
        self.clients.iter().enumerate().find_map(|(number, client)| {
            let on_member = |id: &LinkId| {
                let link = &self.links[id.0];
                let etcd = &self.cluster.members[link.member].etcd;
                // Over a half-open link nothing can be cancelled.
                link.model.filter(|_| !link.is_mute).map_or(0, |model| etcd.watch_ids(model).len())
            };
            let held: usize = client.links.values().map(on_member).sum();
            let is_on_server = |state| matches!(state, WatchState::Creating | WatchState::Active);
            let wanted =
                client.watcher.all_watch_stats().filter(|(_, stats)| is_on_server(stats.state)).count();
            (held > wanted)
                .then(|| format!("members hold {held} watches for client {number}, which has {wanted}"))
        })
    }

    /// Nobody watches any more: nothing may be left.
    fn part(&mut self) {
        if self.violation.is_some() {
            return;
        }
        self.note(|| "* everybody leaves".to_owned());
        self.is_ending = true;
        for consumer in 0..self.consumers.len() {
            self.consumers[consumer].stalled_until = Duration::ZERO;
            self.cancel_watch(consumer, None);
        }
        self.cancel_mirrors();
        let end = self.now + FAREWELL;
        self.run_until(end, |_| false);
        for member in 0..self.cluster.members.len() {
            let etcd = &self.cluster.members[member].etcd;
            let (watches, streams) = (etcd.watcher_count(), etcd.watch_streams().len());
            if (watches, streams) != (0, 0) {
                self.broken(format!("member {member} is left with {watches} watches on {streams} streams"));
            }
        }
        for client in 0..self.clients.len() {
            let stats = self.clients[client].watcher.stats();
            let state = &self.clients[client];
            let left =
                (stats.watches, stats.streams, stats.queued_bytes, state.links.len(), state.owners.len());
            if left != (0, 0, 0, 0, 0) {
                self.broken(format!(
                    "client {client} is left with {left:?} watches, streams, bytes, links, owners"
                ));
            }
            self.counts.absorb(&stats);
        }
    }
}

/// So that a plan can be read.
impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.setup)?;
        if let Some(planted) = self.planted {
            writeln!(f, "planted: {planted:?}")?;
        }
        for (at, step) in &self.steps {
            writeln!(f, "{:10.4} {step:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
