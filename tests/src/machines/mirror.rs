//! A mirror: the real machine, a driver, and a consumer that folds what it gets and compares.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_core::{
    CloseReason, Delivery, EventKind, Instant, Mirror as Machine, MirrorAction, MirrorEvent, MirrorRequest,
    SnapshotPart, WatchKey, WatchResponse,
};

use super::client::Owner;
use super::consumer::DENIALS;
use super::plan::{MirrorPlan, Planted};
use super::schedule::{Turn, Wake};
use super::world::World;
use crate::checks::StateAt;

/// One mirror.
#[derive(Debug)]
pub(super) struct Mirror {
    pub(super) client: usize,
    plan: MirrorPlan,
    pub(super) machine: Machine,
    pub(super) watch: Option<WatchKey>,
    /// Each key with its revision and value.
    fold: BTreeMap<Bytes, (i64, Bytes)>,
    expected: StateAt,
    /// The store that the fold is of.
    epoch: usize,
    /// The store that answered a list's first page, and at what revision, until the consumer hears of the list.
    pub(super) listed: Option<(usize, i64)>,
    /// The member that brought the last page, in which store, while the connection to it lasts.
    pub(super) proven: Option<(usize, usize)>,
    /// The revision of the list that is not complete.
    listing: Option<i64>,
    announced: i64,
    /// How often tokens have expired since its watch was last created, that time included.
    pub(super) expiries: u64,
    /// The store that answered its last list, or that was there when it began.
    known_store: usize,
    /// Whether its last watch ended because the store seemed to be restored, rightly so.
    seemed_restored: bool,
    /// When it last looked for what its watch has, and found nothing.
    looked_at: Duration,
    /// When it began.
    begun: Duration,
    is_closed: bool,
    turn: Turn,
}

impl World {
    pub(super) fn open_mirror(&mut self, plan: MirrorPlan) {
        let request =
            MirrorRequest::new(plan.range.range()).page_bytes(plan.page_bytes).keep_index(plan.keep_index);
        let seed = self.fork().u64(..);
        let machine = Machine::new(&self.setup.config(), request, seed).expect("a lawful request");
        let mirror = self.mirrors.len();
        self.mirrors.push(Mirror {
            client: plan.client,
            plan,
            machine,
            watch: None,
            fold: BTreeMap::new(),
            expected: StateAt::new(),
            epoch: self.cluster.epoch(),
            listed: None,
            proven: None,
            listing: None,
            announced: 0,
            expiries: 0,
            known_store: self.cluster.epoch(),
            seemed_restored: false,
            looked_at: self.now,
            begun: self.now,
            is_closed: false,
            turn: Turn::default(),
        });
        self.counts.mirrors += 1;
        self.drive_mirror(mirror);
    }

    /// Does what its machine says, and sees to it that its turn comes.
    pub(super) fn drive_mirror(&mut self, mirror: usize) {
        let now = self.machine_now();
        let client = self.mirrors[mirror].client;
        while let Some(action) = self.mirrors[mirror].machine.poll_action() {
            self.note(|| format!("mirror {mirror}: {action:?}"));
            match action {
                MirrorAction::List { list, request } => self.ask_for_page(mirror, list, &request),
                MirrorAction::CloseList { list } => self.close_list(mirror, list),
                MirrorAction::Watch(request) => {
                    let watch = self.clients[client].watcher.watch(now, request).expect("a lawful request");
                    self.clients[client].owners.insert(watch, Owner::Mirror(mirror));
                    if self.mirrors[mirror].watch.replace(watch).is_some() {
                        self.broken(format!("mirror {mirror} opens a watch and has one"));
                    }
                    self.settle(client);
                }
                MirrorAction::Cancel => {
                    if let Some(watch) = self.mirrors[mirror].watch.take() {
                        // One that has ended by itself is as good.
                        let _ = self.clients[client].watcher.cancel(now, watch);
                        self.settle(client);
                        while self.take(client, watch).is_some() {}
                    }
                }
                MirrorAction::RequestProgress => {
                    if let Some(watch) = self.mirrors[mirror].watch {
                        let _ = self.clients[client].watcher.request_progress(now, watch);
                        self.settle(client);
                    }
                }
            }
        }
        self.expect_more(mirror);
    }

    /// Its turn comes when there is something for its consumer, or a timeout of its machine is due.
    fn expect_more(&mut self, mirror: usize) {
        let state = &self.mirrors[mirror];
        if state.machine.has_events() {
            let at = self.soon() + state.plan.pause;
            self.expect_mirror(mirror, at);
        } else if let Some(at) = state.machine.poll_timeout() {
            let at = at.since(Instant::ZERO).max(self.now);
            self.expect_mirror(mirror, at);
        }
    }

