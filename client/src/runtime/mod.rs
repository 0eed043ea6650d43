//! What the client needs of an async runtime.

use std::{error::Error as StdError, future::Future, time::Duration};

use bytes::Bytes;
use etcd_watch_core::Instant;
use tonic::{body::Body, client::GrpcService};

use crate::Endpoint;

mod timeout;

pub(crate) use timeout::timeout;

/// A future that is kept to be polled later.
pub(crate) type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// Any error, boxed.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// An async runtime: connections, timers, tasks and a clock. The crates `etcd-watch-tokio` and its like
/// implement it; everything above it is the same on all of them.
pub trait Runtime: Clone + Send + Sync + Unpin + 'static {
    /// What a connection is to the client.
    type Transport: Transport;

    /// Connects to an endpoint. The client puts a time limit on it and drops the future when that is
    /// over. The transport is *one* HTTP/2 connection: once that has broken, calls on it fail; making a
    /// new one is the client's business.
    fn connect(
        &self,
        endpoint: &Endpoint,
        options: &ConnectOptions,
    ) -> impl Future<Output = Result<Self::Transport, ConnectError>> + Send;

    /// Completes after `duration`.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + Send;

    /// Runs a task to its end in the background.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static);

    /// The monotonic clock, from an epoch of the runtime's choice.
    fn now(&self) -> Instant;
}

/// A runtime that can be found by the code running on it, so that nobody needs to pass it around.
pub trait AmbientRuntime: Runtime {
    /// The runtime this is called on.
    ///
    /// # Errors
    /// When it isn't called on one.
    fn ambient() -> Result<Self, NoRuntime>;
}

/// The code doesn't run on the runtime it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not called on a {name} runtime: call it from a task, or pass the runtime to the builder")]
pub struct NoRuntime {
    /// The runtime's name.
    pub name: &'static str,
}

/// One HTTP/2 connection that carries gRPC calls. Implemented for every [`GrpcService`] of this form, so
/// never by hand. A service that knows that a request was not sent says so with [`NotSent`].
pub trait Transport:
    GrpcService<
        Body,
        ResponseBody: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
        Error: Into<BoxError> + Send,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Transport for T
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
    T::Error: Into<BoxError> + Send,
    T::Future: Send,
{
}

/// How to connect.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectOptions {
    /// HTTP/2 pings while a call or a watch is open; `None` sends none.
    pub keepalive: Option<Keepalive>,
    /// HTTP/2 flow-control window of a stream, in bytes.
    pub stream_window: u32,
    /// HTTP/2 flow-control window of a connection, in bytes.
    pub connection_window: u32,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::transport::tls::TlsConnector>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive::default()),
            stream_window: 2 << 20,
            connection_window: 4 << 20,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ConnectOptions {
    /// The TLS to put on a socket connected to the endpoint; `None` where it is to have none.
    ///
    /// # Errors
    /// When the endpoint is `https` and its name can't be one in a certificate.
    #[cfg(feature = "tls")]
    pub fn tls_session(&self, endpoint: &Endpoint) -> Result<Option<crate::TlsSession>, ConnectError> {
        if endpoint.scheme() != crate::Scheme::Https {
            return Ok(None);
        }
        // The builder sees to it that there are settings for every https endpoint; the member list doesn't.
        let Some(tls) = &self.tls else { return Err(ConnectError::new("no TLS settings")) };
        tls.session(endpoint).map(Some)
    }
}

/// HTTP/2 pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Time between two pings.
    pub interval: Duration,
    /// How long the answer may take before the connection counts as dead.
    pub timeout: Duration,
}

impl Default for Keepalive {
    /// Every 10 s, answered within 5 s: a half-open connection is noticed after 15 s at the latest, and
    /// the server's limit of one ping per 5 s is far away.
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), timeout: Duration::from_secs(5) }
    }
}

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct ConnectError {
    #[source]
    cause: BoxError,
    tls: bool,
}

impl ConnectError {
    /// From whatever went wrong.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self { cause: cause.into(), tls: false }
    }

    /// From what went wrong in the TLS handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(cause: &std::io::Error) -> Self {
        let refused = cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        Self { cause: crate::transport::tls::explain(cause).into(), tls: refused }
    }

    /// Whether one side refused the other in the TLS handshake: that trying again changes nothing.
    #[must_use]
    pub fn is_tls_refusal(&self) -> bool {
        self.tls
    }
}

/// What to do about a TLS alert from the server, told by rustls' text for it: what comes by way of HTTP/2
/// has lost its type.
pub(crate) fn alert_remedy(text: &str) -> Option<&'static str> {
    const CERTIFICATE: [&str; 6] = [
        "CertificateRequired",
        "BadCertificate",
        "UnknownCA",
        "CertificateExpired",
        "CertificateUnknown",
        "CertificateRevoked",
    ];
    let (_, alert) = text.split_once("received fatal alert: ")?;
    if alert.starts_with("CertificateRequired") {
        return Some("the server asks for a client certificate; give one with identity_files");
    }
    CERTIFICATE
        .iter()
        .any(|name| alert.starts_with(name))
        .then_some("the server wants a client certificate that its own CA has signed and that has not expired; give one with identity_files")
}

/// The other side refused the TLS handshake after this side had taken it for done.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {0}")]
pub(crate) struct TlsRefused(pub(crate) String);

/// A request that surely never left this process: anywhere among the sources of a transport's error it
/// tells the client that even a write may be tried again.
#[derive(Debug, thiserror::Error)]
#[error("not sent: {0}")]
pub struct NotSent(#[source] BoxError);

impl NotSent {
    /// From whatever kept it from being sent.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}
