//! Runs for leader and tells who leads, until Ctrl-C:
//! `cargo run --example election -- http://127.0.0.1:2379 elections/scheduler host-a`
#![allow(clippy::print_stdout)]

use std::time::Duration;

use etcd_watch_tokio::concurrency::{Election, Name, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let name = arguments.next().unwrap_or_else(|| "elections/example".into());
    let value = arguments.next().unwrap_or_else(|| format!("process {}", std::process::id()));

    let name = Name::new(name)?;
    let client = etcd_watch_tokio::connect([endpoint]).await?;
    // A process that dies is replaced after 10 s.
    let session = Session::builder(&client).ttl(Duration::from_secs(10)).open().await?;
    let election = Election::new(&session, name);

    let mut leaders = election.observe();
    let watching = tokio::spawn(async move {
        while let Some(leader) = leaders.next().await {
            match leader {
                Ok(leader) => println!("the leader is {}", leader.value.escape_ascii()),
                Err(error) => println!("can't see who leads any more: {error}"),
            }
        }
    });
    let leading = async {
        let leadership = election.campaign(value).await?;
        println!("elected, fencing token {}", leadership.fencing_token());
        println!("lost: {}", leadership.lost().await);
        Ok::<_, etcd_watch_tokio::concurrency::ContendError>(())
    };
    tokio::select! {
        ended = leading => ended?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    watching.abort();
    // Resigns, or withdraws, by revoking the lease.
    session.close().await?;
    client.close().await;
    Ok(())
}
