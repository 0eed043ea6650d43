//! How a client starts, and how it gets past members and addresses that hang: `connect`, endpoints and addresses side
//! by side, and servers that want fewer pings.

mod addresses;
mod connect;
mod hung;
#[path = "../endpoints/log.rs"]
mod log;
mod pings;
mod wrapped;

use std::{net::SocketAddr, time::Duration};

use etcd_watch_client::{Watch, WatchState};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// For any one thing that a test waits for: much longer than it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A time limit of the client's that must not have to run out: what goes past a server that hangs goes past it sooner.
const LIMIT: Duration = Duration::from_secs(60);

/// What takes less than this didn't wait for [`LIMIT`], however busy the machine is.
const AT_ONCE: Duration = Duration::from_secs(20);

/// An endpoint where nobody listens.
async fn dead() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    url(listener.local_addr().expect("it is bound"))
}

/// A server that hangs: its system takes connections, and it says nothing.
async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// A server that answers everything with this.
async fn stubborn(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            let _ = socket.read(&mut heard).await;
            let _ = socket.write_all(answer).await;
        }
    });
    address
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Waits until the watch is created on a server.
async fn created(watch: &Watch) {
    while watch.stats().is_some_and(|stats| stats.state != WatchState::Active) {
        tokio::time::sleep(DEADLINE / 10_000).await;
    }
}
