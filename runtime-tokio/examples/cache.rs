//! Keeps the keys under a prefix at hand, as text, and tells what changes until Ctrl-C:
//! `cargo run --example cache -- http://127.0.0.1:2379 settings/`
#![allow(clippy::print_stdout)]

use etcd_watch_tokio::{
    KeyRange,
    cache::{CacheEvent, CacheRequest, SubscribeRequest, TypedCache},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let range = KeyRange::prefix(arguments.next().unwrap_or_default());

    let client = etcd_watch_tokio::connect([endpoint]).await?;
    let decode = |_: &[u8], value: &[u8]| String::from_utf8(value.to_vec());
    let cache: TypedCache<String> = client.cache(CacheRequest::new(range.clone()).typed(decode))?;
    let mut changes = cache.subscribe(SubscribeRequest::new(range).initial_state(true))?;
    loop {
        let event = tokio::select! {
            event = changes.try_next() => event?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                println!("{:?}", cache.stats());
                cache.close();
                client.close().await;
                return Ok(());
            }
        };
        let batch = match event {
            None => return Ok(()),
            Some(CacheEvent::Initial(initial)) => {
                for kv in &initial {
                    println!("{} = {:?}", text(kv.key()), kv.decoded());
                }
                continue;
            }
            Some(CacheEvent::Changes(batch)) => batch,
            Some(CacheEvent::Resynced { reason, changes }) => {
                println!("what has changed meanwhile ({reason:?}):");
                changes
            }
            Some(_) => continue,
        };
        for change in batch.changes() {
            let (now, was) = (change.kv(), change.prev());
            let (now, was) = (now.map(|kv| text(kv.value())), was.map(|kv| text(kv.value())));
            println!("{} {} = {now:?} (was {was:?})", change.revision(), text(change.key()));
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
