//! A proxy that changes one byte on its way to the client.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// It changes one byte in the middle of the first run of so many bytes that are all the same.
const RUN: usize = 512;

/// A proxy in front of a server. Dropping it ends it.
pub(crate) struct CorruptingProxy {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl CorruptingProxy {
    /// Changes one of a run of bytes that are all `byte`, once on each connection.
    pub(crate) async fn start(upstream: SocketAddr, byte: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(upstream).await.expect("the server is there");
                connections.spawn(forward(client, server, byte));
            }
        });
        Self { address, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for CorruptingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(client: TcpStream, server: TcpStream, byte: u8) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
    let down = async {
        let (mut buffer, mut is_done) = (vec![0; 64 << 10], false);
        loop {
            let count = from_server.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            if !is_done
                && let Some(at) =
                    buffer[..count].windows(RUN).position(|run| run.iter().all(|one| *one == byte))
            {
                buffer[at + RUN / 2] ^= 1;
                is_done = true;
            }
            to_client.write_all(&buffer[..count]).await?;
        }
    };
    // Either end may go at any moment.
    let _: Result<_, std::io::Error> = tokio::try_join!(up, down);
}
