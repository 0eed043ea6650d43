//! The client's runtime in virtual time.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd_watch_client::{BoxFuture, Instant, Io, Peer, Runtime};
use hyper_util::rt::TokioIo;

use super::core::Core;
use super::etcd::{Etcd, PORT};
use super::gate::Gate;
use super::host::{HostState, Presence};
use super::server;

/// A [`Runtime`] in virtual time: the tasks, timers and clocks of one process on one [`Host`](super::Host), and the
/// simulated network. Once the process is killed, or the run has ended, it is a runtime that has shut down.
#[derive(Clone)]
pub struct SimRuntime {
    core: Arc<Core>,
    host: Arc<HostState>,
    etcd: Etcd,
    life: u64,
    /// Counts the time of the client that has this runtime.
    _presence: Option<Arc<Presence>>,
}

impl SimRuntime {
    pub(super) fn new(core: Arc<Core>, host: Arc<HostState>, etcd: Etcd) -> Self {
        let life = host.life();
        Self { core, host, etcd, life, _presence: None }
    }

    /// That of a client.
    pub(super) fn of_client(self, presence: Presence) -> Self {
        Self { _presence: Some(Arc::new(presence)), ..self }
    }

    fn is_gone(&self) -> bool {
        self.core.is_over() || self.host.life() != self.life
    }
}

impl Runtime for SimRuntime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let place = self.etcd.member_named(&host).or_else(|| server::server_named(&self.core, &host));
        Box::pin(async move {
            let place = place.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?;
            Ok(vec![address(place, port)])
        })
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        let Peer::Tcp(address) = peer else {
            return Box::pin(async { Err(io::ErrorKind::Unsupported.into()) });
        };
        let Some(place) = place_at(address).filter(|_| !self.is_gone()) else {
            return Box::pin(async { Err(io::ErrorKind::NetworkUnreachable.into()) });
        };
        let (etcd, core, host) = (self.etcd.clone(), self.core.clone(), self.host.name.clone());
        Box::pin(async move {
            let socket = match server::server_at(&core, place) {
                Some(server) => server::connect(&core, &host, &server).await?,
                None => etcd.connect(&host, place).await?,
            };
            Ok(Box::new(TokioIo::new(socket)) as Box<dyn Io>)
        })
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(Sleep::new(self.core.clone(), self.host.clone(), self.life, duration))
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        if !self.is_gone() {
            self.core.handle.spawn(Gate::new(self.core.clone(), self.host.clone(), self.life, task));
        }
    }

    fn now(&self) -> Instant {
        Instant::ZERO + self.host.clock(self.core.now())
    }

    fn boot_time(&self) -> Instant {
        Instant::ZERO + self.core.now()
    }
}

impl fmt::Debug for SimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimRuntime").field("host", &self.host.name).finish_non_exhaustive()
    }
}

/// The first address. Those of members are 10.0.0.1, 10.0.0.2, ..., those of a scenario's servers 10.0.1.1, ...
const FIRST_ADDRESS: u32 = u32::from_be_bytes([10, 0, 0, 1]);

fn address(place: usize, port: u16) -> SocketAddr {
    let behind = u32::try_from(place).unwrap_or(u32::MAX);
    SocketAddr::from((Ipv4Addr::from_bits(FIRST_ADDRESS.saturating_add(behind)), port))
}

fn place_at(address: SocketAddr) -> Option<usize> {
    match address.ip() {
        IpAddr::V4(ip) if address.port() == PORT => {
            ip.to_bits().checked_sub(FIRST_ADDRESS).and_then(|behind| usize::try_from(behind).ok())
        }
        _ => None,
    }
}

/// A timer by a host's monotonic clock.
pub(super) struct Sleep {
    core: Arc<Core>,
    host: Arc<HostState>,
    life: u64,
    /// By the host's clock.
    due: Duration,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Sleep {
    pub(super) fn new(core: Arc<Core>, host: Arc<HostState>, life: u64, time: Duration) -> Self {
        let due = if core.is_over() { Duration::ZERO } else { host.clock(core.now()).saturating_add(time) };
        Self { core, host, life, due, timer: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let now = this.core.now();
            let clock = if this.core.is_over() { None } else { this.host.clock_of(this.life, now) };
            let left = clock.map_or(Duration::ZERO, |clock| this.due.saturating_sub(clock));
            if left.is_zero() {
                return Poll::Ready(());
            }
            // Some years: tokio's longest timer is of about two.
            let deadline = this.core.at(now.saturating_add(left.min(Duration::from_secs(365 * 86_400))));
            let timer = match &mut this.timer {
                Some(timer) => {
                    if timer.deadline() != deadline {
                        timer.as_mut().reset(deadline);
                    }
                    timer
                }
                None => this.timer.insert(Box::pin(tokio::time::sleep_until(deadline))),
            };
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It may have rung while the host was suspended.
        }
    }
}
