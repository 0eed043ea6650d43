//! tokio, as the client sees it.

use std::{future::Future, time::Duration};

use etcd_watch_client::{
    AmbientRuntime, ConnectError, ConnectOptions, Connection, Endpoint, Instant, NoRuntime, Runtime,
};
use tokio::{runtime::Handle, task::JoinHandle};

use crate::connection;

/// A tokio runtime, with its I/O and time drivers enabled.
#[derive(Clone, Debug)]
pub struct TokioRuntime {
    handle: Handle,
    epoch: tokio::time::Instant,
}

impl TokioRuntime {
    /// The runtime of this handle.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle, epoch: tokio::time::Instant::now() }
    }

    /// Does what has to be done on the runtime.
    #[cfg(feature = "tonic-channel")]
    pub(crate) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _context = self.handle.enter();
        work()
    }
}

impl AmbientRuntime for TokioRuntime {
    fn ambient() -> Result<Self, NoRuntime> {
        Handle::try_current().map(Self::new).map_err(|_| NoRuntime { name: "tokio" })
    }
}

impl Runtime for TokioRuntime {
    type Transport = Connection;

    async fn connect(
        &self,
        endpoint: &Endpoint,
        options: &ConnectOptions,
    ) -> Result<Connection, ConnectError> {
        // In a task, so that it doesn't matter on which executor the caller is polled.
        let connecting = connection::connect(self.clone(), endpoint.clone(), options.clone());
        let mut task = AbortOnDrop(self.handle.spawn(connecting));
        (&mut task.0).await.map_err(ConnectError::new)?
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send {
        let _context = self.handle.enter();
        tokio::time::sleep(duration)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    fn now(&self) -> Instant {
        let nanos = self.epoch.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A dropped attempt to connect doesn't go on in the background.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
