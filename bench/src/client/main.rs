//! One client that watches, in a process of its own: `client events --with tokio --endpoint http://127.0.0.1:2379`.
//!
//! It prints what it took and what that has cost as a line of JSON. The program `bench` starts it beside a server; by
//! hand, start `replay` first, and give both the same numbers of events.

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod idle;
mod on;
mod opening;
mod ours;
mod raw;
mod transport;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use etcd_watch_tokio::Client;
use serde::Serialize;

use crate::on::On;

/// Watches a server, and tells what that has cost.
#[derive(Parser)]
#[command(name = "client")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// What watches.
    #[arg(long, global = true, default_value = "tokio")]
    with: With,
    #[arg(long, global = true, default_value = "http://127.0.0.1:2379")]
    endpoint: String,
    #[arg(long, global = true, default_value_t = 1)]
    watches: usize,
    /// Watches on a stream at most. [default: all of them]
    #[arg(long, global = true)]
    per_stream: Option<usize>,
}

#[derive(Subcommand)]
enum Task {
    /// Takes all events that a `replay` sends, of watches of the same keys.
    Events(Events),
    /// Opens watches of a key each, and tells the time until all are created.
    Create,
    /// Opens watches of one key and says `ready`. When the key has changed while the connection was broken, tells the time
    /// between the first watch that hears of it and the last.
    Resume,
    /// Opens watches of a key each, and tells the memory that they take, and the time that their statistics take.
    Idle,
}

#[derive(Args)]
struct Events {
    /// So many events end the run.
    #[arg(long)]
    events: u64,
    /// The values carry the time of sending.
    #[arg(long)]
    stamped: bool,
    /// So many of the watches are not taken from.
    #[arg(long, default_value_t = 0)]
    stuck: usize,
    /// Events in a response, for a client that doesn't decode.
    #[arg(long, default_value_t = 1)]
    events_per_response: u64,
}

/// A client, and what it runs on.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum With {
    /// This project's client, on tokio with one thread.
    Tokio,
    /// The same on tokio as `#[tokio::main]` has it.
    TokioMulti,
    /// The same on an executor of smol with one thread.
    Smol,
    /// The same on smol's global executor.
    SmolGlobal,
    /// tonic and prost by hand, on tokio with one thread.
    Raw,
    /// HTTP/2 alone, on tokio with one thread.
    Transport,
}

/// How long something took.
#[derive(Serialize)]
struct Took {
    seconds: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.task {
        Task::Events(events) => arguments.events(events),
        Task::Create => arguments.create(),
        Task::Resume => arguments.resume(),
        Task::Idle => arguments.idle(),
    }
}

fn tell(figures: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(figures)?);
    Ok(())
}

impl Arguments {
    fn events(&self, events: &Events) -> Result<()> {
        let watches = self.watches;
        let figures = match self.with {
            With::Raw => on::one_thread()?.block_on(raw::events(&self.endpoint, watches, events)),
            With::Transport => on::one_thread()?.block_on(transport::events(&self.endpoint, watches, events)),
            _ => self.with_client(async |client| ours::events(client, watches, events).await),
        };
        tell(&figures?)
    }

    fn create(&self) -> Result<()> {
        let watches = self.watches;
        let seconds = match self.with {
            With::Raw => on::one_thread()?.block_on(raw::create_all(&self.endpoint, watches)),
            _ => self.with_client(async |client| opening::create(client, watches).await),
        };
        tell(&Took { seconds: seconds? })
    }

    fn resume(&self) -> Result<()> {
        let watches = self.watches;
        let seconds = self.with_client(async |client| opening::resume(client, watches).await)?;
        tell(&Took { seconds })
    }

    fn idle(&self) -> Result<()> {
        let watches = self.watches;
        tell(&self.with_client(async |client| idle::measure(client, watches).await)?)
    }

    /// Runs a task with this project's client.
    fn with_client<T>(&self, task: impl AsyncFnOnce(&Client) -> Result<T>) -> Result<T> {
        // All of them on one stream, unless told otherwise: that is what a frame meets.
        self.on()?.run(&self.endpoint, self.per_stream.unwrap_or(self.watches), task)
    }

    /// What this project's client runs on.
    fn on(&self) -> Result<On> {
        Ok(match self.with {
            With::Tokio => On::Tokio(on::one_thread()?),
            With::TokioMulti => On::Tokio(on::many_threads()?),
            With::Smol => On::Smol,
            With::SmolGlobal => On::SmolGlobal,
            with => bail!("{with:?} can't do this"),
        })
    }
}