    /// Its consumer is not as slow any more.
    pub(super) fn hurry_mirror(&mut self, mirror: usize, pause: Duration) {
        let state = &mut self.mirrors[mirror];
        state.plan.pause = state.plan.pause.min(pause);
        let at = self.soon();
        self.expect_mirror(mirror, at);
    }

    pub(super) fn expect_mirror(&mut self, mirror: usize, at: Duration) {
        if self.mirrors[mirror].turn.ask(at) {
            self.schedule.at(at, Wake::Mirror(mirror));
        }
    }

    pub(super) fn mirror_turn(&mut self, mirror: usize) {
        if !self.mirrors[mirror].turn.take(self.now) {
            return;
        }
        let now = self.machine_now();
        self.mirrors[mirror].machine.handle_timeout(now);
        let mut is_left = true;
        while is_left {
            is_left = self.take_one(mirror);
            if is_left && !self.mirrors[mirror].plan.pause.is_zero() {
                let at = self.soon() + self.mirrors[mirror].plan.pause;
                self.expect_mirror(mirror, at);
                break;
            }
        }
        self.drive_mirror(mirror);
    }

    /// Its consumer takes an event, or, if there is none, its machine what the watch has. False if there is nothing.
    fn take_one(&mut self, mirror: usize) -> bool {
        let now = self.machine_now();
        if let Some(event) = self.mirrors[mirror].machine.next(now) {
            self.fold(mirror, event);
            return true;
        }
        let state = &self.mirrors[mirror];
        let Some(watch) = state.watch.filter(|_| state.machine.wants_delivery()) else { return false };
        let Some(delivery) = self.take(state.client, watch) else {
            self.mirrors[mirror].looked_at = self.now;
            return false;
        };
        if let Delivery::Closed(reason) = &delivery {
            // Judged now: the next list may take long to come, and the member that was behind is not by then.
            let is_regressed = matches!(reason, CloseReason::StoreRegressed { .. });
            let Mirror { known_store, looked_at, .. } = self.mirrors[mirror];
            let seemed_restored = is_regressed && self.may_have_seemed_restored(known_store, looked_at);
            let state = &mut self.mirrors[mirror];
            (state.watch, state.seemed_restored) = (None, seemed_restored);
        }
        self.mirrors[mirror].machine.handle_delivery(now, delivery);
        true
    }

    fn fold(&mut self, mirror: usize, event: MirrorEvent) {
        self.note(|| format!("mirror {mirror}: hands out {event:?}"));
        let keeps_deleted = self.planted(Planted::KeepsDeleted);
        let state = &mut self.mirrors[mirror];
        let synced = event.synced_revision();
        match event {
            MirrorEvent::Listing { revision, reason } => {
                if reason.is_other_store() {
                    self.counts.other_stores += 1;
                    state.announced = 0;
                }
                self.counts.lists += 1;
                let (listed, _) = state.listed.take().unwrap_or((state.epoch, revision));
                let known_store = std::mem::replace(&mut state.known_store, listed);
                let epoch = self.cluster.successor(listed, revision);
                if epoch != state.epoch {
                    (state.epoch, state.expected) = (epoch, StateAt::new());
                }
                state.listing = Some(revision);
                let announced = state.announced;
                let seemed_restored = std::mem::take(&mut state.seemed_restored);
                if revision < announced {
                    self.broken(format!("mirror {mirror} lists at {revision} after {announced}"));
                } else if reason.is_other_store() && !seemed_restored && !self.may_seem_restored(known_store)
                {
                    self.broken(format!("mirror {mirror} sees another store: {reason}"));
                }
            }
            MirrorEvent::Snapshot(part) => state.fold_part(part, keeps_deleted),
            MirrorEvent::Changes(response) => state.fold_changes(&response),
            MirrorEvent::Synced { .. } => state.listing = None,
            MirrorEvent::Closed(reason) => {
                state.is_closed = true;
                self.counts.watch_time += self.now - state.begun;
                let is_denied =
                    matches!(reason, CloseReason::PermissionDenied { .. }) && state.expiries >= DENIALS;
                if !self.is_ending && !is_denied {
                    self.broken(format!("mirror {mirror} had no reason to end: {reason}"));
                }
            }
            other => self.broken(format!("unheard of: {other:?}")),
        }
        if let Some(revision) = synced {
            self.compare_fold(mirror, revision);
        }
    }

