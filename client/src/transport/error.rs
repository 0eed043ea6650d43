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
#[error("TLS: {text}")]
pub(crate) struct TlsRefused {
    /// Which side refused what, and what to do about it.
    pub(crate) text: String,
    #[source]
    pub(crate) cause: BoxError,
}

/// A connection broke. Its own error seldom says why; the socket's does.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Broken {
    pub(crate) text: String,
    #[source]
    pub(crate) cause: BoxError,
}

/// The peer did not process a request, since it allows no more streams at a time (RFC 9113, section 8.7): even a write
/// may be made again, on the same connection.
#[derive(Debug, thiserror::Error)]
#[error("the server allows no more streams at a time: {0}")]
pub(crate) struct StreamRefused(#[source] pub(crate) BoxError);

/// What a peer has said about a request that it did not process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unprocessed {
    /// It allows no more streams at a time.
    StreamRefused,
    /// It goes away, and this request came after the last that it will look at (RFC 9113, section 6.8).
    GoingAway,
}

impl Unprocessed {
    /// Looks for it in an error of hyper's. h2 gives the error of a GOAWAY only to streams beyond the last one it names.
    pub(crate) fn find(error: &hyper::Error) -> Option<Self> {
        let error = super::wire::find::<h2::Error>(error).filter(|error| error.is_remote())?;
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        match (error.is_go_away(), refused) {
            (true, _) => Some(Self::GoingAway),
            (false, true) => Some(Self::StreamRefused),
            (false, false) => None,
        }
    }
}

/// A request that surely never left this process, or that the peer says it will not look at: anywhere among the sources of a transport's error it
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
