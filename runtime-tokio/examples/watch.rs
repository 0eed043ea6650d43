//! Watches a prefix until Ctrl-C: `cargo run --example watch -- http://127.0.0.1:2379 services/`
#![allow(clippy::print_stdout)]

use etcd_watch_tokio::{KeyRange, WatchRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let endpoint = arguments.next().unwrap_or_else(|| "http://127.0.0.1:2379".into());
    let prefix = arguments.next().unwrap_or_default();

    let client = etcd_watch_tokio::connect([endpoint]).await?;
    let mut watch = client.watch(WatchRequest::new(KeyRange::prefix(prefix)).prev_kv(true))?;
    loop {
        let response = tokio::select! {
            response = watch.try_next() => response?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                watch.cancel();
                client.close().await;
                return Ok(());
            }
        };
        let Some(response) = response else { return Ok(()) };
        for event in response.events() {
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
}
