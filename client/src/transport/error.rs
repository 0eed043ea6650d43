//! Why a connection could not be made, or broke.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, sync::Arc};

use etcd_watch_core::Failure;

use super::causes::{chain, find};
use crate::{AttemptError, BoxError};

/// A connection could not be made.
#[derive(Clone, Debug)]
pub(crate) struct ConnectError {
    cause: Arc<dyn StdError + Send + Sync>,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Turned away at the door: the connection was refused, there is no such name or socket, or the server hung up
    /// without a word, as one does that wants TLS.
    TurnedAway,
    /// One side refused the other in the TLS handshake.
    Tls,
    Other,
}

impl ConnectError {
    fn of(kind: Kind, cause: impl Into<BoxError>) -> Self {
        Self { cause: cause.into().into(), kind }
    }

    /// From whatever went wrong.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self::of(Kind::Other, cause)
    }

    /// From why something on the way has turned the client away.
    pub(super) fn turned_away(cause: impl Into<BoxError>) -> Self {
        Self::of(Kind::TurnedAway, cause)
    }

    /// The same error with a text that says more.
    pub(super) fn with_text(self, text: String) -> Self {
        Self::of(self.kind, Broken::new(text, self))
    }

    /// From what a connection that was never up ended with.
    pub(super) fn told(cause: BoxError, without_a_word: bool) -> Self {
        let kind = match () {
            () if find::<TlsRefused>(&*cause).is_some() => Kind::Tls,
            () if without_a_word => Kind::TurnedAway,
            () => Kind::Other,
        };
        Self::of(kind, cause)
    }

    /// From what kept a socket from being connected.
    pub(super) fn socket(error: io::Error) -> Self {
        let nobody = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        Self::of(if nobody { Kind::TurnedAway } else { Kind::Other }, error)
    }

    /// From what kept a name from being looked up.
    pub(super) fn name(host: &str, error: io::Error) -> Self {
        Self::of(Kind::TurnedAway, Broken::new(format!("looking up {host:?}: {error}"), error))
    }

    /// From what went wrong in the TLS handshake.
    #[cfg(feature = "tls")]
    #[must_use]
    pub(crate) fn tls(cause: &io::Error) -> Self {
        let kind = match cause.kind() {
            _ if cause.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Kind::Tls,
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Kind::TurnedAway,
            _ => Kind::Other,
        };
        Self::of(kind, Broken::new(super::tls::explain(cause), copy(cause)))
    }

    /// What became of each of a name's addresses.
    pub(super) fn all(host: &str, mut failed: Vec<(SocketAddr, Self)>) -> Self {
        if failed.len() == 1 {
            return failed.remove(0).1;
        }
        let first = failed.first().map(|(_, error)| error.kind);
        let kind = first.filter(|&kind| failed.iter().all(|(_, error)| error.kind == kind));
        let causes: Vec<_> =
            failed.iter().map(|(address, error)| format!("{address}: {}", chain(error))).collect();
        let kind = kind.unwrap_or(Kind::Other);
        match failed.into_iter().next() {
            Some((_, first)) => Self::of(kind, Broken::new(causes.join("; "), first)),
            None => Self::of(kind, format!("{host:?} has no address")),
        }
    }

    /// Whether one side refused the other in the TLS handshake: that trying again changes nothing.
    #[must_use]
    pub(crate) fn is_tls_refusal(&self) -> bool {
        self.kind == Kind::Tls
    }

    /// Whether it was turned away at the door: the address is wrong, or the server is not up yet.
    #[must_use]
    pub(crate) fn is_turned_away(&self) -> bool {
        self.kind == Kind::TurnedAway
    }

    /// The same for the core.
    fn to_failure(&self) -> Failure {
        match self.kind {
            Kind::Tls => Failure::tls(chain(self)),
            Kind::TurnedAway | Kind::Other => Failure::connection(chain(self)),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl StdError for ConnectError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.cause)
    }
}

impl From<ConnectError> for AttemptError {
    fn from(error: ConnectError) -> Self {
        Self::shared(error.to_failure(), error.cause)
    }
}

/// The same error once more: an error of a socket that goes to HTTP/2 is kept for the calls that it breaks, too.
pub(super) fn copy(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// The other side refused the TLS handshake after this side had taken it for done.
#[derive(Debug, thiserror::Error)]
#[error("TLS: {text}")]
pub(crate) struct TlsRefused {
    /// Which side refused what, and what to do about it.
    text: String,
    #[source]
    cause: Option<BoxError>,
}

impl TlsRefused {
    pub(super) fn new(text: impl Into<String>, cause: Option<BoxError>) -> Self {
        Self { text: text.into(), cause }
    }
}

/// An error with a text that says more than its own does, and has it in it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Broken {
    text: String,
    #[source]
    cause: BoxError,
}

impl Broken {
    pub(super) fn new(text: String, cause: impl Into<BoxError>) -> Self {
        Self { text, cause: cause.into() }
    }
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
        let error = find::<h2::Error>(error).filter(|error| error.is_remote())?;
        let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
        match (error.is_go_away(), refused) {
            (true, _) => Some(Self::GoingAway),
            (false, true) => Some(Self::StreamRefused),
            (false, false) => None,
        }
    }
}

/// A request that surely never left this process, or that the peer says it will not look at. If this is among the
/// sources of a transport's error, even a write may be tried again.
#[derive(Debug, thiserror::Error)]
#[error("not sent: {0}")]
pub(crate) struct NotSent(#[source] BoxError);

impl NotSent {
    /// From whatever kept it from being sent.
    pub(crate) fn new(cause: impl Into<BoxError>) -> Self {
        Self(cause.into())
    }
}
