//! Clusters of three real members: whatever happens to members, links, leaders and stores, every watch on every
//! runtime goes on, and what it received keeps the nine rules.
//!
//! In each scenario a client on tokio, one on smol and one on async-std watch the same keys by way of proxies, one in
//! front of each member, while all of them write. A step does something to the cluster, makes a last write for it,
//! and waits until every watch has seen that; it prints how long that took for the slowest watch of each client. In
//! the end everything received is compared with the store's history.
//!
//! | file | owns |
//! |---|---|
//! | `world` | a cluster, its proxies, the clients, and a scenario's steps |
//! | `settings` | the settings of a client |
//! | `kinds` | what is watched |
//! | `observer` | a watch, and all it has delivered |
//! | `writers` | writes of every kind, through the clients |
//! | `learner` | a member without a vote |
//! | `history` | what really happened, by a watch that is none of ours |
//! | the others | the scenarios, by theme |

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "every step says how long the watches were away")]

mod endpoints;
mod history;
mod kinds;
mod leaderless;
mod learner;
mod links;
mod members;
mod observer;
mod partitions;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod settings;
mod spreading;
mod stores;
mod upgrade;
mod world;
mod writers;

use std::time::Duration;

use etcd_watch_testkit::harness::EtcdVersion;
use tokio::time::timeout;

/// A scenario that takes longer hangs.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(400);

async fn run<F: Future<Output = ()>>(version: EtcdVersion, scenario: impl FnOnce(EtcdVersion) -> F) {
    timeout(SCENARIO_DEADLINE, scenario(version)).await.expect("the scenario ends in time");
}

macro_rules! tests_on {
    ($version:expr, $($theme:ident: $($name:ident)*;)*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            run($version, crate::$theme::$name).await;
        }
    )*)*};
}

macro_rules! scenarios {
    ($($scenarios:tt)*) => {
        mod v3_4 {
            use super::*;
            tests_on! { EtcdVersion::V3_4, $($scenarios)* }
        }
        mod v3_5 {
            use super::*;
            tests_on! { EtcdVersion::V3_5, $($scenarios)* }
        }
        mod v3_6 {
            use super::*;
            tests_on! { EtcdVersion::V3_6, $($scenarios)* }
        }
        mod v3_7 {
            use super::*;
            tests_on! { EtcdVersion::V3_7, $($scenarios)* }
        }
    };
}

scenarios! {
    members:
        members_are_killed_one_after_the_other
        members_freeze_one_after_the_other
        a_member_found_to_hang_is_the_last_choice
        members_are_restarted_one_after_the_other_twice;
    partitions:
        watches_leave_a_member_that_is_cut_off_unless_they_do_without_a_leader;
    links:
        links_are_lost_in_every_way
        a_call_that_was_given_up_leaves_its_connection_of_use;
    endpoints:
        the_member_list_is_followed;
    spreading:
        streams_are_spread_again_after_they_came_together;
    stores:
        another_store_at_the_same_addresses_ends_watches
        a_store_that_goes_back_ends_watches_after_a_while
        a_member_that_lags_is_left_and_nothing_is_lost;
    leaderless:
        without_a_majority_watches_wait_as_long_as_they_are_told;
}

mod upgrades {
    use super::*;
    tests_on! { EtcdVersion::V3_5, upgrade: members_are_upgraded_one_after_the_other_by_two_lines; }
}
