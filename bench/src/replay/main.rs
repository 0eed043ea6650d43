//! A server whose watches get prepared responses as fast as the client takes them:
//! `cargo run --release -p etcd-watch-bench --bin replay -- --events 100 --value 256 --responses 100000`.
//!
//! It answers what clients ask before a watch runs (the status of the member, a revision, the list of members) and has no
//! keys. When as many watches are there as `--watches` says, it sends them responses in turn: each response is one gRPC
//! message that begins a DATA frame of its own, in frames of at most 16 KiB, many frames in one write, as grpc-go does
//! it. A response is encoded once; from one to the next only revisions, ids and times are rewritten, so that the server
//! takes much less of its processor than any client takes of its own. A watch that the client cancels and creates again, as
//! it does behind a slow consumer, goes on at its start revision.
//!
//! It prints its address on the first line. When the client has closed the connection with the watches, it prints what
//! that was sent as a line of JSON, and ends.

// A command line speaks to its user on standard output, and of what is wrong on standard error.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod calls;
mod frame;
mod line;
mod link;
mod message;
mod pump;
mod tap;

use std::{
    net::Ipv4Addr,
    sync::{Arc, atomic::AtomicUsize},
};

use anyhow::{Result, ensure};
use clap::Parser;
use etcd_watch_bench::meter::Served;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};

use crate::{
    calls::Gate,
    link::Link,
    message::{END_REVISION, FIRST_REVISION, STAMP, Shape},
    pump::{Plan, pump},
    tap::Tap,
};

/// Sends prepared watch responses as fast as a client takes them.
#[derive(Clone, Parser)]
#[command(name = "replay")]
struct Arguments {
    /// Events of a response.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    events: u32,
    /// Events of a revision; those of one revision are in one response.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    events_per_revision: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 256)]
    value: usize,
    /// Responses over all watches.
    #[arg(long, default_value_t = 10_000)]
    responses: u64,
    /// So many watches get responses in turn, once all of them are there.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    watches: u32,
    /// Events a second over all watches; the first 8 bytes of each value are the time of sending then, as a
    /// little-endian count of nanoseconds since 1970.
    #[arg(long)]
    rate: Option<f64>,
    /// The port to listen at; 0 for one that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
}

impl Arguments {
    fn plan(&self) -> Result<Plan> {
        let stamped = self.rate.is_some();
        let shape = Shape {
            events: self.events as usize,
            events_per_revision: self.events_per_revision as usize,
            value: self.value,
            stamped,
        };
        ensure!(
            !stamped || self.value >= STAMP,
            "a value with the time of sending has at least {STAMP} bytes"
        );
        ensure!(self.rate.is_none_or(|rate| rate > 0.0), "a rate is above 0");
        ensure!(
            self.responses.is_multiple_of(u64::from(self.watches)),
            "each watch gets as many responses: {} are not divisible by {}",
            self.responses,
            self.watches
        );
        let room = (END_REVISION - FIRST_REVISION).unsigned_abs() / shape.revisions() as u64;
        ensure!(self.responses < room, "at most {} such responses can be sent", room - 1);
        Ok(Plan { shape, responses: self.responses, watches: self.watches as usize, rate: self.rate })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let plan = arguments.plan()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, arguments.port)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    println!("{address}");
    let (started, _) = watch::channel(false);
    let gate = Arc::new(Gate { missing: AtomicUsize::new(plan.watches), started, shape: plan.shape });
    let (over, mut ended) = mpsc::unbounded_channel();
    let sent = loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (socket, _) = accepted?;
                let (gate, over, address) = (gate.clone(), over.clone(), address.clone());
                tokio::spawn(async move {
                    let _ = over.send(connection(plan, socket, gate, address).await);
                });
            }
            Some(sent) = ended.recv() => if let Some(sent) = sent? { break sent },
        }
    };
    println!("{}", serde_json::to_string(&sent)?);
    Ok(())
}

/// Serves a connection until it is closed. What it was sent, if it had watches once all were there.
async fn connection(
    plan: Plan,
    socket: TcpStream,
    gate: Arc<Gate>,
    address: String,
) -> Result<Option<Served>> {
    socket.set_nodelay(true)?;
    let (read, write) = socket.into_split();
    let link = Arc::new(Link::default());
    let served =
        tokio::spawn(calls::serve(Tap::new(link.clone(), read), link.clone(), gate.clone(), address));
    let sent = pump(plan, link.clone(), write, gate.started.subscribe()).await;
    served.abort();
    let had_watches = !link.state().watches().is_empty();
    let is_started = *gate.started.borrow();
    Ok((had_watches && is_started).then_some(sent?))
}
