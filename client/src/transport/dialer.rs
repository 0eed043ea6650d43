//! Making connections.

use std::{io, sync::Arc, time::Duration};

use etcd_watch_core::{Config, Failure};

use super::{
    connection::Connection, error::ConnectError, happy_eyeballs::first_to_connect, options::ConnectOptions,
    wire,
};
use crate::{
    Address, Endpoint, Runtime,
    auth::Authenticator,
    cluster::{advertised::Advertised, endpoint::Accepted, endpoints::Endpoints},
    runtime::{Io, Peer, timeout},
};

/// How connections are made: shared by the calls and the watch streams.
pub(crate) struct Dialer {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) endpoints: Arc<Endpoints>,
    /// What endpoints to come may be.
    pub(crate) accepted: Accepted,
    /// Which addresses of the member list are accepted.
    pub(crate) advertised: Advertised,
    pub(crate) options: ConnectOptions,
    /// The settings of the watches: their backoff and deadlines are those of a mirror's lists, too.
    pub(crate) watch_config: Config,
    pub(crate) dial_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    /// For a client with a user.
    pub(crate) auth: Option<Authenticator>,
}

impl Dialer {
    /// Connects to the endpoint, within the time limit.
    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        // It holds whole handshakes: too much for the future of every call.
        let connect = Box::pin(self.connect(endpoint));
        match timeout(&self.runtime, self.dial_timeout, connect).await {
            Some(Ok(connection)) => Ok(connection),
            Some(Err(error)) if error.is_tls_refusal() => Err(Failure::tls(wire::chain(&error))),
            Some(Err(error)) => Err(Failure::connection(wire::chain(&error))),
            None => Err(Failure::connection(format!("no connection within {:?}", self.dial_timeout))),
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
