//! A runtime of the tests' own, over tokio's.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use etcd_watch_client::{BoxFuture, Instant, Io, Peer, Runtime};
use etcd_watch_tokio::TokioRuntime;

/// tokio, with a resolver that the test controls, and a clock on which long waits are short.
#[derive(Clone, Debug)]
pub(crate) struct Wrapped {
    inner: TokioRuntime,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    addresses: Vec<SocketAddr>,
    resolved: usize,
    connected: Vec<SocketAddr>,
    longest_sleep: Duration,
    hurried: Option<(Duration, u32)>,
}

impl Wrapped {
    /// Every name has these addresses.
    pub(crate) fn resolving_to(addresses: &[SocketAddr]) -> Self {
        let inner = TokioRuntime::ambient().expect("called in a tokio test");
        let state = State { addresses: addresses.to_vec(), ..State::default() };
        Self { inner, state: Arc::new(Mutex::new(state)) }
    }

    /// Sleeps that are longer than `longer_than` take the `divisor`th part.
    pub(crate) fn hurry(self, longer_than: Duration, divisor: u32) -> Self {
        self.state.lock().expect("no panic").hurried = Some((longer_than, divisor));
        self
    }

    pub(crate) fn resolve_to(&self, addresses: &[SocketAddr]) {
        self.state.lock().expect("no panic").addresses = addresses.to_vec();
    }

    /// How often a name was resolved.
    pub(crate) fn resolved(&self) -> usize {
        self.state.lock().expect("no panic").resolved
    }

    /// What was connected to since this was asked last, in order.
    pub(crate) fn take_connected(&self) -> Vec<SocketAddr> {
        std::mem::take(&mut self.state.lock().expect("no panic").connected)
    }

    /// The longest sleep that was asked for.
    pub(crate) fn longest_sleep(&self) -> Duration {
        self.state.lock().expect("no panic").longest_sleep
    }
}

impl Runtime for Wrapped {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let mut state = self.state.lock().expect("no panic");
        state.resolved += 1;
        let addresses = state.addresses.clone();
        Box::pin(async move { Ok(addresses) })
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        if let Peer::Tcp(address) = &peer {
            self.state.lock().expect("no panic").connected.push(*address);
        }
        self.inner.connect(peer)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut state = self.state.lock().expect("no panic");
        state.longest_sleep = state.longest_sleep.max(duration);
        let hurried = state.hurried.filter(|(longer_than, _)| duration > *longer_than);
        self.inner.sleep(hurried.map_or(duration, |(_, divisor)| duration / divisor))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.inner.spawn(task);
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}
