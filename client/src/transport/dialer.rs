//! Making connections.

use std::{io, sync::Arc, time::Duration};

use etcd_watch_core::{Config, Failure};

use super::{
    connection::Connection, error::ConnectError, happy_eyeballs::first_to_connect, options::ConnectOptions,
    wire,
};
use crate::{
    Address, AttemptError, Endpoint, Runtime,
    auth::Authenticator,
    cluster::{
        endpoint::Accepted,
        endpoints::{EndpointId, Endpoints},
    },
    runtime::{Io, Peer, Seeds, timeout},
};

/// How connections are made: shared by the calls and the watch streams.
pub(crate) struct Dialer {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) endpoints: Arc<Endpoints>,
    /// What endpoints to come may be.
    pub(crate) accepted: Accepted,
    pub(crate) options: ConnectOptions,
    /// The settings of the watches: their backoff and deadlines are those of a mirror's lists, too.
    pub(crate) watch_config: Config,
    pub(crate) dial_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    /// For every jitter of the client.
    pub(crate) seeds: Seeds,
    /// For a client with a user.
    pub(crate) auth: Option<Authenticator>,
}

impl Dialer {
    /// Connects to the endpoint, within the time limit.
    pub(crate) async fn dial(&self, id: EndpointId) -> Result<Connection, AttemptError> {
        self.dial_within(id, self.dial_timeout).await
    }

    /// Connects to the endpoint, within this limit and that for every connection.
    pub(crate) async fn dial_within(&self, id: EndpointId, limit: Duration) -> Result<Connection, AttemptError> {
        let limit = limit.min(self.dial_timeout);
        let endpoint = self.endpoints.get(id);
        // It holds whole handshakes: too much for the future of every call.
        let connect = Box::pin(self.connect(&endpoint));
        match timeout(&self.runtime, limit, connect).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(error)) => {
                let text = wire::chain(&error);
                let tls = error.is_tls_refusal();
                let failure = if tls { Failure::tls(text) } else { Failure::connection(text) };
                Err(AttemptError::new(failure, error))
            }
            None => Err(Failure::connection(format!("no connection within {limit:?}")).into()),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let socket = self.socket(endpoint.address()).await.map_err(ConnectError::new)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = self.options.tls_session(endpoint)? {
            let secured = tls.handshake(socket).await?;
            return Connection::over(&self.runtime, secured, &self.options).await;
        }
        Connection::over(&self.runtime, socket, &self.options).await
    }

    async fn socket(&self, address: Address<'_>) -> io::Result<Box<dyn Io>> {
        match address {
            Address::Tcp { host, port } => {
                let addresses = self.runtime.resolve(host.to_owned(), port).await?;
                first_to_connect(&*self.runtime, addresses).await
            }
            Address::Unix { path } => self.runtime.connect(Peer::Unix(path.to_owned())).await,
        }
    }
}
