//! Connecting to the members of a cluster.

use std::sync::Arc;

use etcd_watch_core::{Failure, WatchConfig};
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    AttemptError, Credentials, Endpoint, Runtime,
    auth::{self, AfterRefusal, Authenticator, Elsewhere, Generation, Token},
    cluster::{advertised::Advertised, endpoints::Endpoints, pulse::Pulse},
    endpoint::Accepted,
    runtime::{BoxFuture, Seeds},
    transport::{
        causes,
        connection::Connection,
        connector::Connector,
        error::ConnectError,
        race::{Won, race},
    },
};

/// How the members are connected to: shared by the calls and the watch streams.
pub(crate) struct Dialer {
    pub(crate) connector: Connector,
    pub(crate) endpoints: Endpoints,
    /// Which kinds of endpoints are accepted later.
    pub(crate) accepted: Accepted,
    /// Which addresses of the member list are accepted.
    pub(crate) advertised: Advertised,
    /// The settings of the watches: their backoff and deadlines are those of a mirror's lists, too.
    pub(crate) watch_config: WatchConfig,
    pub(crate) max_message_bytes: usize,
    /// The client's credentials and their token.
    pub(crate) auth: Arc<Authenticator>,
    /// Tokens for endpoints that are not the client's.
    pub(crate) elsewhere: Elsewhere,
    /// For every jitter of the client.
    pub(crate) seeds: Seeds,
    /// What calls have heard of the members last.
    pub(crate) pulse: Arc<Pulse>,
}

/// Attempts to connect.
type UnderWay = FuturesUnordered<BoxFuture<'static, (Arc<Endpoint>, Result<Connection, ConnectError>)>>;

/// A connection to a member.
#[derive(Clone, Debug)]
pub(crate) struct Dialed {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) connection: Connection,
}

impl Dialer {
    pub(crate) fn runtime(&self) -> &Arc<dyn Runtime> {
        self.connector.runtime()
    }

    /// Connects to this endpoint, within the dial timeout.
    pub(crate) async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, AttemptError> {
        let connected = self.connector.connect(endpoint).await;
        connected.map_err(AttemptError::from)
    }

    /// Connects to the first of the candidates that is up. One that hangs costs a quarter of a second, and from then on
    /// it is among the last to be tried. All failures are noted. `kept` is a connection that there is already: it comes last.
    pub(crate) async fn dial_any(
        self: &Arc<Self>,
        mut candidates: Vec<Arc<Endpoint>>,
        kept: Option<Dialed>,
    ) -> Result<Dialed, Unreached> {
        candidates.extend(kept.as_ref().map(|kept| kept.endpoint.clone()));
        let attempt = |endpoint| {
            let kept = kept.as_ref().filter(|kept| kept.endpoint == endpoint);
            self.clone().attempt(endpoint, kept.map(|kept| kept.connection.clone()))
        };
        match race(self.runtime(), candidates, attempt).await {
            Ok(Won { winner, value, overtaken, under_way }) => {
                if !overtaken.is_empty() {
                    overtaken.iter().for_each(|endpoint| self.endpoints.overtaken(endpoint));
                    self.runtime().run(self.clone().wait_for_late(under_way));
                }
                Ok(Dialed { endpoint: winner, connection: value })
            }
            Err(failed) => Err(Unreached(failed)),
        }
    }

    async fn attempt(
        self: Arc<Self>,
        endpoint: Arc<Endpoint>,
        kept: Option<Connection>,
    ) -> Result<Connection, ConnectError> {
        if let Some(connection) = kept {
            return Ok(connection);
        }
        let connected = self.connector.connect(&endpoint).await;
        if let Err(error) = &connected {
            self.failed(&endpoint, &error.clone().into());
        }
        connected
    }

    /// Finds out in the background whether what was overtaken is slow or hangs.
    async fn wait_for_late(self: Arc<Self>, mut under_way: UnderWay) {
        while let Some((endpoint, result)) = under_way.next().await {
            if result.is_ok() {
                self.endpoints.came_up(&endpoint);
            }
        }
    }

    /// The member is of no use on this connection.
    pub(crate) fn blame(&self, dialed: &Dialed, error: &AttemptError) {
        dialed.connection.blame();
        self.failed(&dialed.endpoint, error);
    }

    /// The endpoint's member is of no use now.
    pub(super) fn failed(&self, endpoint: &Endpoint, error: &AttemptError) {
        let now = self.runtime().now();
        self.endpoints.note(endpoint, error);
        self.endpoints.failed(endpoint, now, error);
        self.pulse.failed(now, error.clone());
    }

    /// The token for a request on this connection; `None` for a client without credentials.
    pub(crate) async fn token(
        &self,
        connection: &Connection,
        endpoint: &Endpoint,
    ) -> Result<Option<Token>, AttemptError> {
        self.auth.token(self.runtime(), connection, endpoint).await
    }

    /// Whose tokens requests to this endpoint carry: those of the client, or its own if it is not one of the client's.
    pub(crate) fn auth_at(&self, endpoint: &Endpoint) -> Arc<Authenticator> {
        if !self.auth.has_credentials() || self.endpoints.contains(endpoint) {
            return self.auth.clone();
        }
        self.elsewhere.at(endpoint, || self.auth.fork(self.seeds.backoff(auth::PACE)))
    }

    /// The client has these credentials from now on. Whether they are others.
    pub(crate) fn set_credentials(&self, credentials: Credentials) -> bool {
        let is_change = self.auth.set(credentials.clone());
        self.elsewhere.set(&credentials);
        is_change
    }

    /// A server did not accept the token.
    pub(crate) fn token_refused(&self, generation: Generation) -> AfterRefusal {
        self.auth.refused(self.runtime().now(), generation)
    }
}

/// What became of each endpoint, when none is up.
#[derive(Debug)]
pub(crate) struct Unreached(Vec<(Arc<Endpoint>, ConnectError)>);

impl Unreached {
    /// Why each of the endpoints can't be used.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &ConnectError> {
        self.0.iter().map(|(_, error)| error)
    }
}

impl From<Unreached> for AttemptError {
    /// A failure of TLS only if that was refused everywhere: that is final. Its source is that of the first endpoint.
    fn from(Unreached(mut causes): Unreached) -> Self {
        if causes.len() == 1 {
            return causes.remove(0).1.into();
        }
        let all_tls = !causes.is_empty() && causes.iter().all(|(_, error)| error.is_tls_refusal());
        let texts: Vec<_> =
            causes.iter().map(|(endpoint, error)| format!("{endpoint}: {}", causes::chain(error))).collect();
        let text = texts.join("; ");
        let failure = if all_tls { Failure::tls(text) } else { Failure::connection(text) };
        match causes.into_iter().next() {
            Some((_, first)) => Self::new(failure, first),
            None => failure.into(),
        }
    }
}
