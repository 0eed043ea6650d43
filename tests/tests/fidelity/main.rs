//! The model is as real servers are: random scripts run on both, and what both say is compared, as far as servers are
//! not free to say it otherwise.
//!
//! A script opens streams, creates and cancels watches, asks for progress, and changes the store meanwhile. It is run
//! in rounds: where an answer depends on who is quicker, the run waits until it no longer does, or leaves out of the
//! comparison what is a matter of speed (`compare` says what that is, and why).
//!
//! `FIDELITY_SCRIPTS` is how many scripts are run on each server, `FIDELITY_SEED` the seed of the first.
//!
//! | file | owns |
//! |---|---|
//! | `script`, `author` | what is said to servers, and who makes it up |
//! | `pair`, `side`, `calls` | the two servers, and what is between them and a script |
//! | `run` | a script under way: when to wait for what |
//! | `talk` | one stream as it has to be |
//! | `log` | one stream as one side has it |
//! | `compare`, `difference` | what is compared of two logs, and how a difference is shown |
//! | `shrink` | a shorter script with the same effect |

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "tests say what they measured")]

mod author;
mod calls;
mod compare;
mod difference;
mod figures;
mod log;
mod pair;
mod run;
mod script;
mod shrink;
mod side;
mod talk;

use std::{
    env,
    fmt::Write,
    time::{Duration, Instant},
};

use etcd_watch_testkit::harness::{EtcdVersion, binaries::EtcdBinary};

use author::Author;
use difference::{Difference, shortened};
use figures::Figures;
use pair::Pair;
use script::Step;

/// The largest request that servers take. Small, so that responses are cut early.
const MAX_REQUEST_BYTES: usize = 64 << 10;

/// For any one thing that is waited for: much longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// Scripts that are run on each server if nobody says how many.
const DEFAULT_SCRIPTS: u64 = 8;

/// Scripts that are run on one pair, before the next gets a new one.
const SCRIPTS_PER_PAIR: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_as_etcd_3_4() {
    compare_with(&EtcdVersion::V3_4.find().expect("a real server")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_as_etcd_3_5() {
    compare_with(&EtcdVersion::V3_5.find().expect("a real server")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_as_etcd_3_6() {
    compare_with(&EtcdVersion::V3_6.find().expect("a real server")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_as_etcd_3_7() {
    compare_with(&EtcdVersion::V3_7.find().expect("a real server")).await;
}

/// Only those that `ETCD_BIN` brings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_is_as_etcd_of_other_lines() {
    for version in EtcdVersion::additional().expect("real servers") {
        compare_with(&version.find().expect("a real server")).await;
    }
}

/// A number from the environment.
fn setting(name: &str, default: u64) -> u64 {
    env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

async fn compare_with(binary: &EtcdBinary) {
    let started = Instant::now();
    let first = setting("FIDELITY_SEED", 1);
    let seeds = first..first + setting("FIDELITY_SCRIPTS", DEFAULT_SCRIPTS);
    let mut figures = Figures::default();
    let mut pair = None;
    for seed in seeds.clone() {
        let pair_seed = seed - (seed - first) % SCRIPTS_PER_PAIR;
        if pair_seed == seed || pair.is_none() {
            pair = Some(Pair::start(binary, pair_seed, PATIENCE).await);
        }
        let Some(both) = &mut pair else { continue };
        let steps = Author::write(seed);
        match run::run(both, &steps).await {
            Ok(more) => figures += more,
            Err(difference) => {
                // Not amid the panic: its log has nothing to say here.
                drop(pair.take());
                println!("{binary}, seed {seed}: {difference}");
                let report = report(binary, seed, pair_seed, &steps, &difference).await;
                panic!("{report}");
            }
        }
    }
    println!("{binary}, seeds {seeds:?}, in {:.1?}: {figures}", started.elapsed());
    let missing = figures.missing();
    assert!(
        missing.is_empty() || seeds.end - seeds.start < DEFAULT_SCRIPTS,
        "nothing was compared of: {missing:?}"
    );
}

async fn report(
    binary: &EtcdBinary,
    seed: u64,
    pair_seed: u64,
    steps: &[Step],
    difference: &Difference,
) -> String {
    let mut report = format!("{binary}, seed {seed} on a pair of seed {pair_seed}: {difference}");
    let shrunk = shrink::shrink(binary, pair_seed, steps).await;
    let steps = match &shrunk {
        Some((shorter, difference)) => {
            let _infallible = write!(report, "\na shorter script shows that {difference}\nit is:\n");
            shorter
        }
        None => {
            report += "\na new pair doesn't show it; the script was:\n";
            steps
        }
    };
    for step in steps {
        let _infallible = writeln!(report, "    {}", shortened(&format!("{step:?}")));
    }
    report
}
