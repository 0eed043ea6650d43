//! Why a connection could not be made, or broke.

use std::{io, net::SocketAddr};

use etcd_watch_core::Failure;

use super::wire;
use crate::BoxError;

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct ConnectError {
    #[source]
    cause: BoxError,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nobody listens there: the connection was refused, or there is no such name or socket.
    Nobody,
    /// One side refused the other in the TLS handshake.
    Tls,
    Other,
}

impl ConnectError {
    /// From whatever went wrong.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self { cause: cause.into(), kind: Kind::Other }
    }

    /// From what a connection that was never up ended with.
    pub(super) fn told(cause: BoxError) -> Self {
        let kind = if wire::is_tls_refusal(&*cause) { Kind::Tls } else { Kind::Other };
        Self { cause, kind }
    }

    /// From what kept a socket from being connected.
    pub(super) fn socket(error: io::Error) -> Self {
        let nobody = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        Self { cause: error.into(), kind: if nobody { Kind::Nobody } else { Kind::Other } }
    }

    /// From what kept a name from being looked up.
    pub(super) fn name(host: &str, error: &io::Error) -> Self {
        Self { cause: format!("looking up {host:?}: {error}").into(), kind: Kind::Nobody }
    }

    /// From what went wrong in the TLS handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub(crate) fn tls(cause: &io::Error) -> Self {
        let refused = cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        let kind = if refused { Kind::Tls } else { Kind::Other };
        Self { cause: super::tls::explain(cause).into(), kind }
    }

    /// What became of each of a name's addresses.
    pub(super) fn all(host: &str, mut failed: Vec<(SocketAddr, Self)>) -> Self {
        if failed.len() == 1 {
            return failed.remove(0).1;
        }
        let first = failed.first().map(|(_, error)| error.kind);
        let kind = first.filter(|&kind| failed.iter().all(|(_, error)| error.kind == kind));
        let causes: Vec<_> =
            failed.iter().map(|(address, error)| format!("{address}: {}", wire::chain(error))).collect();
        let cause = if causes.is_empty() { format!("{host:?} has no address") } else { causes.join("; ") };
        Self { cause: cause.into(), kind: kind.unwrap_or(Kind::Other) }
    }

    /// Whether one side refused the other in the TLS handshake: that trying again changes nothing.
    #[must_use]
    pub(crate) fn is_tls_refusal(&self) -> bool {
        self.kind == Kind::Tls
    }

    /// Whether there is nobody at the address.
    #[must_use]
    pub(crate) fn is_nobody_there(&self) -> bool {
        self.kind == Kind::Nobody
    }

    /// The same for the core.
    pub(crate) fn to_failure(&self) -> Failure {
        match self.kind {
            Kind::Tls => Failure::tls(wire::chain(self)),
            Kind::Nobody | Kind::Other => Failure::connection(wire::chain(self)),
        }
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
pub(crate) struct NotSent(#[source] BoxError);

impl NotSent {
    /// From whatever kept it from being sent.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}
