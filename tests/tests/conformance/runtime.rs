//! The runtime that the clients of a scenario run on, chosen while the test runs.
//!
//! Sockets, timers and tasks of a client are its own runtime's. Scenarios, servers and the proxy are on tokio in
//! any case: handles and futures of a client may be polled anywhere.

use etcd_watch_client::ClientBuilder;

/// Which runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

impl On {
    /// A client on it. Built on tokio in any case.
    pub(crate) fn builder(self) -> ClientBuilder {
        match self {
            Self::Tokio => etcd_watch_tokio::builder(),
            Self::Smol => etcd_watch_smol::builder(),
            Self::AsyncStd => etcd_watch_smol::async_std::builder(),
        }
    }
}
