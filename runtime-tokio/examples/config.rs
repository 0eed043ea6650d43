//! Follows a configuration in JSON, one key for each setting, until Ctrl-C:
//! `cargo run --features json --example config -- http://127.0.0.1:2379 app/`
//!
//! Try `etcdctl put app/limits/requests 5` and `etcdctl put app/limits/requests nonsense`.
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use etcd_watch_tokio::config::{Config, json_tree};
use serde_json::Value;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let prefix = arguments.next().unwrap_or_else(|| "app/".into());

    let client = etcd_watch_tokio::connect([endpoint]).await?;
    // A program would have a type of its own here, with serde's `Deserialize`.
    let mut config: Config<Value> = Config::tree(&client, prefix, json_tree)?;
    loop {
        tokio::select! {
            changed = config.changed() => changed?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                client.close().await;
                return Ok(());
            }
        }
        match (config.current(), config.error()) {
            (_, Some(error)) => println!("{error}; the last good one stays"),
            (Some(value), None) => println!("{value}"),
            (None, None) => println!("there is none"),
        }
    }
}
