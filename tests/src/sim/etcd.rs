//! The cluster of a simulated world.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use etcd_watch_proto::mvccpb::Event;
use tokio::task::AbortHandle;

use super::core::{Core, lock};
use super::fault::Fault;
use super::link::Link;
use super::socket::{Connection, Socket};
use crate::model::{HistoryEvent, ModelConfig, ModelError, ModelEtcd};
use crate::server::{EmbeddedEtcd, Orders, Users};

/// The port of every member.
pub(super) const PORT: u16 = 2379;

/// The host name of a member.
pub(super) fn name_of(member: usize) -> String {
    format!("etcd-{member}")
}

/// The cluster: members that can be reached, stopped, slowed down and cut off one by one. Cheap to clone.
///
/// What is written is committed to the store, and each member applies it in its own time: within the network's latency,
/// if nothing is wrong. A member answers a write when it has applied it, and a linearizable read when it has applied all
/// that was committed before. Serializable reads and watches have what the member has applied. Leases are the store's
/// own. Without a majority of its members the cluster has no leader: calls are refused and watch streams end.
#[derive(Clone)]
pub struct Etcd {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<Core>,
    /// What is committed.
    store: EmbeddedEtcd,
    /// What each member has applied of it.
    members: Vec<EmbeddedEtcd>,
    users: Users,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    members: Vec<Member>,
    /// How many faults have taken the leader away.
    leaderless: u32,
    leader: Option<usize>,
}

#[derive(Debug, Default)]
struct Member {
    /// How many faults have stopped it.
    stopped: u32,
    connections: BTreeMap<u64, Served>,
}

/// A connection as a member has it.
#[derive(Debug)]
struct Served {
    task: AbortHandle,
    orders: Arc<Orders>,
}

impl State {
    fn up(&self) -> usize {
        self.members.iter().filter(|member| member.stopped == 0).count()
    }

    /// The leader that nothing keeps the members from having: the same for as long as it can be.
    fn elected(&self) -> Option<usize> {
        if self.leaderless > 0 || self.up() * 2 <= self.members.len() {
            return None;
        }
        let is_up = |member: &usize| self.members[*member].stopped == 0;
        self.leader.filter(is_up).or_else(|| (0..self.members.len()).find(is_up))
    }
}

/// A copy of the store to go back to.
#[derive(Clone, Debug)]
pub struct Backup(ModelEtcd);

impl Etcd {
    /// In the runtime of the run.
    pub(super) fn new(core: &Arc<Core>, members: usize, config: ModelConfig, users: Users) -> Self {
        let client_urls = (0..members).map(url).collect();
        let config = ModelConfig { client_urls, ..config };
        let store = EmbeddedEtcd::unbound(ModelEtcd::new(config.clone()));
        store.set_users(users.clone());
        let follower = |member| store.follower(config_of(member, &config), core.latency, core.rng());
        let (servers, members) = (0..members).map(|member| (follower(member), Member::default())).unzip();
        let state = Mutex::new(State { members, leaderless: 0, leader: None });
        let etcd =
            Self { inner: Arc::new(Inner { core: core.clone(), store, members: servers, users, state }) };
        etcd.elect();
        etcd
    }

    /// How many members it has.
    #[must_use]
    pub fn members(&self) -> usize {
        self.inner.members.len()
    }

