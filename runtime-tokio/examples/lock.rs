//! Holds a lock until Ctrl-C or its loss: `cargo run --example lock -- http://127.0.0.1:2379 locks/report`
#![allow(clippy::print_stdout)]

use etcd_watch_tokio::{
    Put, Txn,
    concurrency::{Mutex, Name, Session},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let name = arguments.next().unwrap_or_else(|| "locks/example".into());

    let name = Name::new(name)?;
    let client = etcd_watch_tokio::connect([endpoint]).await?;
    let session = Session::open(&client).await?;
    let mutex = Mutex::new(&session, name);
    println!("waiting for the lock");
    let guard = tokio::select! {
        guard = mutex.lock() => guard?,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            // Takes the place in the queue along.
            return Ok(session.close().await?);
        }
    };
    println!("holding {}, fencing token {}", guard.key().escape_ascii(), guard.fencing_token());

    // Written only if the lock is still held when the server executes it, whatever has happened since.
    let report = format!("written under token {}", guard.fencing_token());
    let write = Txn::new().when(guard.is_owner()).and_then(Put::new("report", report));
    println!("written: {}", client.txn(write).await?.succeeded());

    tokio::select! {
        lost = guard.lost() => println!("lost: {lost}"),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            guard.unlock().await?;
            println!("unlocked");
        }
    }
    session.close().await?;
    client.close().await;
    Ok(())
}
