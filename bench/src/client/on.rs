//! What this project's client runs on.

use std::{future::Future, io, pin::Pin, sync::Arc, time::Duration};

use anyhow::Result;
use etcd_watch_smol::SmolRuntime;
use etcd_watch_tokio::{Client, ClientBuilder, WatchConfig};
use smol::Executor;
use tokio::runtime::{Builder, Runtime};

/// A runtime.
pub(crate) enum On {
    Tokio(Runtime),
    /// An executor of its own, with one thread.
    Smol,
    SmolGlobal,
}

/// How long a client tries to reach a server that is gone.
const UNREACHABLE: Duration = Duration::from_secs(5);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A client, and what spawns tasks beside it and sleeps.
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    spawn: &'a dyn Fn(Task),
    pub(crate) sleep: fn(Duration) -> Task,
}

impl Session<'_> {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        (self.spawn)(Box::pin(task));
    }
}

impl On {
    /// Runs a task with a client that is connected and puts at most this many watches on a stream.
    pub(crate) fn run<T>(
        self,
        endpoint: &str,
        per_stream: usize,
        task: impl AsyncFnOnce(Session<'_>) -> Result<T>,
    ) -> Result<T> {
        match self {
            Self::Tokio(runtime) => runtime.block_on(async {
                let client = connect(etcd_watch_tokio::builder(), endpoint, per_stream).await?;
                task(Session { client, spawn: &|task| drop(tokio::spawn(task)), sleep: tokio_sleep }).await
            }),
            Self::Smol => {
                let executor = Arc::new(Executor::new());
                smol::block_on(executor.run(async {
                    let builder = ClientBuilder::on(SmolRuntime::on(executor.clone()));
                    let client = connect(builder, endpoint, per_stream).await?;
                    task(Session { client, spawn: &|task| executor.spawn(task).detach(), sleep: smol_sleep })
                        .await
                }))
            }
            Self::SmolGlobal => smol::block_on(async {
                let client = connect(etcd_watch_smol::builder(), endpoint, per_stream).await?;
                task(Session { client, spawn: &|task| smol::spawn(task).detach(), sleep: smol_sleep }).await
            }),
        }
    }
}

fn tokio_sleep(time: Duration) -> Task {
    Box::pin(tokio::time::sleep(time))
}

fn smol_sleep(time: Duration) -> Task {
    Box::pin(async move { _ = smol::Timer::after(time).await })
}

async fn connect(builder: ClientBuilder, endpoint: &str, per_stream: usize) -> Result<Client> {
    // A server that has ended ends the run.
    let config =
        WatchConfig::default().max_watches_per_stream(per_stream).unreachable_deadline(Some(UNREACHABLE));
    Ok(builder.endpoints([endpoint]).watch_config(config).connect().await?)
}

pub(crate) fn one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

pub(crate) fn many_threads() -> io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}
