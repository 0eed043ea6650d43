//! Keeps settings of a type of its own in step with etcd; settings that don't decode change nothing.
//!
//! `cargo run -p etcd-watch-examples --bin config-reload`, or `... -- http://127.0.0.1:2379`
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_tokio::{BoxError, config};

#[derive(Debug, serde::Deserialize)]
struct Settings {
    workers: u32,
    greeting: String,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let mut settings = config::Config::value(&client, "app/settings", config::json::<Settings>)?;
    loop {
        settings.changed().await?;
        match (settings.error(), settings.current()) {
            (Some(error), current) => println!("still {current:?}: {error}"),
            (None, Some(current)) => println!("{} workers say {}", current.workers, current.greeting),
            (None, None) => println!("there are no settings"),
        }
    }
}
