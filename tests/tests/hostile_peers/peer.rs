//! The peer of a world, and how cases are run against it.

use std::cell::Cell;
use std::env;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_watch_client::{BoxError, Client, ClientBuilder};
use etcd_watch_testkit::sim::{Etcd, Server, Sim, Socket, World};

use crate::figures::{Bounds, Figures};
use crate::grpc::{Call, serve};
use crate::{ALLOCATOR, grpc, log};

/// For so long the peer is hostile, and so long the client may take to come right.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the peer does with a connection.
pub(crate) type Script = Arc<dyn Fn(Socket) -> Serving + Send + Sync>;

/// A script of an async function. How that ends tells nothing: the client may go at any time.
pub(crate) fn script<F, S>(serve: F) -> Script
where
    F: Fn(Socket) -> S + Send + Sync + 'static,
    S: Future + Send + 'static,
{
    Arc::new(move |socket| {
        let serving = serve(socket);
        Box::pin(async move {
            let _gone = serving.await;
        })
    })
}

/// A script that answers each call with a copy of the same state.
pub(crate) fn answered<T, F>(state: T, answer: fn(Call, T) -> F) -> Script
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    script(move |socket| {
        let state = state.clone();
        serve(socket, move |call| answer(call, state.clone()))
    })
}

/// A server that does as scripted, until a lawful member takes its place.
pub(crate) struct Peer {
    server: Server,
    is_lawful: Arc<AtomicBool>,
    /// Bytes in use before the run.
    before: usize,
    figures: Cell<Option<Figures>>,
}

impl Peer {
    fn listen(world: &World, hostile: Script, lawful: Script, before: usize) -> Self {
        let is_lawful = Arc::new(AtomicBool::new(false));
        let has_given_way = is_lawful.clone();
        let server = world.listen(move |socket| {
            if has_given_way.load(Ordering::Acquire) { lawful(socket) } else { hostile(socket) }
        });
        Self { server, is_lawful, before, figures: Cell::new(None) }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// A lawful member takes its place. What the client has taken until now is held against the case's bounds.
    pub(crate) fn give_way(&self) {
        self.measure();
        self.is_lawful.store(true, Ordering::Release);
        self.server.crash();
    }

    /// What the client has taken until now, unless that was measured before.
    fn measure(&self) -> Figures {
        let figures = self.figures.get().unwrap_or_else(|| Figures {
            attempts: self.server.attempts(),
            calls: grpc::calls(),
            lines: log::lines(),
            polls: 0,
            bytes: ALLOCATOR.peak_usage().saturating_sub(self.before),
        });
        self.figures.set(Some(figures));
        figures
    }
}

/// A peer that is no lawful etcd, and what a client is to make of it.
pub(crate) trait Scenario {
    fn name(&self) -> &str;

    fn bounds(&self) -> Bounds;

    /// The cluster beside the peer.
    fn sim(&self) -> Sim {
        Sim::new().members(1)
    }

    /// Puts into the lawful store what the case needs.
    fn fill(&self, _etcd: &Etcd) {}

    /// What the peer does.
    fn script(&self, world: &World) -> Script;

    /// What a lawful member does.
    fn lawful(&self, world: &World) -> Script {
        let etcd = world.etcd().clone();
        script(move |socket| etcd.serve_on(socket))
    }

    /// Sets the client up.
    fn build(&self, builder: ClientBuilder) -> ClientBuilder {
        builder
    }

    /// Uses a client that knows the peer alone.
    async fn alone(&self, world: &World, peer: &Peer, client: Client) -> Result<(), BoxError>;

    /// Whether the case is run beside a lawful member, too.
    fn has_beside(&self) -> bool {
        true
    }

    /// Uses a client that knows the peer, and behind it a lawful member.
    async fn beside(&self, _world: &World, _client: Client) -> Result<(), BoxError> {
        Ok(())
    }
}

/// Memory is counted for the process: one test runs at a time.
pub(crate) fn alone_in_process() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs all cases of a table, which is made when no other test runs.
pub(crate) fn run_all<S: Scenario>(table: impl FnOnce() -> Vec<S>) {
    let _running = alone_in_process();
    let table = table();
    let only = env::var("HOSTILE_PEERS_ONLY").unwrap_or_default();
    let prints = env::var_os("HOSTILE_PEERS_FIGURES").is_some();
    let mut failures = Vec::new();
    let mut most = Figures::default();
    let mut count = 0;
    // A case that runs alone has the seed that it has among all.
    for (seed, case) in (1..).zip(&table).filter(|(_, case)| case.name().contains(&only)) {
        count += 1;
        let figures = alone(case, seed).unwrap_or_else(|failure| {
            failures.push(failure);
            Figures::default()
        });
        if prints {
            println!("{}: {figures}", case.name());
        }
        most = most.most(&figures);
        if case.has_beside()
            && let Err(failure) = beside(case, seed)
        {
            failures.push(failure);
        }
    }
    println!("{count} of {} cases; at most {most} in a minute", table.len());
    assert!(failures.is_empty(), "{} runs failed:\n{}", failures.len(), failures.join("\n"));
}

fn alone(case: &impl Scenario, seed: u64) -> Result<Figures, String> {
    let mut figures = Figures::default();
    let found = &mut figures;
    begin();
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let report = case.sim().run(seed, |world| async move {
        case.fill(world.etcd());
        let peer = Peer::listen(&world, case.script(&world), case.lawful(&world), before);
        let client = case.build(world.client().endpoints([peer.endpoint()])).connect_lazy()?;
        let result = case.alone(&world, &peer, client).await;
        *found = peer.measure();
        result
    });
    let report = report.map_err(|failure| format!("{}, alone: {failure}", case.name()))?;
    figures.polls = report.counts.polls;
    match figures.over(&case.bounds())[..] {
        [] => Ok(figures),
        ref over => Err(format!("{}, alone: over its bounds in {over:?}: {figures}", case.name())),
    }
}

fn beside(case: &impl Scenario, seed: u64) -> Result<(), String> {
    begin();
    let report = case.sim().run(seed, |world| async move {
        case.fill(world.etcd());
        let (hostile, lawful) = (case.script(&world), case.lawful(&world));
        let peer = world.listen(move |socket| hostile(socket));
        let member = world.listen(move |socket| lawful(socket));
        let endpoints = [peer.endpoint(), member.endpoint()];
        let client = case.build(world.client().endpoints(endpoints)).connect_lazy()?;
        case.beside(&world, client).await
    });
    report.map(|_| ()).map_err(|failure| format!("{}, beside a member: {failure}", case.name()))
}

/// Counts from zero.
fn begin() {
    log::begin();
    grpc::begin();
}
