//! What the steps of a plan do to the world.

use std::time::Duration;

use etcd_watch_core::{WatchKey, WatchState};

use super::cluster::Entry;
use super::net::{LinkId, no_leader};
use super::plan::{Change, Servers, Step};
use super::schedule::Wake;
use super::world::World;

/// A member that has lost its leader says so after an election timeout.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1500);
/// A member that is behind for so long may be taken for one that was restored: a little less than the deadline, which
/// a client begins to count when it asks.
const LONG_BEHIND: Duration = Duration::from_secs(8);
/// How long after that clients may still take the store for restored.
const SEEMS_RESTORED: Duration = Duration::from_secs(30);

impl World {
    pub(super) fn step(&mut self, step: Step) {
        self.note(|| format!("* {step:?}"));
        match step {
            Step::Write(changes) => self.write(&changes),
            Step::Compact { back } => {
                let revision = self.cluster.revision() - back;
                if revision > 0 && self.may_write() {
                    self.commit(Entry::Compact(revision));
                }
            }
            Step::Watch(plan) => self.open_watch(plan),
            Step::Mirror(plan) => self.open_mirror(plan),
            Step::Cancel { watch, back_after } => {
                if let Some(consumer) = self.pick_consumer(watch) {
                    self.cancel_watch(consumer, back_after);
                }
            }
            Step::RequestProgress { watch } => {
                if let Some(consumer) = self.pick_consumer(watch)
                    && let Some(key) = self.consumers[consumer].watch()
                {
                    let now = self.machine_now();
                    let client = self.consumers[consumer].plan.client;
                    let _ = self.clients[client].watcher.request_progress(now, key);
                    self.settle(client);
                }
            }
            Step::Stall { watch, lasts } => {
                if let Some(consumer) = self.pick_consumer(watch) {
                    self.count("stall");
                    self.consumers[consumer].stalled_until = self.now + lasts;
                }
            }
            Step::Cut { link } => self.on_link(link, "cut", Self::cut),
            Step::HalfOpen { link } => self.on_link(link, "half-open", Self::mute),
            Step::Garbage { link } => self.on_link(link, "garbage", |world, id| {
                world.garbled.insert(id);
                world.garble(id);
            }),
            Step::ServerCancel { link, watch } => {
                self.on_link(link, "server cancel", |world, id| world.cancel_on_server(id, watch));
            }
            Step::LoseWatch { link, watch } => {
                self.on_link(link, "watch lost by a proxy", |world, id| world.lose_watch(id, watch));
            }
            Step::Move { link } => self.on_link(link, "move", |world, id| {
                let (client, stream) = (world.links[id.0].client, world.links[id.0].stream);
                let now = world.machine_now();
                let _ = world.clients[client].watcher.move_stream(now, stream);
                world.settle(client);
            }),
            Step::BlackHole { client, member, lasts } => {
                self.count("black hole");
                self.holes[client][member] = self.holes[client][member].max(self.now + lasts);
                self.links_blocked(Some(client), member);
            }
            Step::Kill { member, lasts } => self.kill(member, lasts),
            Step::Freeze { member, lasts } => {
                self.count("freeze");
                let until = self.now + lasts;
                self.cluster.members[member].frozen_until = until;
                self.links_blocked(None, member);
                self.leaders_change();
                self.schedule.at(until, Wake::Apply(member));
            }
            Step::Isolate { member, lasts } => {
                self.count("isolate");
                let until = self.now + lasts;
                self.cluster.members[member].isolated_until = until;
                self.leaders_change();
                self.schedule.at(until, Wake::Apply(member));
            }
            Step::Lag { member, lasts } => {
                self.count("lag");
                let until = self.now + lasts;
                self.cluster.members[member].lags_until = until;
                self.schedule.at(until, Wake::Apply(member));
            }
            Step::Backup => self.cluster.backup = Some(self.cluster.truth.clone()),
            Step::Restore { new_cluster } => self.restore(new_cluster),
            Step::ExpireTokens => {
                if self.setup.auth {
                    self.tokens_expire();
                }
            }
        }
    }

