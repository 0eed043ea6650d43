//! A soak: a real cluster of three under fire, for as long as one likes, and everything that clients on both runtimes
//! deliver checked against what really happened.
//!
//! Writers put, delete and let leases run out, by way of the clients that watch. Hundreds of watches of every class
//! come and go, with consumers that are eager, slow or stall; mirrors and caches stay. Sessions contend for a lock and for
//! an election. Meanwhile members are killed, frozen, partitioned and defragmented; others are added, and removed or lost
//! with their data; all are upgraded to the next line and go back; a quota is used up, and a disk is full; connections are
//! cut, held and delayed, and packets lost; history is compacted, and now and then all members go back to a snapshot.
//!
//! What really happened is written down by a watch of everything over the generated stubs, with none of our client in
//! it, and proves itself: no revision may be missing, and every change has to fit what was there before. History is
//! compacted only as far as it is written down.
//!
//! | promise | how it is checked |
//! |---|---|
//! | the nine rules of [`checks`](etcd_watch_testkit::checks) | each second, on what has come since |
//! | a watch that ends says up to where it delivered everything | by the rules, up to there |
//! | a watch ends only if history is compacted, it was to end when its consumer lags, or the store went back | by its reason |
//! | mirrors and caches are exact at the revision they say | each second, key by key |
//! | calls are linearizable, and what says that it was not executed was not | when everything comes to rest, by [`linearizable`](etcd_watch_testkit::linearizable) |
//! | one owner of a lock and one leader at a time; whoever waits keeps its place | each write under that condition is held against the queue as it was then |
//! | `is_held` is false once the key of the lock or the leader is gone | against what was recorded, at each write |
//! | an observer is told of every leader and every value, in order | against the recorded history, except for what was compacted |
//! | nothing hangs | all have to come to a mark, a write of everything, within [`Settings::patience`] |
//! | everybody's turn comes | when the faults are over, within [`Settings::patience`] |
//! | after a restore all watches end, and all copies are the store again | key by key |
//! | nothing is left behind | in the end neither clients nor members hold a watch |
//!
//! | file | owns |
//! |---|---|
//! | `settings` | what a soak is to be like |
//! | `world` | the cluster and the proxies |
//! | `clients` | the clients |
//! | `keys`, `writers` | what is written |
//! | `calls` | calls that are written down |
//! | `contenders`, `turns` | who contends, and whose turn it was |
//! | `classes`, `observer`, `watches` | what is watched |
//! | `replicas` | mirrors and caches |
//! | `faults`, `storm` | what is broken, and how |
//! | `recorder`, `ledger`, `clock` | what really happened, and when |
//! | `checking`, `finding`, `sabotage` | what is compared with what |
//! | `soak`, `rest` | the order of it all |
//! | `journal`, `samples`, `lags`, `report`, `chart`, `svg` | what is told of it |

#![cfg(unix)]
#![allow(clippy::exhaustive_enums, reason = "only the soak's own tests and program use them")]

mod calls;
mod chart;
mod checking;
mod classes;
mod clients;
mod clock;
mod contenders;
mod error;
mod faults;
mod finding;
mod journal;
mod keys;
mod lags;
mod ledger;
mod observer;
mod recorder;
mod replicas;
mod report;
mod rest;
mod sabotage;
mod samples;
mod settings;
mod soak;
mod storm;
mod svg;
mod turns;
mod watches;
mod world;
mod writers;

use tokio::sync::watch;

pub use contenders::Contended;
pub use error::SoakError;
pub use faults::{Done, Fault, Target};
pub use finding::Finding;
pub use lags::Worst;
pub use report::Report;
pub use samples::Sample;
pub use settings::{Sabotage, Settings};
pub use watches::Counts;
pub use writers::Writes;

/// Does a soak on a multi-threaded runtime of tokio; ends early, but in good order, once `stop` says so.
///
/// # Errors
/// If it can't be done: that promises were broken is in the [`Report`].
///
/// # Panics
/// On a single-threaded runtime.
pub async fn run(settings: Settings, stop: watch::Receiver<bool>) -> Result<Report, SoakError> {
    let mut soak = soak::Soak::new(settings).await?;
    let stopped = soak.run(&stop).await;
    soak.report(stopped).await
}
