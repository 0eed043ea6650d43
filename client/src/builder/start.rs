//! Starts the client that was built.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

use etcd_watch_core::Watcher;

use super::ClientBuilder;
#[cfg(feature = "tls")]
use crate::endpoint::Accepted;
use crate::{
    BuildError, Client, StartError,
    auth::{self, Authenticator, Elsewhere},
    calls::{attempts::Calls, telemetry::Telemetry},
    cluster::{dialer::Dialer, endpoints::Endpoints, pool::Pool, pulse::Pulse},
    runtime::Seeds,
    start,
    transport::connector::Connector,
    watch::{driver::Driver, hub::Hub, log::SlowConsumers},
};

impl ClientBuilder {
    /// Checks the settings and starts the client. It doesn't wait for anything: connections are made
    /// when there is something to use them for, and the client goes on trying for as long as it lives. For an
    /// application that is to start whether the cluster is there or not.
    ///
    /// # Errors
    /// Names the setting that can't be used.
    pub fn connect_lazy(mut self) -> Result<Client, BuildError> {
        let endpoints = self.validate()?;
        self.connection.proxy = self.proxy_for(&endpoints)?;
        let runtime = self.runtime.find()?;
        #[cfg(feature = "tls")]
        let accepted = {
            let secure = endpoints.iter().any(|endpoint| endpoint.scheme().has_tls());
            let accepted = self.accepted();
            let tls = self.tls.take().or_else(|| secure.then(crate::Tls::new));
            self.connection.tls = tls.map(crate::transport::tls::TlsConnector::new).transpose()?;
            // Without an endpoint that needs them the system's roots are not read.
            if self.connection.tls.is_some() { accepted } else { Accepted::PlainOnly }
        };
        #[cfg(not(feature = "tls"))]
        let accepted = self.accepted();
        let seed = self.seed.unwrap_or_else(|| RandomState::new().build_hasher().finish());
        let seeds = Seeds::new(seed);
        let machine = Watcher::new(self.watch.clone(), seeds.next())?;
        let dialer = Arc::new(Dialer {
            connector: Connector::new(runtime.clone(), self.connection, self.dial_timeout),
            endpoints: Endpoints::new(endpoints),
            accepted,
            advertised: self.advertised,
            watch_config: self.watch,
            max_message_bytes: self.max_message_bytes,
            elsewhere: Elsewhere::default(),
            auth: Arc::new(Authenticator::new(self.user.or(self.token), seeds.backoff(auth::PACE))),
            seeds,
            pulse: Arc::new(Pulse::new(runtime.now())),
        });
        let telemetry = Telemetry::new(
            self.trace_calls,
            #[cfg(feature = "metrics")]
            &self.name,
        );
        let calls = Calls::new(Pool::new(dialer), self.request_timeout, telemetry);
        let clock = runtime.clone();
        let hub = Arc::new(Hub::new(machine, move || clock.now()));
        let slow = SlowConsumers::new(self.warn_slow_every);
        runtime.run(Driver::new(hub.clone(), calls.clone(), slow));
        #[cfg(feature = "metrics")]
        runtime.run(crate::watch::metrics::export(calls.clone(), hub.clone()));
        if self.upkeep.is_wanted() {
            runtime.run(self.upkeep.run(calls.clone(), hub.clone()));
        }
        Ok(Client::new(hub, calls))
    }

    /// Checks the settings, starts the client and returns when a member has answered, to the user if there is one.
    ///
    /// It fails at once where trying again changes nothing: a wrong password, a refused token, no user where the cluster wants one,
    /// TLS that is refused at every endpoint. If every endpoint turns the client away (the connection is refused, the
    /// name is unknown, or the server hangs up without a word, as one does that wants TLS and isn't offered it), it
    /// tries again once, half a second later. All else is tried until
    /// [`connect_timeout`](Self::connect_timeout) is over. To start before the cluster does, use
    /// [`connect_lazy`](Self::connect_lazy).
    ///
    /// # Errors
    /// A setting that can't be used; or why no member has answered, for every endpoint.
    pub async fn connect(self) -> Result<Client, StartError> {
        let within = self.connect_timeout;
        let client = self.connect_lazy()?;
        // In a box: it holds whole handshakes.
        Box::pin(start::answered(client.calls(), within)).await?;
        Ok(client)
    }
}
