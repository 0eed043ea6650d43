//! Making connections to endpoints.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    addresses::{Addresses, Named, Route},
    connection::{Connection, Terms},
    error::ConnectError,
    options::ConnectOptions,
    pings::Pings,
    proxy::{Via, tunnel},
    race::{Won, race},
};
use crate::{
    Address, Endpoint, Runtime,
    runtime::{Io, Peer, timeout},
    sync::lock,
};

/// Makes connections. What it finds out about addresses and pings holds for all connections of a client.
pub(crate) struct Connector {
    runtime: Arc<dyn Runtime>,
    options: ConnectOptions,
    dial_timeout: Duration,
    pings: Arc<Pings>,
    addresses: Arc<Addresses>,
}

impl Connector {
    pub(crate) fn new(runtime: Arc<dyn Runtime>, options: ConnectOptions, dial_timeout: Duration) -> Self {
        let pings = Arc::new(Pings::new(options.keepalive));
        Self { runtime, options, dial_timeout, pings, addresses: Arc::default() }
    }

    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.runtime
    }

    /// Connects to the endpoint, within the time limit. A name is resolved each time; of several addresses the first
    /// that is up wins.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Connection, ConnectError> {
        let tried = Mutex::new(Vec::new());
        // It holds whole handshakes: too much for the future of every call.
        let connected = Box::pin(self.connect_to(endpoint, &tried));
        if let Some(result) = timeout(&self.runtime, self.dial_timeout, connected).await {
            return result;
        }
        lock(&tried).iter().for_each(Route::failed);
        Err(ConnectError::new(format!("no answer within {:?}", self.dial_timeout)))
    }

    async fn connect_to(
        &self,
        endpoint: &Endpoint,
        tried: &Mutex<Vec<Route>>,
    ) -> Result<Connection, ConnectError> {
        if let Some(connector) = &self.options.connector {
            let socket = connector.connect(&self.runtime, endpoint.clone()).await;
            return self.over(endpoint, socket.map_err(ConnectError::socket)?, None).await;
        }
        match endpoint.address() {
            Address::Unix { path } => {
                let socket = self.socket(Peer::Unix(path.to_owned())).await?;
                self.over(endpoint, socket, None).await
            }
            Address::Tcp { host, port } => {
                let detour = self.options.proxy.as_ref();
                let via = detour.map(|detour| detour.of(endpoint)).transpose();
                match via.map_err(|error| ConnectError::new(error.clone()))?.flatten() {
                    None => self.by_name(endpoint, host, port, None, tried).await,
                    Some(via) => self.by_name(endpoint, via.host(), via.port(), Some(via), tried).await,
                }
            }
        }
    }

    /// Connects to one of a name's addresses: the endpoint's own, or those of a proxy.
    async fn by_name(
        &self,
        endpoint: &Endpoint,
        host: &str,
        port: u16,
        via: Option<&Via>,
        tried: &Mutex<Vec<Route>>,
    ) -> Result<Connection, ConnectError> {
        let of_proxy = |error| match via {
            Some(via) => tunnel::unreachable(via, error),
            None => error,
        };
        let resolved = self.runtime.resolve(host.to_owned(), port).await;
        let resolved = resolved.map_err(|error| of_proxy(ConnectError::name(host, error)))?;
        let routes = Named::new(self.addresses.clone(), host, port).routes(resolved);
        let attempt = |route: Route| {
            lock(tried).push(route.clone());
            async move {
                let connected = async {
                    let socket = self.socket(Peer::Tcp(route.address())).await.map_err(of_proxy)?;
                    match via {
                        // Which of a proxy's addresses was used says nothing about the member behind it.
                        Some(via) => {
                            self.over(endpoint, tunnel::open(socket, via, endpoint).await?, None).await
                        }
                        None => self.over(endpoint, socket, Some(route.clone())).await,
                    }
                };
                let connected = connected.await;
                if connected.is_err() {
                    route.failed();
                }
                connected
            }
        };
        match race(&self.runtime, routes, attempt).await {
            Ok(Won { winner, value, overtaken, .. }) => {
                winner.came_up();
                overtaken.iter().for_each(Route::failed);
                Ok(value)
            }
            Err(failed) => {
                let failed: Vec<(SocketAddr, _)> =
                    failed.into_iter().map(|(route, error)| (route.address(), error)).collect();
                Err(ConnectError::all(host, failed))
            }
        }
    }

    async fn socket(&self, peer: Peer) -> Result<Box<dyn Io>, ConnectError> {
        self.runtime.connect(peer).await.map_err(ConnectError::socket)
    }

    /// Speaks TLS, if the endpoint has it, and HTTP/2 over a connected socket.
    async fn over(
        &self,
        endpoint: &Endpoint,
        socket: Box<dyn Io>,
        route: Option<Route>,
    ) -> Result<Connection, ConnectError> {
        let keepalive = self.pings.keepalive();
        let terms = Terms { options: &self.options, keepalive, route };
        let (pings, named) = (self.pings.clone(), endpoint.clone());
        let on_too_many_pings = move || {
            if let Some(keepalive) = keepalive {
                pings.are_too_many(keepalive.interval, &named);
            }
        };
        #[cfg(feature = "tls")]
        if let Some(tls) = self.options.tls_session(endpoint)? {
            let secured = tls.handshake(socket).await?;
            return Connection::over(&self.runtime, secured, terms, on_too_many_pings).await;
        }
        Connection::over(&self.runtime, socket, terms, on_too_many_pings).await
    }
}
