//! A runtime for unit tests of what needs none.

use std::{io, net::SocketAddr, time::Duration};

use etcd_watch_core::Instant;

use crate::{BoxFuture, Io, Peer, Runtime};

/// Nothing can be reached, and nothing is ever run.
#[derive(Clone, Debug)]
pub(crate) struct NoNetwork;

impl Runtime for NoNetwork {
    fn resolve(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        Box::pin(async { Err(io::Error::other("no network")) })
    }

    fn connect(&self, _: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        Box::pin(async { Err(io::Error::other("no network")) })
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}

/// As [`NoNetwork`], but every timer rings at once.
#[derive(Clone, Debug)]
pub(crate) struct NoTime;

impl Runtime for NoTime {
    fn resolve(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        NoNetwork.resolve(host, port)
    }

    fn connect(&self, peer: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
        NoNetwork.connect(peer)
    }

    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn spawn(&self, _: BoxFuture<'static, ()>) {}

    fn now(&self) -> Instant {
        Instant::ZERO
    }
}
