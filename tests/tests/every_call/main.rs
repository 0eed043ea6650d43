//! Every call of etcd's services `Auth`, `Cluster`, `Maintenance` and `Lease`, made on real servers, with what etcd
//! refuses. (`KV` and `Watch` have tests of their own.)
//!
//! A scenario is an async function that is given the version of the servers it is to start, and the runtime of its
//! clients; the macros below make a test of it for each. One server is shared by several calls, since starts take longest.
//!
//! | file | owns |
//! |---|---|
//! | `world` | clients, and how a refusal is looked at |
//! | `auth` | users, roles, and what needs `root` |
//! | `leases` | leases, listed and revoked |
//! | `members` | who is in a cluster, learners among them |
//! | `leaders` | a leader that is moved, and a cluster that has none |
//! | `one_member` | what is asked of one member, its alarms |
//! | `downgrades` | downgrades, asked about, begun and given up |
//! | `snapshots` | snapshots, whole and cut, streamed and saved |
//! | `corrupting` | a proxy that changes one byte |

#![cfg(unix)]

mod auth;
mod corrupting;
mod downgrades;
#[path = "../cluster/learner.rs"]
mod joined;
mod leaders;
mod leases;
mod members;
mod one_member;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod snapshots;
mod world;

use etcd_watch_testkit::harness::EtcdVersion;
use runtime::On;
use tokio::time::timeout;
use world::{SCENARIO_DEADLINE, Setup};

macro_rules! tests_on {
    ($version:expr, $on:expr, $($theme:ident: $($name:ident)*;)*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let scenario = crate::$theme::$name(Setup { version: $version, on: $on });
            timeout(SCENARIO_DEADLINE, scenario).await.expect("the scenario ends in time");
        }
    )*)*};
}

macro_rules! on_all {
    ($($scenarios:tt)*) => {
        mod v3_5 {
            use super::*;
            tests_on! { EtcdVersion::V3_5, On::Tokio, $($scenarios)* }
        }
        mod v3_7 {
            use super::*;
            tests_on! { EtcdVersion::V3_7, On::Tokio, $($scenarios)* }
        }
        mod smol_v3_7 {
            use super::*;
            tests_on! { EtcdVersion::V3_7, On::Smol, $($scenarios)* }
        }
    };
}

on_all! {
    auth: every_call_about_users_and_roles what_needs_root_is_denied_to_others;
    leases: leases_are_listed_and_revoked;
    members: members_and_learners_come_and_go;
    leaders: the_leader_is_moved_and_one_member_of_three_tells_that_it_has_none;
    one_member:
        every_call_to_one_member
        an_endpoint_that_is_of_no_use_is_told_apart
        a_full_database_is_told_apart_and_made_room_in;
    snapshots:
        a_snapshot_is_streamed_saved_and_restored
        a_snapshot_that_is_cut_leaves_no_file
        a_snapshot_that_was_changed_on_the_way_leaves_no_file
        a_save_that_is_dropped_leaves_no_file;
}

/// Users and roles, on the lines that the others leave out. They are for the night (`.config/nextest.toml`).
mod users_v3_4 {
    use super::*;
    tests_on! {
        EtcdVersion::V3_4, On::Tokio,
        auth: every_call_about_users_and_roles what_needs_root_is_denied_to_others;
    }
}

mod users_v3_6 {
    use super::*;
    tests_on! {
        EtcdVersion::V3_6, On::Tokio,
        auth: every_call_about_users_and_roles what_needs_root_is_denied_to_others;
    }
}

mod downgrading_v3_6 {
    use super::*;
    tests_on! { EtcdVersion::V3_6, On::Tokio, downgrades: a_downgrade_is_asked_about_begun_and_given_up; }
}

mod downgrading_v3_7 {
    use super::*;
    tests_on! { EtcdVersion::V3_7, On::Smol, downgrades: a_downgrade_is_asked_about_begun_and_given_up; }
}
