//! A cluster, a proxy in front of each member, a client on each runtime, and a scenario's steps.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::{Duration, Instant},
};

use etcd_watch_client::{Client, Delete, Put, Txn};
use etcd_watch_proto::mvccpb::Event;
use etcd_watch_testkit::{
    harness::{EtcdCluster, EtcdServer, EtcdServerBuilder, EtcdVersion, wait_until},
    proxy::{Cut, FaultProxy},
};

use crate::{
    history,
    kinds::{self, DELETED, KEYS, Kind, key},
    observer::Observer,
    runtime::On,
    settings::{KEEPALIVE, Settings},
    writers::Writers,
};

/// For any one thing a scenario waits for: much longer than it takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// How much longer than on an idle machine something may take before that is a failure. Much: it is no measurement,
/// but tells what is noticed from what is found out when some long timeout ends.
pub(crate) const SLACK: Duration = Duration::from_secs(10);

/// How long it takes to notice that a connection is dead, at most.
pub(crate) const NOTICED: Duration = KEEPALIVE.interval.saturating_add(KEEPALIVE.timeout);

/// How long a call may take that is to succeed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long a stream of [`prober`] may be silent, and then take to answer: as long as a busy machine may need.
const PROBE: Duration = Duration::from_secs(1);
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long it takes to notice a member that hangs where streams are asked for a sign of life.
pub(crate) const NOTICED_BY_PROBE: Duration = PROBE.saturating_add(PROBE_TIMEOUT);

/// How many writes there are between two steps at least.
const ENOUGH: u64 = 12;

/// How often watches that want to know hear how far they are.
const PROGRESS: Duration = Duration::from_millis(500);

/// A cluster and all that is around it.
pub(crate) struct World {
    pub(crate) observers: Vec<Observer>,
    pub(crate) clients: Vec<(String, Client)>,
    pub(crate) cluster: EtcdCluster,
    /// Between the clients and each member.
    pub(crate) links: Vec<FaultProxy>,
    /// A client past the links.
    direct: Client,
    writers: Option<Writers>,
}

