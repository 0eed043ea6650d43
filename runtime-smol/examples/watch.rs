//! Watches a prefix until standard input ends: `cargo run --example watch -- http://127.0.0.1:2379 services/`
#![allow(clippy::print_stdout, reason = "it is what the example is for")]

use etcd_watch_smol::{KeyRange, WatchRequest};
use futures_lite::{StreamExt, future};
use smol::{Unblock, io::AsyncReadExt};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let prefix = arguments.next().unwrap_or_default();

    smol::block_on(async {
        let client = etcd_watch_smol::connect([endpoint]).await?;
        let watch = client.watch(WatchRequest::new(KeyRange::prefix(prefix)).prev_kv(true))?;
        let printed = print_all(watch);
        let input_ended = async {
            Unblock::new(std::io::stdin()).read_to_end(&mut Vec::new()).await?;
            Ok(())
        };
        // Whichever comes first; the watch is cancelled by being dropped.
        let result = future::or(printed, input_ended).await;
        client.close().await;
        result
    })
}

async fn print_all(mut watch: etcd_watch_smol::Watch) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(response) = StreamExt::next(&mut watch).await {
        for event in response?.events() {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            let was = event.prev().map(|kv| text(kv.value()));
            println!(
                "{} {:?} {} = {} (was {was:?})",
                event.mod_revision(),
                event.kind(),
                text(event.key()),
                text(event.value()),
            );
        }
    }
    Ok(())
}
