//! Works only while it is the leader of all processes that run this program, and stops when it is not any more.
//!
//! `cargo run -p etcd-watch-examples --bin leader-only`, or, several times, `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::concurrency::{ContendError, Election, Leadership, Name, Session};
use etcd_watch_tokio::{BoxError, CallError, Client, Put, Txn};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    loop {
        let session = Session::builder(&client).ttl(tokio::time::Duration::from_secs(5)).open().await?;
        let leadership = match Election::new(&session, Name::new("elections/worker")?).campaign("me").await {
            // The place in the queue is lost with the session: the next session queues again.
            Err(ContendError::Lost(_)) => continue,
            leadership => leadership?,
        };
        tokio::select! {
            lost = leadership.lost() => println!("stopped working: {lost}"),
            failed = work(&client, &leadership) => failed?,
        }
    }
}

async fn work(client: &Client, leadership: &Leadership) -> Result<(), CallError> {
    for count in 1_u32.. {
        // Written only if this process leads when etcd executes it, whatever the process believes.
        let write = Txn::new().when(leadership.is_owner()).and_then(Put::new("work", count.to_string()));
        println!("working: {count}, written: {}", client.txn(write).await?.succeeded());
        tokio::time::sleep(tokio::time::Duration::from_millis(200)).await;
    }
    Ok(())
}
