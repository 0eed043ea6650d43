//! Answers look-ups of users, typed one a line, from a local copy of the keys: no look-up asks etcd.
//!
//! `cargo run -p etcd-watch-examples --bin cached-lookup`, or `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, KeyRange, cache::CacheRequest};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let cache = client.cache(CacheRequest::new(KeyRange::prefix("users/")))?;
    println!("{} users are known", cache.ready().await?.len());
    let mut lines = BufReader::new(stdin()).lines();
    while let Some(name) = lines.next_line().await? {
        match cache.get(format!("users/{name}")) {
            Some(user) => println!("{name}: {}", user.value_str()?),
            None => println!("{name}: unknown"),
        }
    }
    Ok(())
}
