//! Calls are linearizable, and what may be stale is only that, whatever happens to connections, servers and leaders.
//!
//! Clients on tokio, smol and async-std make calls at random, by way of proxies that cut, delay, hold and swallow. Each
//! call is written down with its time, one that may have been executed as open; reads of caches are, too. In the end all
//! of it is held against the store's history, which a watch with none of our client in it has read
//! ([`etcd_watch_testkit::linearizable`]).
//!
//! `ETCD_WATCH_CALLS_SECONDS` makes each run longer, `ETCD_WATCH_CALLS_SEED` another one.

#![allow(clippy::print_stdout, reason = "the seed, and what was done, are of interest where it failed")]

#[cfg(unix)]
mod cluster;
mod faults;
#[path = "../cluster/history.rs"]
mod history;
mod planted;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod world;

use std::{env, str::FromStr, time::Duration};

use etcd_watch_testkit::linearizable::Checked;
use world::{Kind, World};

/// How long calls are made, unless somebody wants more.
const SECONDS: u64 = 4;

fn from_env<T: FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value}: not a number")))
}

fn duration(default: u64) -> Duration {
    Duration::from_secs(from_env("ETCD_WATCH_CALLS_SECONDS").unwrap_or(default))
}

fn seed(default: u64) -> u64 {
    let seed = from_env("ETCD_WATCH_CALLS_SEED").unwrap_or(default);
    println!("seed {seed}");
    seed
}

async fn calls_are_linearizable_through_faults(kind: Kind, number: u64) {
    let seed = seed(number);
    let world = World::start(kind).await;
    let run = world.run(seed, duration(SECONDS), world.strike(seed)).await;
    let checked = run.check().await;
    println!("{checked:?}");
    assert_enough(&checked);
}

/// There was enough of everything, on a slow machine too.
fn assert_enough(checked: &Checked) {
    assert!(checked.writes > 20 && checked.reads > 20 && checked.expired > 0, "{checked:?}");
    assert!(checked.unknown > 0 && checked.unverified == 0, "{checked:?}");
}

mod model {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_are_linearizable_through_faults() {
        super::calls_are_linearizable_through_faults(Kind::Model, 1).await;
    }
}

#[cfg(unix)]
macro_rules! tests_on {
    ($($module:ident: $version:ident, $seed:literal;)*) => {$(
        #[cfg(unix)]
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn calls_are_linearizable_through_faults() {
                let kind = Kind::Real(etcd_watch_testkit::harness::EtcdVersion::$version);
                super::calls_are_linearizable_through_faults(kind, $seed).await;
            }
        }
    )*};
}

#[cfg(unix)]
tests_on! {
    v3_4: V3_4, 2;
    v3_5: V3_5, 3;
    v3_6: V3_6, 4;
    v3_7: V3_7, 5;
}
