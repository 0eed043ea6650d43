//! The runtime that the clients of a scenario run on, chosen while the test runs: so that scenarios needn't be
//! generic.
//!
//! Sockets, timers and tasks of a client are its own runtime's. Scenarios, servers and the proxy are on tokio in
//! any case: handles and futures of a client may be polled anywhere.

use std::time::Duration;

use etcd_watch_client::{
    AmbientRuntime, ConnectError, ConnectOptions, Connection, Endpoint, Instant, Runtime,
};
use etcd_watch_smol::{SmolRuntime, async_std::AsyncStdRuntime};
use etcd_watch_tokio::TokioRuntime;

pub(crate) type Client = etcd_watch_client::Client<AnyRuntime>;
pub(crate) type ClientBuilder = etcd_watch_client::ClientBuilder<AnyRuntime>;

/// Which runtime.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On {
    Tokio,
    Smol,
    AsyncStd,
}

/// One of the runtimes there are.
#[derive(Clone, Debug)]
pub(crate) enum AnyRuntime {
    Tokio(TokioRuntime),
    Smol(SmolRuntime),
    AsyncStd(AsyncStdRuntime),
}

impl AnyRuntime {
    /// Called on tokio.
    pub(crate) fn new(on: On) -> Self {
        match on {
            On::Tokio => Self::Tokio(TokioRuntime::ambient().expect("scenarios are on tokio")),
            On::Smol => Self::Smol(SmolRuntime::new()),
            On::AsyncStd => Self::AsyncStd(AsyncStdRuntime::new()),
        }
    }
}

impl Runtime for AnyRuntime {
    type Transport = Connection;

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        match self {
            Self::Tokio(runtime) => runtime.connect(endpoint, options).await,
            Self::Smol(runtime) => runtime.connect(endpoint, options).await,
            Self::AsyncStd(runtime) => runtime.connect(endpoint, options).await,
        }
    }

    async fn sleep(&self, duration: Duration) {
        match self {
            Self::Tokio(runtime) => runtime.sleep(duration).await,
            Self::Smol(runtime) => runtime.sleep(duration).await,
            Self::AsyncStd(runtime) => runtime.sleep(duration).await,
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        match self {
            Self::Tokio(runtime) => runtime.spawn(task),
            Self::Smol(runtime) => runtime.spawn(task),
            Self::AsyncStd(runtime) => runtime.spawn(task),
        }
    }

    fn now(&self) -> Instant {
        match self {
            Self::Tokio(runtime) => runtime.now(),
            Self::Smol(runtime) => runtime.now(),
            Self::AsyncStd(runtime) => runtime.now(),
        }
    }
}
