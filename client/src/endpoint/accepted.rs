//! Which endpoints a client can use.

use std::path::Path;

use super::{Address, Endpoint, EndpointError, Scheme};

/// Which endpoints a client can use: whether it has TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(any(test, feature = "tls")), expect(dead_code, reason = "two of them are about TLS"))]
pub(crate) enum Accepted {
    /// TLS settings were given: nothing is to go over a network without.
    TlsOnly,
    /// TLS is there for those endpoints that name it.
    Any,
    /// There is no TLS.
    PlainOnly,
}

impl Accepted {
    /// Reads an endpoint, and checks that it can be used.
    pub(crate) fn parse(self, text: &str) -> Result<Endpoint, EndpointError> {
        self.check(self.read(text)?)
    }

    /// Reads an endpoint that may be one that can't be used.
    pub(crate) fn read(self, text: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::parse_or(text, if self == Self::TlsOnly { Scheme::Https } else { Scheme::Http })
    }

    /// The endpoint, if it can be used.
    pub(crate) fn check(self, endpoint: Endpoint) -> Result<Endpoint, EndpointError> {
        match (self, endpoint.scheme()) {
            (Self::PlainOnly, scheme) if scheme.has_tls() => {
                Err(EndpointError::NoTls { endpoint: endpoint.to_string() })
            }
            // A unix socket is on no network, so it may be beside endpoints with TLS.
            (Self::TlsOnly, Scheme::Http) => Err(EndpointError::NotTls { endpoint: endpoint.to_string() }),
            _ => endpoint.with_socket(),
        }
    }
}

impl Endpoint {
    /// The endpoint, if there is a socket where it says that there is one.
    fn with_socket(self) -> Result<Self, EndpointError> {
        let Address::Unix { path } = self.address() else { return Ok(self) };
        match is_socket(path) {
            Ok(()) => Ok(self),
            Err(problem) => {
                Err(EndpointError::NoSocket { endpoint: self.to_string(), path: path.into(), problem })
            }
        }
    }
}

#[cfg(unix)]
fn is_socket(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    match path.metadata() {
        Ok(metadata) if metadata.file_type().is_socket() => Ok(()),
        Ok(_) => Err("what is there is no socket".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(not(unix))]
fn is_socket(_: &Path) -> Result<(), String> {
    Err("this system has no unix sockets".into())
}