    /// Whether a client may say that the store is another one than it was when the store was the `epoch`th: it is, or
    /// some member has been behind for so long that this is what it looks like.
    pub(super) fn may_seem_restored(&self, epoch: usize) -> bool {
        let is_behind = |member| self.is_long_behind(member);
        epoch < self.cluster.epoch()
            || self.now < self.behind_until
            || (0..self.cluster.members.len()).any(is_behind)
    }

    /// Whether one may have said so at some time since `since`: an end is as old as what waits before it, if its consumer
    /// is slow.
    pub(super) fn may_have_seemed_restored(&self, epoch: usize, since: Duration) -> bool {
        since < self.behind_until || self.may_seem_restored(epoch)
    }

    fn is_long_behind(&self, member: usize) -> bool {
        let oldest = self.cluster.members[member].arriving.front();
        oldest.is_some_and(|at| *at + LONG_BEHIND <= self.now)
    }

    /// For each watch, how often tokens have expired since it was last known to be created, this time included.
    fn tokens_expire(&mut self) {
        self.count("tokens expire");
        self.cluster.tokens_from += 1;
        let clients = &self.clients;
        let expires = |client: usize, watch: Option<WatchKey>, expiries: &mut u64| {
            let stats = watch.and_then(|watch| clients[client].watcher.watch_stats(watch));
            let is_created = stats.is_some_and(|stats| stats.state == WatchState::Active);
            *expiries = if is_created { 1 } else { *expiries + 1 };
        };
        for consumer in &mut self.consumers {
            expires(consumer.plan.client, consumer.watch(), &mut consumer.expiries);
        }
        for mirror in &mut self.mirrors {
            expires(mirror.client, mirror.watch, &mut mirror.expiries);
        }
    }

    pub(super) fn count(&mut self, fault: &'static str) {
        *self.counts.faults.entry(fault).or_default() += 1;
    }

    fn pick_consumer(&self, which: usize) -> Option<usize> {
        let watching =
            || (0..self.consumers.len()).filter(|&consumer| self.consumers[consumer].watch().is_some());
        let count = watching().count();
        if count == 0 { None } else { watching().nth(which % count) }
    }

    fn on_link(&mut self, which: usize, fault: &'static str, act: impl FnOnce(&mut Self, LinkId)) {
        let links = self.live_links();
        if !links.is_empty() {
            self.count(fault);
            act(self, links[which % links.len()]);
        }
    }

    /// Whether a write would be agreed on, and wouldn't hide from a client that its store is gone.
    pub(super) fn may_write(&self) -> bool {
        self.cluster.has_majority(self.now) && !self.is_noticing()
    }

    /// Whether someone still has to notice a restore, which they can only while the store is behind what they know.
    pub(super) fn is_noticing(&self) -> bool {
        self.cluster.epoch() > 0
            && (self.now < self.restored_at + Duration::from_millis(300)
                || self.consumers_are_noticing()
                || self.mirrors_are_noticing())
    }

    pub(super) fn write(&mut self, changes: &[Change]) {
        if self.may_write() {
            self.counts.writes += 1;
            let txn = self.cluster.transaction(changes);
            self.commit(Entry::Write(txn.into()));
        }
    }

    fn commit(&mut self, entry: Entry) {
        if !self.cluster.commit(entry) {
            return;
        }
        for member in 0..self.cluster.members.len() {
            let delay = Duration::from_micros(self.random.u64(0..3_000));
            let state = &mut self.cluster.members[member];
            let at = state.arriving.back().map_or(self.now + delay, |last| (self.now + delay).max(*last));
            state.arriving.push_back(at);
            self.schedule.at(at, Wake::Apply(member));
        }
    }

    /// A member applies what has come, if it can.
    pub(super) fn member_applies(&mut self, member: usize) {
        let state = &self.cluster.members[member];
        let held_until = state.frozen_until.max(state.isolated_until).max(state.lags_until);
        if !state.is_up || held_until > self.now {
            return;
        }
        if self.is_long_behind(member) {
            self.behind_until = self.now + SEEMS_RESTORED;
        }
        self.cluster.apply(member, self.now);
        self.pump_all_links(member);
        self.pump_member(member);
    }

