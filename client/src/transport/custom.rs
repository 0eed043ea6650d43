//! A connector that the application has given.

use std::{fmt, future::Future, io, sync::Arc};

use crate::{
    Endpoint, Runtime,
    runtime::{BoxFuture, Io, in_task},
};

type Connect = dyn Fn(Endpoint) -> BoxFuture<'static, io::Result<Box<dyn Io>>> + Send + Sync;

/// Connects to an endpoint in the application's own way.
#[derive(Clone)]
pub(crate) struct CustomConnector(Arc<Connect>);

impl CustomConnector {
    pub(crate) fn new<F, C, I>(connect: F) -> Self
    where
        F: Fn(Endpoint) -> C + Send + Sync + 'static,
        C: Future<Output = io::Result<I>> + Send + 'static,
        I: Io,
    {
        Self(Arc::new(move |endpoint| {
            let connecting = connect(endpoint);
            Box::pin(async move { Ok(Box::new(connecting.await?) as Box<dyn Io>) })
        }))
    }

    /// Connects, in a task of the runtime: sockets of tokio are only made on tokio.
    pub(super) async fn connect(
        &self,
        runtime: &Arc<dyn Runtime>,
        endpoint: Endpoint,
    ) -> io::Result<Box<dyn Io>> {
        let connect = self.0.clone();
        let connected = in_task(&**runtime, async move { connect(endpoint).await }).await;
        connected.unwrap_or_else(|| {
            Err(io::Error::other("the connector has panicked, or the runtime of this client has shut down"))
        })
    }
}

impl fmt::Debug for CustomConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomConnector(..)")
    }
}
