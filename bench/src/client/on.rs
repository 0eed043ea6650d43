//! What this project's client runs on.

use std::{io, sync::Arc, time::Duration};

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

impl On {
    /// Runs a task with a client that is connected and puts at most this many watches on a stream.
    pub(crate) fn run<T>(
        self,
        endpoint: &str,
        per_stream: usize,
        task: impl AsyncFnOnce(&Client) -> Result<T>,
    ) -> Result<T> {
        match self {
            Self::Tokio(runtime) => runtime.block_on(async {
                let client = connect(etcd_watch_tokio::builder(), endpoint, per_stream).await?;
                task(&client).await
            }),
            Self::Smol => {
                let executor = Arc::new(Executor::new());
                smol::block_on(executor.run(async {
                    let builder = ClientBuilder::on(SmolRuntime::on(executor.clone()));
                    let client = connect(builder, endpoint, per_stream).await?;
                    task(&client).await
                }))
            }
            Self::SmolGlobal => smol::block_on(async {
                let client = connect(etcd_watch_smol::builder(), endpoint, per_stream).await?;
                task(&client).await
            }),
        }
    }
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
