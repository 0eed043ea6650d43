//! Works only while it is the leader of all processes that run this program, and stops when it is not any more.
//!
//! `cargo run -p etcd-watch-examples --bin leader-only`, or, several times, `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::concurrency::{ContendError, Election, Leadership, Session};
use etcd_watch_tokio::{BoxError, Client, Put, Txn};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    loop {
        let session = Session::builder(&client).ttl(Duration::from_secs(5)).open().await?;
        let election = Election::new(&session, "elections/worker")?;
        println!("campaigning");
        let leadership = match election.campaign(std::process::id().to_string()).await {
            Err(ContendError::Lost(_)) => continue, // With its session: the next one campaigns anew.
            leadership => leadership?,
        };
        tokio::select! {
            lost = leadership.lost() => println!("stopped working: {lost}"),
            failed = work(&client, &leadership) => println!("stopped working: {}", failed?),
        }
    }
}

async fn work(client: &Client, leadership: &Leadership) -> Result<&'static str, BoxError> {
    for count in 1.. {
        // Refused by etcd if another leads by then, whatever this process believes.
        let write =
            Txn::new().when(leadership.is_owner()).and_then(Put::new("worker/count", count.to_string()));
        if !client.txn(write).await?.succeeded() {
            break;
        }
        println!("working: {count}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok("another leads")
}
