//! Calls a service by a tonic channel that follows the service's endpoints in etcd.
//!
//! `cargo run -p etcd-watch-examples --bin discovery-channel`, or `... -- http://127.0.0.1:2379`. The service is etcd's own
//! `Maintenance`: register `http://127.0.0.1:2379` as an endpoint of it to have it called.
#![allow(clippy::print_stdout, reason = "it is what the program is for")]

use etcd_watch_proto::etcdserverpb::{StatusRequest, maintenance_client::MaintenanceClient};
use etcd_watch_tokio::{BoxError, balance, discovery::Discovery};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let client = etcd_watch_tokio::connect([etcd_watch_examples::endpoint()]).await?;
    let service = Discovery::new(&client, "services/status")?;
    // The channel follows the endpoints for as long as the handle lives.
    let (channel, handle) = balance::channel(&service)?;
    loop {
        println!("endpoints: {:?}", handle.addresses());
        handle.until(|addresses| !addresses.is_empty()).await;
        match MaintenanceClient::new(channel.clone()).status(StatusRequest {}).await {
            Ok(status) => println!("version {} answers", status.into_inner().version),
            Err(status) => println!("no answer: {}", status.message()),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