    /// The members' endpoints: `http://etcd-0:2379` and so on.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        (0..self.members()).map(url).collect()
    }

    pub(super) fn member_named(&self, host: &str) -> Option<usize> {
        (0..self.members()).find(|&member| name_of(member) == host)
    }

    /// A host opens a connection to a member.
    pub(super) async fn connect(&self, host: &str, member: usize) -> io::Result<Socket> {
        let core = &self.inner.core;
        let link = Link::between(core, host, member);
        link.state().until_open().await;
        tokio::time::sleep(core.latency).await;
        let is_up = |state: &State| state.members.get(member).is_some_and(|member| member.stopped == 0);
        if link.state().is_refusing() || !is_up(&lock(&self.inner.state)) {
            core.note(host, format_args!("is refused by {}", name_of(member)));
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let id = core.next_connection();
        core.note(host, format_args!("connects to {}: #{id}", name_of(member)));
        let (ours, theirs) = Connection::open(core, link.state(), id);
        self.serve(member, id, theirs);
        Ok(ours)
    }

    /// Serves a connection as a member does that applies everything at once, until it ends: for a
    /// [server](super::World::listen) that passes some of its connections on. No fault of one member hits it.
    pub fn serve_on(&self, socket: Socket) -> impl Future<Output = ()> + Send + use<> {
        self.inner.store.serve_by(socket, &Orders::of_member(0))
    }

    fn serve(&self, member: usize, id: u64, socket: Socket) {
        let orders = socket.take_orders(member);
        let serving = self.inner.members[member].serve_by(socket, &orders);
        let inner = Arc::downgrade(&self.inner);
        let mut state = lock(&self.inner.state);
        let task = self.inner.core.handle.spawn(async move {
            serving.await;
            if let Some(inner) = inner.upgrade() {
                lock(&inner.state).members[member].connections.remove(&id);
            }
        });
        state.members[member].connections.insert(id, Served { task: task.abort_handle(), orders });
    }

    /// Stops a member as a crash does: its connections end, new ones are refused. It starts again when the fault ends,
    /// with all that was committed meanwhile. If it was the last one, leases get their full time again then.
    ///
    /// # Panics
    /// There is no such member.
    pub fn stop(&self, member: usize) -> Fault {
        self.inner.core.fault(&name_of(member), format_args!("stops"));
        let mut state = lock(&self.inner.state);
        state.members[member].stopped += 1;
        let ended = std::mem::take(&mut state.members[member].connections);
        let none_is_up = state.up() == 0;
        drop(state);
        ended.values().for_each(|served| served.task.abort());
        self.inner.members[member].halt();
        if none_is_up {
            self.inner.store.halt();
        }
        self.elect();
        let etcd = self.clone();
        Fault::new(move || etcd.start(member))
    }

    fn start(&self, member: usize) {
        self.inner.core.note(&name_of(member), format_args!("starts"));
        let mut state = lock(&self.inner.state);
        let none_was_up = state.up() == 0;
        state.members[member].stopped -= 1;
        let is_up = state.members[member].stopped == 0;
        drop(state);
        if is_up {
            // They are in memory only.
            self.inner.store.forget_tokens(Some(member));
            if none_was_up {
                self.inner.store.resume();
            }
            self.inner.members[member].resume();
        }
        self.elect();
    }

    /// A member applies nothing until the fault ends, and then all at once, as one whose disk hangs. Writes and linearizable
    /// reads that it is asked for wait until then; writes are given up after 7 s, though they are done. Its watches are told
    /// nothing, and its serializable reads are old.
    ///
    /// # Panics
    /// There is no such member.
    pub fn lag(&self, member: usize) -> Fault {
        self.inner.core.fault(&name_of(member), format_args!("lags"));
        self.inner.members[member].set_lagging(true);
        let etcd = self.clone();
        Fault::new(move || {
            etcd.inner.core.note(&name_of(member), format_args!("goes on"));
            etcd.inner.members[member].set_lagging(false);
        })
    }

    /// Takes the leader away: watch streams end, and calls are refused until the fault ends.
    pub fn lose_leader(&self) -> Fault {
        self.inner.core.fault("etcd", format_args!("has no leader"));
        lock(&self.inner.state).leaderless += 1;
        self.elect();
        let etcd = self.clone();
        Fault::new(move || {
            etcd.inner.core.note("etcd", format_args!("may have a leader"));
            lock(&etcd.inner.state).leaderless -= 1;
            etcd.elect();
        })
    }

    /// Elects a leader if faults allow one. Every new leader begins a new term.
    fn elect(&self) {
        let Inner { state, store, members, .. } = &*self.inner;
        let mut state = lock(state);
        let leader = state.elected();
        let changed = std::mem::replace(&mut state.leader, leader) != leader;
        drop(state);
        if !changed {
            return;
        }
        if leader.is_some() {
            self.with_model(|model| model.config_mut().raft_term += 1);
        }
        let id = leader.map(|leader| members[leader].with_model(|model| model.config().member_id));
        members.iter().chain([store]).for_each(|server| server.set_leader(id));
    }

    /// Sends GOAWAY on the open connections of a member, as a server or a load balancer does before it goes: calls that
    /// are under way go on, new ones need another connection.
    ///
    /// # Panics
    /// There is no such member.
    pub fn drain(&self, member: usize) {
        self.inner.core.fault(&name_of(member), format_args!("sends GOAWAY"));
        for served in lock(&self.inner.state).members[member].connections.values() {
            served.orders.drain();
        }
    }

    /// Sends GOAWAY with an error code of HTTP/2's on the open connections of a member, and ends them, as a server does that
    /// finds a connection faulty.
    ///
    /// # Panics
    /// There is no such member.
    pub fn go_away(&self, member: usize, code: u32) {
        self.inner.core.fault(&name_of(member), format_args!("sends GOAWAY with code {code}"));
        for served in lock(&self.inner.state).members[member].connections.values() {
            served.orders.go_away(code);
        }
    }

    /// All tokens are unknown from now on, as after they have expired; nothing happens in a cluster without users.
    pub fn expire_tokens(&self) {
        self.forget_tokens(None);
    }

    /// How many tokens it has made.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.inner.store.logins()
    }

    /// A member forgets all tokens, or all members do.
    pub(super) fn forget_tokens(&self, member: Option<usize>) {
        let who = member.map_or_else(|| "etcd".to_owned(), name_of);
        self.inner.core.fault(&who, format_args!("forgets all tokens"));
        self.inner.store.forget_tokens(member);
    }

    /// The cluster's users.
    pub(super) fn users(&self) -> &Users {
        &self.inner.users
    }

    /// Forgets the history before a revision.
    ///
    /// # Errors
    /// It is compacted already, or in the future.
    pub fn compact(&self, revision: i64) -> Result<(), ModelError> {
        let request = CompactionRequest { revision, ..CompactionRequest::default() };
        self.with_model(|model| model.compact(&request))?;
        self.inner.core.fault("etcd", format_args!("compacts at {revision}"));
        Ok(())
    }

    /// A copy of the store as it is now.
    #[must_use]
    pub fn backup(&self) -> Backup {
        self.look(|model| Backup(model.clone()))
    }

    /// Stops all members and starts them with the store as it was: another cluster, by its id, whose revisions go on from
    /// the backup's. Leases get their full time again.
    pub async fn restore(&self, backup: &Backup) {
        let stopped: Vec<Fault> = (0..self.members()).map(|member| self.stop(member)).collect();
        let Inner { store, members, .. } = &*self.inner;
        while members.iter().chain([store]).any(EmbeddedEtcd::has_readers) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.with_model(|model| {
            let mut restored = backup.0.clone();
            restored.close_watch_streams();
            *restored.config_mut() = model.config().clone();
            restored.config_mut().cluster_id += 1;
            *model = restored;
        });
        members.iter().for_each(EmbeddedEtcd::copy_leader);
        self.inner.core.fault("etcd", format_args!("is restored at {}", self.revision()));
        drop(stopped);
    }

    /// Writes a key at the store itself, without a network; the revision.
    ///
    /// # Panics
    /// The store refuses it: an empty key, or too long a value.
    pub fn put(&self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> i64 {
        let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
        self.with_model(|model| model.put(&request).map(|_| model.revision())).expect("a put of this size")
    }

    /// Deletes a key at the store itself, without a network; the store's revision.
    ///
    /// # Panics
    /// The key is empty.
    pub fn delete(&self, key: impl Into<Bytes>) -> i64 {
        let request = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
        self.with_model(|model| model.delete_range(&request).map(|_| model.revision())).expect("a key")
    }

    /// The store's revision.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.look(|model| model.revision())
    }

    /// Every change of the store, compacted ones too, in order, with the pairs before: what
    /// [`checks`](crate::checks) compare with.
    #[must_use]
    pub fn history(&self) -> Vec<Event> {
        let told = |event: &Arc<HistoryEvent>| Event { prev_kv: event.prev.clone(), ..event.to_event() };
        self.look(|model| model.history().iter().map(told).collect())
    }

    /// Works on the store. What that changes reaches clients as if one of them had done it. A change of the
    /// [configuration](ModelEtcd::config_mut) applies to all members, except their names, ids and URLs.
    pub fn with_model<T>(&self, work: impl FnOnce(&mut ModelEtcd) -> T) -> T {
        let (result, changed) = self.inner.store.with_model(|model| {
            let before = model.config().clone();
            let result = work(model);
            (result, (*model.config() != before).then(|| model.config().clone()))
        });
        if let Some(config) = changed {
            for (server, member) in self.inner.members.iter().zip(0..) {
                server.with_model(|model| *model.config_mut() = config_of(member, &config));
            }
        }
        result
    }

    /// Looks at the store. [`with_model`](Self::with_model) costs more: it has to see whether the configuration was changed.
    pub fn look<T>(&self, look: impl FnOnce(&ModelEtcd) -> T) -> T {
        self.inner.store.with_model(|model| look(model))
    }

    /// Looks at what a member has applied.
    ///
    /// # Panics
    /// There is no such member.
    pub fn with_member<T>(&self, member: usize, look: impl FnOnce(&ModelEtcd) -> T) -> T {
        self.inner.members[member].with_model(|model| look(model))
    }
}

/// The store's configuration applies to all members, except their names, ids and URLs.
fn config_of(member: usize, store: &ModelConfig) -> ModelConfig {
    let member_id = store.member_id + member as u64;
    ModelConfig { member_id, name: name_of(member), client_urls: vec![url(member)], ..store.clone() }
}

fn url(member: usize) -> String {
    format!("http://{}:{PORT}", name_of(member))
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").finish_non_exhaustive()
    }
}
