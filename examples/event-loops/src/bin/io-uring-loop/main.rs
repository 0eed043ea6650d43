//! An etcd watch on `compio`: one thread, whose reads and writes io_uring completes. (Where the kernel
//! does not let it, `compio` falls back to epoll.)
//!
//! ```text
//! io-uring-loop ENDPOINT[,ENDPOINT...] PREFIX [--rev REVISION] [--events COUNT]
//! ```
//!
//! It prints a line for each event, and ends after so many events or when its standard input is closed.
//!
//! | file | what it owns |
//! |---|---|
//! | `driver` | the machine: its actions, inputs and timeouts |
//! | `link` | one connection and the call on it, as a local task |

#[cfg(target_os = "linux")]
mod driver;
#[cfg(target_os = "linux")]
mod link;

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    use compio::runtime::{Runtime, spawn_blocking};
    use etcd_watch_event_loops::{
        args::Args,
        output::{log, until_stdin_closes},
    };

    let args = Args::parse(std::env::args().skip(1))?;
    let runtime = Runtime::new()?;
    log(format_args!("compio on {:?}", runtime.driver_type()));
    runtime.block_on(async {
        let driver = driver::Driver::start(args)?;
        let stdin = spawn_blocking(until_stdin_closes);
        let closing = driver.clone();
        compio::runtime::spawn(async move {
            // However it ended, there is nobody left.
            let _ = stdin.await;
            closing.shutdown();
        })
        .detach();
        driver.end().await
    })
}

#[cfg(not(target_os = "linux"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    Err("io_uring is Linux's; readiness-loop runs here".into())
}
