//! How connections are made.

use std::time::Duration;

use super::{custom::CustomConnector, proxy::Detour};
#[cfg(feature = "tls")]
use super::{error::ConnectError, tls};
#[cfg(feature = "tls")]
use crate::Endpoint;

/// How to connect.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    /// HTTP/2 pings while a call or a watch is open; `None` sends none.
    pub(crate) keepalive: Option<Keepalive>,
    /// HTTP/2 flow-control window of a stream, in bytes.
    pub(crate) stream_window: u32,
    /// The proxy, if there is one.
    pub(crate) proxy: Option<Detour>,
    /// How to connect instead of by the runtime's sockets.
    pub(crate) connector: Option<CustomConnector>,
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<tls::TlsConnector>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive::default()),
            stream_window: 2 << 20,
            proxy: None,
            connector: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

/// The connection's window is this many times the stream's. h2 ends a connection on which too many small frames are unread:
/// it adds up what each of them lacks of 256 bytes, and allows half of the connection's window. etcd's smallest frames have
/// about 35 bytes, so the frames of one full window of a stream lack up to 6.3 times that window.
const CONNECTION_FACTOR: u32 = 16;

/// The largest window of a stream: that of its connection is the largest that HTTP/2 has (RFC 9113, section 6.9).
pub(crate) const MAX_WINDOW: u32 = ((1 << 31) - 1) / CONNECTION_FACTOR;

impl ConnectOptions {
    /// HTTP/2 flow-control window of a connection, in bytes.
    pub(super) fn connection_window(&self) -> u32 {
        self.stream_window * CONNECTION_FACTOR
    }

    /// The TLS to put on a socket connected to the endpoint; `None` where it is to have none.
    ///
    /// # Errors
    /// When the endpoint has TLS and its name can't be one in a certificate.
    #[cfg(feature = "tls")]
    pub(crate) fn tls_session(&self, endpoint: &Endpoint) -> Result<Option<tls::TlsSession>, ConnectError> {
        if !endpoint.scheme().has_tls() {
            return Ok(None);
        }
        // The builder sees to it that there are settings for every endpoint with TLS, and `Accepted` refuses a later
        // one if there are none.
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