    fn compare_fold(&mut self, mirror: usize, revision: i64) {
        let state = &mut self.mirrors[mirror];
        if revision < state.announced {
            let announced = state.announced;
            self.broken(format!("mirror {mirror} is at {revision} after {announced}"));
            return;
        }
        state.announced = revision;
        self.counts.folds += 1;
        let range = state.plan.range.range();
        let history = self.cluster.history(state.epoch);
        if history.last().is_none_or(|last| last.revision < revision) && revision > 1 {
            let epoch = state.epoch;
            self.broken(format!("mirror {mirror} is at {revision}, which store {epoch} never was"));
            return;
        }
        state.expected.advance(history, revision, |key| range.contains(key));
        let expected = state.expected.keys().iter().map(|(key, put)| (key, put.revision, &put.value));
        let differs = !expected.eq(state.fold.iter().map(|(key, (revision, value))| (key, *revision, value)));
        if differs {
            let keys = |keys: Vec<(&Bytes, i64)>| {
                keys.into_iter()
                    .map(|(key, at)| format!("{}@{at}", String::from_utf8_lossy(key)))
                    .collect::<Vec<_>>()
            };
            let has = keys(state.fold.iter().map(|(key, (at, _))| (key, *at)).collect());
            let wants = keys(state.expected.keys().iter().map(|(key, put)| (key, put.revision)).collect());
            self.broken(format!("mirror {mirror} at {revision} has {has:?}, the store {wants:?}"));
        }
    }

    /// The first mirror that has not come to the store's revision.
    pub(super) fn mirror_behind(&self, revision: i64) -> Option<String> {
        self.mirrors.iter().enumerate().find_map(|(number, mirror)| {
            let is_there = mirror.epoch == self.cluster.epoch() && mirror.announced >= revision;
            (!is_there && !mirror.is_closed).then(|| {
                let (announced, epoch) = (mirror.announced, mirror.epoch);
                format!("mirror {number} is at {announced} of store {epoch}, the store is at {revision}")
            })
        })
    }

    /// The store was restored: mirrors that had not seen more of it than is there still go on.
    pub(super) fn mirrors_follow(&mut self) {
        for mirror in 0..self.mirrors.len() {
            let state = &self.mirrors[mirror];
            let watch = state.watch.and_then(|watch| self.clients[state.client].watcher.watch_stats(watch));
            let watched = watch.map_or(0, |stats| stats.accepted_revision.max(stats.resume_revision - 1));
            let position = watched.max(state.announced).max(state.listing.unwrap_or(0));
            self.mirrors[mirror].epoch = self.cluster.successor(state.epoch, position);
        }
    }

    /// Whether some mirror has to notice that its store is gone, and has not yet.
    pub(super) fn mirrors_are_noticing(&self) -> bool {
        self.mirrors.iter().any(|mirror| {
            let listed = mirror.listed.map(|(epoch, revision)| self.cluster.successor(epoch, revision));
            let is_gone = |epoch| self.cluster.is_replaced_in_silence(epoch);
            !mirror.is_closed && (is_gone(mirror.epoch) || listed.is_some_and(is_gone))
        })
    }

    pub(super) fn cancel_mirrors(&mut self) {
        for mirror in 0..self.mirrors.len() {
            let now = self.machine_now();
            self.mirrors[mirror].machine.cancel(now);
            self.drive_mirror(mirror);
        }
    }
}

impl Mirror {
    fn fold_part(&mut self, part: SnapshotPart, keeps_deleted: bool) {
        let (after, through) = part.span();
        let bounds = (owned(after), owned(through));
        let known: Vec<Bytes> = self.fold.range(bounds).map(|(key, _)| key.clone()).collect();
        let gone: Vec<Bytes> = part.missing(known.iter()).cloned().collect();
        if !keeps_deleted {
            for key in gone.iter().chain(part.deletes()) {
                self.fold.remove(key);
            }
        }
        for kv in part.into_puts() {
            self.fold.insert(kv.key, (kv.mod_revision, kv.value));
        }
    }

    fn fold_changes(&mut self, response: &WatchResponse) {
        for event in response.events() {
            let kv = event.kv();
            match event.kind() {
                EventKind::Delete => drop(self.fold.remove(kv.key())),
                _ => drop(self.fold.insert(kv.key_bytes(), (kv.mod_revision(), kv.value_bytes()))),
            }
        }
    }
}

fn owned(bound: Bound<&[u8]>) -> Bound<Bytes> {
    bound.map(Bytes::copy_from_slice)
}
