//! What an idle watch costs in memory: `cargo run --release -p etcd-watch-bench --bin idle`.
//!
//! Two figures are taken. The machine alone is measured by the bytes that it has asked the allocator for. A whole client
//! on tokio is measured by that and by what the process holds in memory, which has the allocator's own share in it; the
//! server runs in a process of its own. Each watch has one key of its own of 23 bytes, has been created, and has been
//! polled once, so that its waker is registered. The program fails if a watch costs more than [`MOST`].

// A command line speaks to its user on standard output.
#![allow(clippy::print_stdout)]

mod machine;

use std::{
    env,
    io::{BufRead, BufReader, Read, Write, stdin, stdout},
    pin::pin,
    process::{Child, Command, Stdio},
    task::{Context, Waker},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use etcd_watch_bench::{PREFIX, running::all_run, usage};
use etcd_watch_testkit::{model::ModelConfig, server::EmbeddedEtcd};
use etcd_watch_tokio::{Client, KeyRange, Watch, WatchConfig, WatchRequest};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What an idle watch may cost in all, in bytes of the process's memory.
const MOST: usize = 512;

/// Measures the memory of idle watches.
#[derive(Parser)]
#[command(name = "idle")]
struct Arguments {
    /// How many watches there are.
    #[arg(long, default_value_t = 100_000)]
    watches: usize,
    /// Measure the machine alone. The program starts itself with this, so that each figure is of a process of its own.
    #[arg(long, hide = true)]
    machine: bool,
    /// Be the server. The program starts itself with this.
    #[arg(long, hide = true)]
    serve: bool,
}

fn main() -> Result<()> {
    let Arguments { watches, machine, serve } = Arguments::parse();
    if machine {
        machine::measure(watches);
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if serve {
        return runtime.block_on(run_server());
    }
    let mut alone = Command::new(env::current_exe()?);
    let status = alone.args(["--machine", "--watches", &watches.to_string()]).status()?;
    ensure!(status.success(), "the machine alone could not be measured");
    let of_process = client(&runtime, watches)?;
    ensure!(of_process <= MOST, "an idle watch costs {of_process} bytes, at most {MOST}");
    Ok(())
}

/// The key of a watch.
fn key(index: usize) -> String {
    format!("{PREFIX}{index:08}")
}

/// Serves until nobody holds the other end of the standard input.
async fn run_server() -> Result<()> {
    let etcd = EmbeddedEtcd::start(ModelConfig::default()).await?;
    println!("{}", etcd.endpoint());
    stdout().flush()?;
    tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}

/// What a watch of a whole client costs, in bytes of the process's memory.
fn client(runtime: &tokio::runtime::Runtime, count: usize) -> Result<usize> {
    let server = Server::start()?;
    runtime.block_on(async {
        let config = WatchConfig::default().max_watches_per_stream(count + 1);
        let builder = etcd_watch_tokio::builder().endpoints([&server.endpoint]).watch_config(config);
        let client = builder.connect_lazy()?;
        let mut watches: Vec<Watch> = Vec::with_capacity(count + 1);
        watches.push(open(&client, count)?);
        all_run(&client, &watches).await?;
        let (allocated, resident) = (ALLOCATOR.current_usage(), usage::rss()?);
        for index in 0..count {
            watches.push(open(&client, index)?);
        }
        all_run(&client, &watches).await?;
        let per_watch = |after: usize, before: usize| after.saturating_sub(before) / count;
        let handle = size_of::<Watch>();
        let asked_for = per_watch(ALLOCATOR.current_usage(), allocated) + handle;
        // The handles' pages are touched as they are filled.
        let of_process = per_watch(usage::rss()?, resident);
        println!(
            "a client with {count} watches: {asked_for} bytes for each, {handle} of them the handle; \
             {of_process} in the process's memory"
        );
        Ok(of_process)
    })
}

/// A watch whose consumer waits. It begins at the next revision of an empty store.
fn open(client: &Client, index: usize) -> Result<Watch> {
    let mut watch = client.watch(WatchRequest::new(KeyRange::key(key(index))).start_revision(2))?;
    let mut cx = Context::from_waker(Waker::noop());
    ensure!(pin!(watch.next()).poll(&mut cx).is_pending(), "nothing has come");
    Ok(watch)
}

/// The server's process. It ends with this one's end of its standard input.
struct Server {
    endpoint: String,
    _child: Child,
}

impl Server {
    fn start() -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("--serve").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("can't start the server")?;
        let output = child.stdout.take().context("the server has an output")?;
        let mut endpoint = String::new();
        BufReader::new(output).read_line(&mut endpoint)?;
        Ok(Self { endpoint: endpoint.trim().to_owned(), _child: child })
    }
}