    fn kill(&mut self, member: usize, lasts: Duration) {
        if !self.cluster.members[member].is_up {
            return;
        }
        self.count("kill");
        self.cluster.members[member].is_up = false;
        self.break_streams(member);
        self.schedule.at(self.now + lasts, Wake::Start(member));
        self.leaders_change();
    }

    fn break_streams(&mut self, member: usize) {
        let streams: Vec<LinkId> = self.cluster.members[member].streams.values().copied().collect();
        for id in streams {
            self.cut(id);
        }
        let now = self.now;
        self.cluster.members[member].etcd.restart(now);
    }

    pub(super) fn start(&mut self, member: usize) {
        self.cluster.members[member].is_up = true;
        self.member_applies(member);
    }

    fn leaders_change(&mut self) {
        for member in 0..self.cluster.members.len() {
            self.schedule.at(self.now + ELECTION_TIMEOUT, Wake::Leaderless(member));
        }
    }

    /// A member without a leader ends the streams that want one.
    pub(super) fn leaderless(&mut self, member: usize) {
        let state = &self.cluster.members[member];
        if !state.is_up || state.frozen_until > self.now || self.cluster.has_leader(member, self.now) {
            return;
        }
        let streams: Vec<LinkId> = state.streams.values().copied().collect();
        for id in streams {
            if self.links[id.0].require_leader {
                self.end_by_server(id, no_leader());
            }
        }
    }

    fn cancel_on_server(&mut self, id: LinkId, watch: usize) {
        let link = &self.links[id.0];
        let (Some(model), member) = (link.model, link.member) else { return };
        let ids = self.cluster.members[member].etcd.watch_ids(model);
        if ids.is_empty() {
            return;
        }
        let client = link.client;
        // Whose it is only the client knows: all of its consumers may have to do with it. As in etcd, what is
        // still on its way for it goes out without previous pairs.
        let revision = self.cluster.revision();
        for consumer in self.consumers.iter_mut().filter(|consumer| consumer.plan.client == client) {
            consumer.server_cancels += 1;
            if let Some(checker) = &mut consumer.checker {
                checker.compacted(revision + 1);
            }
        }
        self.cluster.members[member].etcd.cancel_watch(model, ids[watch % ids.len()], "");
        self.pump_member(member);
    }

    /// Not one that leaves puts out: a client can't notice that.
    fn lose_watch(&mut self, id: LinkId, watch: usize) {
        let (Some(model), member) = (self.links[id.0].model, self.links[id.0].member) else { return };
        let etcd = &mut self.cluster.members[member].etcd;
        let mut ids = etcd.watch_ids(model);
        ids.retain(|&id| etcd.sees_puts(model, id));
        if !ids.is_empty() {
            etcd.lose_watch(model, ids[watch % ids.len()]);
        }
    }

    /// How many of the clients' watches a proxy has lost.
    pub(super) fn lost_watches(&self) -> usize {
        let lost = |id: LinkId| {
            let link = &self.links[id.0];
            link.model.map_or(0, |model| self.cluster.members[link.member].etcd.lost_watches(model))
        };
        self.live_links().into_iter().map(lost).sum()
    }

    fn restore(&mut self, new_cluster: bool) {
        // One at a time: a restore that hides another can't be noticed.
        if self.is_noticing() {
            return;
        }
        // A proxy makes up the headers of its `Created` replies: behind one, nothing tells before the next event.
        if self.setup.servers == Servers::Proxy || !self.cluster.restore(new_cluster) {
            return;
        }
        self.count(if new_cluster { "restore as another cluster" } else { "restore" });
        self.restored_at = self.now;
        // What was under way is lost with the store: which of the two it is of would be anybody's guess.
        for id in self.live_links() {
            self.drop_under_way(id);
        }
        for member in 0..self.cluster.members.len() {
            self.break_streams(member);
            self.cluster.members[member].streams.clear();
        }
        self.consumers_follow();
        self.mirrors_follow();
    }
}
