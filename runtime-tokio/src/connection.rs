//! Connecting to an endpoint: TCP or a unix socket, with or without TLS.

use std::io;

use etcd_watch_client::{Address, ConnectError, ConnectOptions, Connection, Endpoint, first_to_connect};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::TokioRuntime;

pub(crate) async fn connect(
    runtime: TokioRuntime,
    endpoint: Endpoint,
    options: ConnectOptions,
) -> Result<Connection, ConnectError> {
    match endpoint.address() {
        Address::Tcp { host, port } => {
            let socket = dial(&runtime, host, port).await.map_err(ConnectError::new)?;
            #[cfg(feature = "tls")]
            if let Some(tls) = options.tls_session(&endpoint)? {
                let connector = tokio_rustls::TlsConnector::from(tls.config);
                let secured = connector.connect(tls.name, socket).await;
                let secured = secured.map_err(|error| ConnectError::tls(&error))?;
                return Connection::over(&runtime, TokioIo::new(secured), &options).await;
            }
            Connection::over(&runtime, TokioIo::new(socket), &options).await
        }
        #[cfg(unix)]
        Address::Unix { path } => {
            let socket = tokio::net::UnixStream::connect(path).await.map_err(ConnectError::new)?;
            Connection::over(&runtime, TokioIo::new(socket), &options).await
        }
        #[cfg(not(unix))]
        Address::Unix { .. } => Err(ConnectError::new("this system has no unix sockets")),
    }
}

async fn dial(runtime: &TokioRuntime, host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = tokio::net::lookup_host((host, port)).await?;
    let socket = first_to_connect(runtime, addresses, TcpStream::connect).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}
