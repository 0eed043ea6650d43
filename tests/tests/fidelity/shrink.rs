//! Takes out of a script what a difference doesn't need.

use std::time::Duration;

use etcd_watch_testkit::harness::binaries::EtcdBinary;

use crate::{difference::Difference, pair::Pair, run::run, script::Step};

/// How often a shorter script is tried. Each time takes a new pair, as a difference may leave one unlike.
const TRIES: usize = 100;

/// Less than it takes on a busy machine: a wrong step costs no more than a longer script.
const PATIENCE: Duration = Duration::from_secs(3);

/// The shortest script found that shows a difference, if a new pair shows one at all.
pub(crate) async fn shrink(
    binary: &EtcdBinary,
    seed: u64,
    steps: &[Step],
) -> Option<(Vec<Step>, Box<Difference>)> {
    let mut found = (steps.to_vec(), attempt(binary, seed, steps).await?);
    let mut chunk = steps.len().div_ceil(2);
    let mut tries = 0;
    loop {
        let mut start = 0;
        let mut shorter = false;
        while start < found.0.len() && tries < TRIES {
            tries += 1;
            let end = (start + chunk).min(found.0.len());
            let rest = [&found.0[..start], &found.0[end..]].concat();
            match attempt(binary, seed, &rest).await {
                Some(difference) => {
                    found = (rest, difference);
                    shorter = true;
                }
                None => start = end,
            }
        }
        if tries == TRIES || (chunk == 1 && !shorter) {
            return Some(found);
        }
        chunk = chunk.div_ceil(2);
    }
}

async fn attempt(binary: &EtcdBinary, seed: u64, steps: &[Step]) -> Option<Box<Difference>> {
    let mut pair = Pair::start(binary, seed, PATIENCE).await;
    run(&mut pair, steps).await.err()
}
