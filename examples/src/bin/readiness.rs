//! A service that answers `GET /ready` with 200 while its copy of the keys is at most 3 s old, otherwise with 503.
//!
//! `cargo run -p etcd-watch-examples --bin readiness`, or `... -- http://127.0.0.1:2379,http://127.0.0.1:22379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, KeyRange, cache::CacheRequest};
use std::time::Duration;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpListener};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (limit, patience) = (Duration::from_secs(3), Duration::from_millis(500));
    let endpoints = etcd_watch_examples::endpoint();
    let client = etcd_watch_tokio::builder().endpoints(endpoints.split(',')).connect_lazy()?;
    let cache = client.cache(CacheRequest::new(KeyRange::prefix("users/")))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/ready", listener.local_addr()?);
    while let Ok((mut socket, _)) = listener.accept().await {
        let cache = cache.clone();
        tokio::spawn(async move {
            let _request_bytes = socket.read(&mut [0; 1024]).await?;
            let (status, body) = match cache.timeout(patience).snapshot_within(limit).await {
                Ok(users) => ("200 OK", format!("{} users at revision {}", users.len(), users.revision())),
                Err(error) => ("503 Service Unavailable", error.to_string()),
            };
            println!("{status}: {body}");
            socket.write_all(format!("HTTP/1.0 {status}\r\n\r\n{body}\n").as_bytes()).await
        });
    }
    Ok(())
}