/// How long the watches of each client were away: the slowest counts, and is named.
pub(crate) struct Away(BTreeMap<String, (Duration, &'static str)>);

impl World {
    pub(crate) async fn start(version: EtcdVersion) -> Self {
        Self::start_with(version, |member| member).await
    }

    async fn start_with(
        version: EtcdVersion,
        change: impl Fn(EtcdServerBuilder) -> EtcdServerBuilder,
    ) -> Self {
        let cluster =
            EtcdCluster::builder(version).each(|member| change(member.progress_notify_interval(PROGRESS)));
        let cluster = cluster.start_async().await.expect("the cluster starts");
        let mut links = Vec::new();
        for member in cluster.members() {
            links.push(FaultProxy::start(member.endpoint()).await.expect("the proxy starts"));
        }
        let settings = Settings { request_timeout: PATIENCE, ..Settings::new(cluster.endpoints()) };
        let direct = settings.build(On::Tokio);
        let world =
            Self { observers: Vec::new(), clients: Vec::new(), cluster, links, direct, writers: None };
        // A past, for watches that begin there.
        for _ in 0..3 {
            world.mark(&world.all()).await;
        }
        world
    }

    /// A client on each runtime, by way of the links: the one on smol spreads its watches, the one on async-std asks
    /// quiet streams for a sign of life, and has no keepalive that would notice anything.
    pub(crate) fn add_clients(&mut self) {
        self.add_clients_with(|on, settings| match on {
            On::Tokio => settings,
            On::Smol => spread(settings),
            On::AsyncStd => prober(settings),
        });
    }

    pub(crate) fn add_clients_with(&mut self, change: impl Fn(On, Settings) -> Settings) {
        for on in On::ALL {
            let settings = change(on, Settings::new(self.link_endpoints()));
            self.add_client(on.name(), on, settings);
        }
    }

    pub(crate) fn add_client(&mut self, name: impl Into<String>, on: On, settings: Settings) {
        self.clients.push((name.into(), settings.build(on)));
    }

    pub(crate) fn client(&self, name: &str) -> &Client {
        let found = self.clients.iter().find(|(other, _)| other == name);
        &found.expect("there is such a client").1
    }

    /// Watches of these kinds, by every client.
    pub(crate) async fn watch_all(&mut self, kinds: impl Fn() -> Vec<Kind>) {
        let names: Vec<String> = self.clients.iter().map(|(name, _)| name.clone()).collect();
        for name in names {
            self.watch(&name, kinds()).await;
        }
    }

    /// Watches by one client; they run when this returns.
    pub(crate) async fn watch(&mut self, name: &str, kinds: Vec<Kind>) {
        let before = self.revision().await;
        let first = self.observers.len();
        for kind in kinds {
            let observer = Observer::open(name, self.client(name), kind);
            self.observers.push(observer);
        }
        let opened = &self.observers[first..];
        wait_until("the watches run", DEADLINE, || opened.iter().all(Observer::is_created)).await;
        let after = self.revision().await;
        for observer in opened {
            let from = observer.from();
            assert!(from == 1 || (before < from && from <= after + 1), "{observer}: from {from}");
        }
    }

    /// All of it: clients, dozens of watches by each, and writers.
    pub(crate) async fn busy(version: EtcdVersion) -> Self {
        Self::busy_with(version, |member| member).await
    }

    /// The same, of members that are changed so.
    pub(crate) async fn busy_with(
        version: EtcdVersion,
        change: impl Fn(EtcdServerBuilder) -> EtcdServerBuilder,
    ) -> Self {
        let mut world = Self::start_with(version, change).await;
        world.add_clients();
        world.watch_all(kinds::dozens).await;
        world.start_writers();
        world
    }

    pub(crate) fn start_writers(&mut self) {
        self.writers = Some(Writers::start(self.clients.iter().map(|(_, client)| client)));
    }

    pub(crate) async fn stop_writers(&mut self) {
        if let Some(writers) = self.writers.take() {
            assert!(writers.made() > 0, "something was written");
            println!("  {}", writers.stop().await);
        }
    }

    /// Where clients reach the members by way of the links.
    pub(crate) fn link_endpoints(&self) -> Vec<String> {
        self.links.iter().map(FaultProxy::endpoint).collect()
    }

    /// The numbers of all members.
    pub(crate) fn all(&self) -> Vec<usize> {
        (0..self.cluster.size()).collect()
    }

    /// A client past the links.
    pub(crate) fn direct(&self) -> &Client {
        &self.direct
    }

    /// The store's revision.
    pub(crate) async fn revision(&self) -> i64 {
        self.direct.get("any").await.expect("it is read").revision()
    }

    /// Writes something that every watch sees, by way of these members, which must be a majority; its revision.
    pub(crate) async fn mark(&self, up: &[usize]) -> i64 {
        // A write that a lost leader still got would make the step look slower than it was.
        self.cluster.wait_for_leader_among(up).await.expect("they have a leader");
        let endpoints = up.iter().map(|&number| self.cluster.member(number).endpoint());
        self.direct.set_endpoints(endpoints).expect("they are endpoints");
        let end = Instant::now() + DEADLINE;
        loop {
            if let Some(revision) = self.try_mark().await {
                return revision;
            }
            assert!(Instant::now() < end, "a majority is up, and yet nothing can be written");
        }
    }

    async fn try_mark(&self) -> Option<i64> {
        self.direct.put(DELETED, "to be deleted").await.ok()?;
        let txn = Txn::new().and_then(Delete::key(DELETED));
        let txn = (0..KEYS).fold(txn, |txn, index| txn.and_then(Put::new(key(index), "a mark")));
        Some(self.direct.txn(txn).await.ok()?.revision())
    }

    /// Makes a mark and waits until every watch has seen it; how long that took since the step began.
    pub(crate) async fn back(&self, what: impl Display, since: Instant, up: &[usize]) -> Away {
        self.back_of(what, since, up, |_| true).await
    }

    /// The same, for some of the watches.
    pub(crate) async fn back_of(
        &self,
        what: impl Display,
        since: Instant,
        up: &[usize],
        whose: impl Fn(&Observer) -> bool,
    ) -> Away {
        let mark = self.mark(up).await;
        let written = since.elapsed();
        let observers: Vec<&Observer> = self.observers.iter().filter(|observer| whose(observer)).collect();
        let away = self.seen(mark, since, &observers).await;
        let count = observers.len();
        println!("  {what}: mark made after {:.1} s, {count} watches had it after {away}", secs(written));
        if let Some(writers) = self.writers.as_ref().filter(|_| up.len() == self.cluster.size()) {
            // Those that a fault had stopped are to go on before the next one.
            let made = writers.made();
            wait_until("the clients write again", DEADLINE, || writers.made() >= made + ENOUGH).await;
        }
        away
    }

    async fn seen(&self, mark: i64, since: Instant, observers: &[&Observer]) -> Away {
        let end = Instant::now() + DEADLINE;
        while let Some(missing) = observers.iter().find(|observer| observer.reached(mark).is_none()) {
            assert!(missing.end().is_none() && missing.is_well(), "{missing}; the mark is at {mark}");
            if Instant::now() >= end {
                let missing = observers.iter().filter(|observer| observer.reached(mark).is_none());
                let missing: Vec<String> = missing.map(ToString::to_string).collect();
                panic!("the mark at {mark} was not seen by {missing:#?}");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut away: BTreeMap<String, (Duration, &'static str)> = BTreeMap::new();
        for observer in observers {
            let took =
                observer.reached(mark).map_or(Duration::ZERO, |at| at.saturating_duration_since(since));
            let slowest = away.entry(observer.client.clone()).or_default();
            *slowest = (took, observer.kind).max(*slowest);
        }
        Away(away)
    }

    /// Every change of the store so far.
    pub(crate) async fn history(&self) -> Vec<Event> {
        let revision = self.revision().await;
        let up = self.cluster.wait_for_leader().await.expect("there is a leader");
        history::read(self.cluster.member(up).endpoint(), revision).await
    }

    /// Compares what some of the watches have received so far with what they had to, and lets them go.
    pub(crate) async fn retire(&mut self, whose: impl Fn(&Observer) -> bool) {
        let (retired, stay) = std::mem::take(&mut self.observers).into_iter().partition(&whose);
        self.observers = stay;
        let retired: Vec<Observer> = retired;
        retired.iter().for_each(Observer::stop);
        let history = self.history().await;
        for observer in &retired {
            observer.check(&history, observer.last());
        }
    }

    /// The end of a scenario: no more writes but the last, which every watch sees, and everything received is what
    /// it had to be.
    pub(crate) async fn finish(mut self) {
        self.stop_writers().await;
        let mark = self.mark(&self.all()).await;
        let observers: Vec<&Observer> = self.observers.iter().collect();
        let away = self.seen(mark, Instant::now(), &observers).await;
        let history = self.history().await;
        for observer in &self.observers {
            observer.check(&history, mark);
        }
        println!("  the last mark had after {away}; {} events, all as they had to be", history.len());
        for (name, client) in &self.clients {
            let stats = client.stats();
            assert_eq!(stats.overtaken_events, 0, "{name}: no progress was believed that lied");
            println!(
                "  {name}: {} reconnects, {} moves, {} watches resumed, {} overflows, {} events",
                stats.reconnects, stats.moves, stats.recreates, stats.overflows, stats.events
            );
        }
    }

    /// Waits until a member holds so many watch streams.
    pub(crate) async fn streams_on(&self, member: usize, wanted: u64) {
        let what = format!("member {member} holds {wanted} watch streams");
        let member = self.cluster.member(member);
        wait_until(&what, DEADLINE, || member.watch_stream_count().is_ok_and(|count| count == wanted)).await;
    }

    /// Cuts the clients off from a member until the link is restored; they are told.
    pub(crate) fn unlink(&self, member: usize) {
        self.links[member].refuse();
        self.links[member].cut_all(Cut::Reset);
    }

    /// How many watch streams each member holds.
    pub(crate) fn streams(&self) -> Vec<u64> {
        let count = |member: &EtcdServer| member.watch_stream_count().expect("the member tells");
        self.cluster.members().map(count).collect()
    }
}

impl Away {
    pub(crate) fn of(&self, client: &str) -> Duration {
        self.0.get(client).expect("it has watches").0
    }

    pub(crate) fn longest(&self) -> Duration {
        self.0.values().copied().max().unwrap_or_default().0
    }
}

impl Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self
            .0
            .iter()
            .map(|(client, (took, slowest))| format!("{:.1} s ({client}: {slowest})", secs(*took)));
        write!(f, "{}", each.collect::<Vec<_>>().join(", "))
    }
}

/// With three streams, so that there is one on each member.
pub(crate) fn spread(settings: Settings) -> Settings {
    settings.config(|config| config.streams(3))
}

/// With a question to streams that are quiet, and nothing else that tells whether a connection is dead.
pub(crate) fn prober(settings: Settings) -> Settings {
    let settings = settings.config(|config| config.probe(Some(PROBE)).probe_timeout(PROBE_TIMEOUT));
    Settings { keepalive: None, ..settings }
}

pub(crate) fn secs(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
