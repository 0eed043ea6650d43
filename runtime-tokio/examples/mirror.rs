//! Prints a prefix as it is, then its changes, until Ctrl-C:
//! `cargo run --example mirror -- http://127.0.0.1:2379 services/ [namespace]`
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use etcd_watch_tokio::{KeyRange, Mirror, MirrorEvent, MirrorRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let prefix = arguments.next().unwrap_or_default();

    let mut client = etcd_watch_tokio::connect([endpoint]).await?;
    if let Some(namespace) = arguments.next() {
        // From here on only what is in there, by its name without it.
        client = client.namespaced(namespace)?;
    }
    let mirror = client.mirror(MirrorRequest::new(KeyRange::prefix(prefix)))?;
    tokio::select! {
        result = print_all(mirror) => result?,
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    client.close().await;
    Ok(())
}

async fn print_all(mut mirror: Mirror) -> Result<(), Box<dyn std::error::Error>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(event) = mirror.try_next().await? {
        match event {
            MirrorEvent::Listing { revision, reason } => println!("listing at {revision}: {reason}"),
            MirrorEvent::Snapshot(part) => {
                part.deletes().iter().for_each(|key| println!("- {}", text(key)));
                part.puts().iter().for_each(|kv| println!("+ {} = {}", text(kv.key()), text(kv.value())));
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    println!("{:?} {} = {}", event.kind(), text(event.key()), text(event.value()));
                }
            }
            MirrorEvent::Synced { revision } => println!("this is the store at {revision}"),
            _ => {}
        }
    }
    Ok(())
}
