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
    proxy::{ProxyError, Via, tunnel},
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
        let via = self.via(endpoint).map_err(ConnectError::new)?;
        let tried = Mutex::new(Vec::new());
        // It holds whole handshakes: too much for the future of every call.
        let connected = Box::pin(self.connect_to(endpoint, via, &tried));
        if let Some(result) = timeout(&self.runtime, self.dial_timeout, connected).await {
            return result;
        }
        lock(&tried).iter().for_each(Route::failed);
        let silence = format!("no answer within {:?}", self.dial_timeout);
        Err(match via {
            Some(via) => tunnel::silent(via, &silence),
            None => ConnectError::new(silence),
        })
    }

    /// The proxy to connect to the endpoint by, if there is to be one.
    fn via(&self, endpoint: &Endpoint) -> Result<Option<&Via>, ProxyError> {
        let detour = self.options.proxy.as_ref();
        Ok(detour.map(|detour| detour.of(endpoint)).transpose().map_err(Clone::clone)?.flatten())
    }

    /// Whether the endpoint can be connected to.
    ///
    /// # Errors
    /// It needs a proxy that can't be used.
    pub(crate) fn check(&self, endpoint: &Endpoint) -> Result<(), ProxyError> {
        self.via(endpoint).map(drop)
    }

    async fn connect_to(
        &self,
        endpoint: &Endpoint,
        via: Option<&Via>,
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
                let (host, port) = via.map_or((host, port), |via| (via.host(), via.port()));
                self.by_name(endpoint, host, port, via, tried).await
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
                        // The connection has no route: that a member behind a proxy is of no use later says nothing
                        // against an address of the proxy. A failure now only puts that address last.
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
