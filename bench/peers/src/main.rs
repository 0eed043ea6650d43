//! The crate etcd-client as its users have it: `etcd-watch-bench-peers ENDPOINT PREFIX WATCHES EVENTS`.
//!
//! It takes events of watches under a prefix until there are as many as expected in all, and prints what that has cost as
//! a line of JSON. All watches are on one stream, which one task takes from.

#[path = "../../src/meter.rs"]
#[allow(dead_code, reason = "the rest of it is for other programs")]
mod meter;
#[path = "../../src/usage.rs"]
#[allow(dead_code, reason = "the rest of it is for other programs")]
mod usage;

use std::env::args;

use anyhow::{Context, Result, ensure};
use etcd_client::{Client, WatchOptions};

use crate::meter::Meter;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = args().skip(1).collect();
    let [endpoint, prefix, watches, events] = &words[..] else {
        anyhow::bail!("usage: etcd-watch-bench-peers ENDPOINT PREFIX WATCHES EVENTS");
    };
    let watches: usize = watches.parse()?;
    let mut client = Client::connect([endpoint], None).await?;
    let options = || Some(WatchOptions::new().with_prefix());
    let mut stream = client.watch(&prefix[..], options()).await?;
    for _ in 1..watches {
        stream.watch(&prefix[..], options()).await?;
    }
    let mut meter = Meter::new(events.parse()?, false);
    while !meter.is_done() {
        let response = stream.message().await?.context("the stream has ended")?;
        ensure!(!response.canceled(), "a watch was cancelled: {}", response.cancel_reason());
        if response.events().is_empty() {
            continue;
        }
        meter.response();
        for event in response.events() {
            let kv = event.kv().context("an event without a key")?;
            meter.event(kv.key(), kv.value(), kv.mod_revision());
        }
    }
    println!("{}", serde_json::to_string(&meter.figures()?)?);
    Ok(())
}
