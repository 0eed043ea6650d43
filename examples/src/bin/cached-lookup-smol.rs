//! Answers look-ups of users, typed one a line, from a local copy of the keys, on smol: no look-up asks etcd.
//!
//! `cargo run -p etcd-watch-examples --bin cached-lookup-smol`, or `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_smol::{BoxError, KeyRange, cache::CacheRequest};
use smol::io::{AsyncBufReadExt, BufReader};
use smol::stream::StreamExt;

fn main() -> Result<(), BoxError> {
    smol::block_on(async {
        let client = etcd_watch_smol::connect([etcd_watch_examples::endpoint()]).await?;
        let cache = client.cache(CacheRequest::new(KeyRange::prefix("users/")))?;
        println!("{} users are known", cache.ready().await?.len());
        let mut lines = BufReader::new(smol::Unblock::new(std::io::stdin())).lines();
        while let Some(name) = lines.try_next().await? {
            match cache.get(format!("users/{name}")) {
                Some(user) => println!("{name}: {}", user.value_str()?),
                None => println!("{name}: unknown"),
            }
        }
        Ok(())
    })
}
