//! `demo`: watches on an etcd whose connections keep breaking, and a comparison with the store's own history.
//!
//! ```text
//! writers ---------------------> embedded etcd ---> history
//!                                      |               |
//! watches <--- client <--- fault proxy +   the testkit's checks ---> report
//!                               ^
//!                             chaos
//! ```

mod chaos;
mod consumer;
mod report;
mod run;
mod store;
mod view;
mod watches;
mod writers;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use crate::{args::DemoArgs, ending::Ending, signals};

/// Seeds that are chosen here are short enough to be typed.
const SEEDS: u64 = 1_000_000;

pub(crate) async fn run(args: &DemoArgs) -> anyhow::Result<Ending> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..SEEDS));
    let mut stop = signals::listen(false);
    let (report, interrupted) = run::run(args.seconds, seed, &mut stop).await?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "\n{report}")?;
    if args.json {
        writeln!(stdout, "{}", report.json())?;
    }
    if !report.is_flawless() {
        return Ok(Ending::Status(ExitCode::FAILURE));
    }
    Ok(interrupted.map_or(Ending::Done, Ending::Signal))
}
