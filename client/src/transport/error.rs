//! Why a connection could not be made, or broke.

use crate::BoxError;

/// A connection could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(crate) struct ConnectError {
    #[source]
    cause: BoxError,
    tls: bool,
}

impl ConnectError {
    /// From whatever went wrong.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self { cause: cause.into(), tls: false }
    }

    /// From what went wrong in the TLS handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub(crate) fn tls(cause: &std::io::Error) -> Self {
        let refused = cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        Self { cause: super::tls::explain(cause).into(), tls: refused }
    }

    /// Whether one side refused the other in the TLS handshake: that trying again changes nothing.
    #[must_use]
    pub(crate) fn is_tls_refusal(&self) -> bool {
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
pub(crate) struct NotSent(#[source] BoxError);

impl NotSent {
    /// From whatever kept it from being sent.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}
