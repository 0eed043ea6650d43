//! Servers that a scenario brings along.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use tokio::task::AbortHandle;

use super::core::{Core, lock, words};
use super::etcd::PORT;
use super::host::Host;
use super::link::Link;
use super::report::Cause;
use super::socket::{Connection, Socket};

/// On the network, the servers of a scenario come behind all members.
const FIRST: usize = 256;

type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server as the network knows it.
pub(super) struct ServerState {
    /// Where it is on the network.
    at: usize,
    serve: Box<dyn Fn(Socket) -> Serving + Send + Sync>,
    attempts: AtomicU64,
    serving: Mutex<Vec<AbortHandle>>,
}

impl ServerState {
    fn name(&self) -> String {
        name_at(self.at).unwrap_or_default()
    }
}

/// The server of that name, as a place on the network.
pub(super) fn server_named(core: &Core, name: &str) -> Option<usize> {
    lock(&core.servers).iter().find(|server| server.name() == name).map(|server| server.at)
}

/// The server at a place on the network.
pub(super) fn server_at(core: &Core, at: usize) -> Option<Arc<ServerState>> {
    at.checked_sub(FIRST).and_then(|index| lock(&core.servers).get(index).cloned())
}

/// A host opens a connection to a server.
pub(super) async fn connect(core: &Arc<Core>, host: &str, server: &Arc<ServerState>) -> io::Result<Socket> {
    server.attempts.fetch_add(1, Ordering::Relaxed);
    let link = Link::between(core, host, server.at);
    link.state().until_open().await;
    tokio::time::sleep(core.latency).await;
    if link.state().is_refusing() {
        core.note(host, format_args!("is refused by {}", server.name()));
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let id = core.next_connection();
    core.note(host, format_args!("connects to {}: #{id}", server.name()));
    let (ours, theirs) = Connection::open(core, link.state(), id);
    let mut serving = (server.serve)(theirs);
    let watched = core.clone();
    let task = core.handle.spawn(std::future::poll_fn(move |cx| {
        catch_unwind(AssertUnwindSafe(|| serving.as_mut().poll(cx))).unwrap_or_else(|panic| {
            watched.fail(Cause::Panic(words(&*panic)));
            Poll::Ready(())
        })
    }));
    let mut tasks = lock(&server.serving);
    tasks.retain(|task| !task.is_finished());
    tasks.push(task.abort_handle());
    Ok(ours)
}

/// A server that a scenario has brought along, see [`World::listen`](super::World::listen). Cheap to clone.
#[derive(Clone)]
pub struct Server {
    core: Arc<Core>,
    state: Arc<ServerState>,
}

impl Server {
    pub(super) fn new<F, S>(core: &Arc<Core>, serve: F) -> Self
    where
        F: Fn(Socket) -> S + Send + Sync + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let mut servers = lock(&core.servers);
        let state = Arc::new(ServerState {
            at: FIRST + servers.len(),
            serve: Box::new(move |socket| Box::pin(serve(socket))),
            attempts: AtomicU64::new(0),
            serving: Mutex::default(),
        });
        servers.push(state.clone());
        Self { core: core.clone(), state }
    }

    /// Where clients reach it: `http://server-0:2379` for the first of a run.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}:{PORT}", self.state.name())
    }

    /// How many connections hosts have tried to open to it so far, those that were refused too.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.state.attempts.load(Ordering::Relaxed)
    }

    /// The network between a host and it.
    #[must_use]
    pub fn link(&self, host: &Host) -> Link {
        Link::between(&self.core, host.name(), self.state.at)
    }

    /// Ends what serves its open connections, as a crash does. New ones are served as before.
    pub fn crash(&self) {
        self.core.fault(&self.state.name(), format_args!("crashes"));
        let tasks = std::mem::take(&mut *lock(&self.state.serving));
        tasks.iter().for_each(AbortHandle::abort);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("name", &self.state.name()).finish_non_exhaustive()
    }
}

impl fmt::Debug for ServerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerState").field("at", &self.at).finish_non_exhaustive()
    }
}

/// What the network calls a place.
pub(super) fn name_at(at: usize) -> Option<String> {
    at.checked_sub(FIRST).map(|index| format!("server-{index}"))
}
