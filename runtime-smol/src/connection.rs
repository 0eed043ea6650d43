//! HTTP/2 over the sockets of smol and async-std, which are of one kind.

use std::io;

use etcd_watch_client::{ConnectError, ConnectOptions, Connection, Endpoint, Runtime};
use futures_lite::{AsyncRead, AsyncWrite};
use smol_hyper::rt::FuturesIo;

/// Speaks HTTP/2, and TLS if the endpoint is to have it, over a connected socket.
pub(crate) async fn over<R: Runtime, S>(
    runtime: &R,
    endpoint: &Endpoint,
    options: &ConnectOptions,
    socket: io::Result<S>,
) -> Result<Connection, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let socket = socket.map_err(ConnectError::new)?;
    #[cfg(feature = "tls")]
    if let Some(tls) = options.tls_session(endpoint)? {
        let connector = futures_rustls::TlsConnector::from(tls.config);
        let secured = connector.connect(tls.name, socket).await;
        let secured = secured.map_err(|error| ConnectError::tls(&error))?;
        return Connection::over(runtime, FuturesIo::new(secured), options).await;
    }
    #[cfg(not(feature = "tls"))]
    let _ = endpoint;
    Connection::over(runtime, FuturesIo::new(socket), options).await
}
