//! The runtime that the clients of a scenario run on, chosen while the test runs.
//!
//! Sockets, timers and tasks of a client are its own runtime's. Scenarios, servers and the proxy are on tokio in
//! any case: handles and futures of a client may be polled anywhere.

#![allow(dead_code, reason = "each test crate uses some of it")]

use etcd_watch_client::ClientBuilder;

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

impl On {
    pub(crate) const ALL: [Self; 3] = [Self::Tokio, Self::Smol, Self::AsyncStd];

    /// The runtime's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
            Self::AsyncStd => "async-std",
        }
    }

    /// A client on it. Built on tokio in any case.
    pub(crate) fn builder(self) -> ClientBuilder {
        match self {
            Self::Tokio => etcd_watch_tokio::builder(),
            Self::Smol => etcd_watch_smol::builder(),
            Self::AsyncStd => etcd_watch_smol::async_std::builder(),
        }
    }
}
