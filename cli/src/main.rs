//! `etcd-watch`: watches that survive every cut, from the command line.
//!
//! | file | owns |
//! |---|---|
//! | `args` | flags and variables |
//! | `connect` | the client they ask for |
//! | `watch`, `kv`, `lock`, `elect`, `endpoints` | the commands |
//! | `snapshot` | the command `snapshot save` |
//! | `mirror` | the command `mirror`, and what replicates into another etcd |
//! | `command` | what `watch` runs for each event |
//! | `child` | the environment of those two commands |
//! | `held` | what `lock` runs while it holds the lock |
//! | `until` | when `--until-rev` is done |
//! | `output` | etcdctl's formats |
//! | `log` | standard error |
//! | `errors` | the library's errors in the words of the command line |
//! | `signals` | Ctrl-C and SIGTERM |
//! | `ending` | the status of the process |
//! | `demo` | the demonstration |

mod args;
mod child;
mod command;
mod connect;
#[cfg(feature = "demo")]
mod demo;
mod duration;
mod elect;
mod ending;
mod endpoints;
mod errors;
mod held;
mod kv;
mod lock;
mod log;
mod mirror;
mod output;
mod signals;
mod snapshot;
mod until;
mod watch;

use std::{io, process::ExitCode};

use args::{Cli, Command};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::from_process();
    log::start(&command);
    let must_be_read = command.must_be_read();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("can't start")),
    };
    let result = runtime.block_on(async {
        match command {
            Command::Watch(args) => watch::run(&global, &args).await,
            Command::Get(args) => kv::get(&global, &args).await,
            Command::Put(args) => kv::put(&global, args).await,
            Command::Del(args) => kv::delete(&global, &args).await,
            Command::Mirror(args) => mirror::run(&global, &args).await,
            Command::Lock(args) => lock::run(&global, &args).await,
            Command::Elect(args) => elect::run(&global, &args).await,
            Command::Endpoints(args) => endpoints::run(&global, &args).await,
            Command::Snapshot(args) => snapshot::run(&global, args).await,
            #[cfg(feature = "demo")]
            Command::Demo(args) => demo::run(&args).await,
        }
    });
    log::connecting_or_ending();
    // A put that waits for standard input must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(ending) => ending.status(),
        // A reader that has read enough; but nobody has read what the demo found.
        Err(error) if is_broken_pipe(&error) && !must_be_read => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    log::error(errors::in_one_line(error));
    ExitCode::FAILURE
}
