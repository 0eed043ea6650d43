//! Prints every change of the orders, once, across restarts: a file holds the checkpoint of what has been printed.
//!
//! `cargo run -p etcd-watch-examples --bin checkpoint`, or `... -- http://127.0.0.1:2379 orders.checkpoint`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, KeyRange, WatchRequest};
use std::{fs, io::Write};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let file = etcd_watch_examples::file("orders.checkpoint");
    // The first response only says that the watch has begun, so there is a checkpoint before the first order.
    let mut request = WatchRequest::new(KeyRange::prefix("orders/")).created_notify(true);
    if file.exists() {
        request = request.resume(fs::read_to_string(&file)?.parse()?);
    }
    let mut watch = client.watch(request)?;
    while let Some(response) = watch.try_next().await? {
        for event in response.events() {
            println!("{:?} {} {}", event.kind(), event.key_str()?, event.value_str()?);
        }
        // Written to another file, flushed, renamed: after a crash there is the old checkpoint or the new one.
        let mut new = fs::File::create(file.with_extension("new"))?;
        write!(new, "{}", response.checkpoint())?;
        new.sync_all()?;
        fs::rename(file.with_extension("new"), &file)?;
        println!("everything before {} is done", response.checkpoint());
    }
    Ok(())
}
