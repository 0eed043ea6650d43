//! What was heard of a server on one connection's socket, and what it says about how the connection ended: hyper tells
//! the calls that were under way only that it did.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    alert::alert_remedy,
    causes,
    error::{Broken, TlsRefused, copy},
    frames::{Farewell, Sight},
};
use crate::{BoxError, sync::Latch};

/// What to look for where the server has said nothing at all. A refused certificate shows as this when the alert is
/// lost on the way.
const NOT_A_WORD: &str = "the server hung up without a word: if it wants TLS, write https://; if it wants a client certificate, give one with identity_files";

/// Shared by a connection and its socket.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    anything: AtomicBool,
    settings: Latch<()>,
    /// The first bytes of a server that doesn't speak HTTP/2.
    stranger: OnceLock<Vec<u8>>,
    farewell: OnceLock<Farewell>,
    /// Why the socket broke.
    error: OnceLock<io::Error>,
}

impl Heard {
    /// The server has said something.
    pub(super) fn something(&self) {
        self.0.anything.store(true, Ordering::Relaxed);
    }

    /// Whether the server has said nothing at all.
    pub(super) fn is_nothing(&self) -> bool {
        !self.0.anything.load(Ordering::Relaxed)
    }

    pub(super) fn saw(&self, sight: Sight) {
        match sight {
            Sight::Settings => {
                self.0.settings.set(());
            }
            Sight::Stranger(bytes) => drop(self.0.stranger.set(bytes)),
            Sight::Farewell(farewell) if farewell.is_error() => drop(self.0.farewell.set(farewell)),
            Sight::Farewell(_) => {}
        }
    }

    /// The socket broke.
    pub(super) fn broke(&self, error: &io::Error) {
        let _ = self.0.error.set(copy(error));
    }

    /// Completes when the server has sent its settings: it is up, and speaks HTTP/2.
    pub(super) async fn settings(&self) {
        self.0.settings.wait().await;
    }

    /// The error of a call on the connection, with what is known beside it.
    pub(super) fn explain(&self, error: hyper::Error) -> BoxError {
        let chain = causes::chain(&error);
        match self.reason(&chain) {
            Some(reason) => reason.because(Some(self.cause().unwrap_or_else(|| error.into()))),
            None => error.into(),
        }
    }

    /// Why the socket broke.
    fn cause(&self) -> Option<BoxError> {
        self.0.error.get().map(|error| copy(error).into())
    }

    /// Why a connection ended that was never up.
    pub(super) fn explain_end(&self, error: Option<&hyper::Error>) -> BoxError {
        let chain =
            error.map_or_else(|| "the server closed the connection".to_owned(), |error| causes::chain(error));
        let reason = self.reason(&chain).unwrap_or(Reason::Other(chain));
        reason.because(self.cause())
    }

    /// A better reason than this one, if there is one.
    fn reason(&self, chain: &str) -> Option<Reason> {
        let heard = &*self.0;
        if let Some(farewell) = heard.farewell.get() {
            return Some(Reason::Other(said(farewell)));
        }
        if let Some(bytes) = heard.stranger.get() {
            return Some(introduce(bytes));
        }
        let error = heard.error.get().map(ToString::to_string);
        let cause = error.as_deref().unwrap_or(chain);
        // In TLS 1.3 a server refuses a client's certificate only after the handshake.
        if let Some(remedy) = alert_remedy(cause) {
            return Some(Reason::Tls(format!("{cause}: {remedy}")));
        }
        let mut reasons = vec![chain];
        if !chain.contains(cause) {
            reasons.push(cause);
        }
        if self.is_nothing() {
            reasons.push(NOT_A_WORD);
        }
        (reasons.len() > 1).then(|| Reason::Other(reasons.join(": ")))
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum Reason {
    /// TLS was refused, by one side or the other.
    Tls(String),
    Other(String),
}

impl Reason {
    /// The error, with the one that it came from.
    fn because(self, cause: Option<BoxError>) -> BoxError {
        match (self, cause) {
            (Self::Tls(text), cause) => TlsRefused::new(text, cause).into(),
            (Self::Other(text), Some(cause)) => Broken::new(text, cause).into(),
            (Self::Other(text), None) => text.into(),
        }
    }
}

fn said(farewell: &Farewell) -> String {
    if farewell.is_too_many_pings() {
        return "the server ended the connection for too many pings (GOAWAY: ENHANCE_YOUR_CALM, too_many_pings); the client pings less often from now on".into();
    }
    format!("the server ended the connection (GOAWAY: code {}, {:?})", farewell.code(), farewell.text())
}

/// What a server is that speaks no HTTP/2.
fn introduce(bytes: &[u8]) -> Reason {
    // A record of TLS 1.x (RFC 8446, section 5.1): an alert, since no handshake was begun.
    if bytes.starts_with(&[0x15, 3]) {
        return Reason::Tls("the server speaks TLS here, and the endpoint is without; write https:// (of a unix socket, unixs://)".into());
    }
    let line = bytes.split(|&byte| byte == b'\r' || byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(&line[..line.len().min(60)]);
    Reason::Other(format!(
        "the server does not speak HTTP/2, which gRPC needs; it said {line:?}: is this etcd's client port?"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_speaks_something_else_is_told_apart() {
        let tls = introduce(&[0x15, 3, 1, 0, 2, 2, 0x46]);
        assert!(matches!(&tls, Reason::Tls(text) if text.contains("https://")), "{tls:?}");
        let http = introduce(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n");
        assert!(
            matches!(&http, Reason::Other(text) if text.contains("\"HTTP/1.1 400 Bad Request\"")),
            "{http:?}"
        );
        assert!(matches!(introduce(&[0xff; 200]), Reason::Other(_)));
    }

    #[test]
    fn what_is_known_of_the_end_is_told() {
        let heard = Heard::default();
        assert!(heard.explain_end(None).to_string().contains("without a word"));
        heard.something();
        assert_eq!(heard.explain_end(None).to_string(), "the server closed the connection");
        heard.broke(&io::Error::from(io::ErrorKind::ConnectionReset));
        assert!(
            heard.explain_end(None).to_string().ends_with("connection reset"),
            "{}",
            heard.explain_end(None)
        );
    }
}
