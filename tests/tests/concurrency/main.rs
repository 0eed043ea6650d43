//! Sessions, locks and elections, against the model server and real etcd.
//!
//! A scenario is an async function that is given the kind of server and the runtime of its clients. All of them run on
//! tokio against every server, those that could tell the runtimes apart on the others, too; the contenders of
//! `contenders` are spread over all of them.

#![allow(clippy::print_stdout, reason = "tests say what they measured")]

mod contenders;
mod election;
mod go;
mod loss;
mod mutex;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod servers;
mod session;
mod waiting;
mod world;

use etcd_watch_testkit::harness::EtcdVersion;
use runtime::On;
use world::{Backend, ServerKind, run};

macro_rules! tests_on {
    ($server:expr, $on:expr, $($theme:ident: $($name:ident)*;)*) => {$($(
        #[test]
        fn $name() {
            run(Backend { server: $server, on: $on }, crate::$theme::$name);
        }
    )*)*};
}

macro_rules! on_every_server {
    ($($scenarios:tt)*) => {
        mod model {
            use super::*;
            tests_on! { ServerKind::Model, On::Tokio, $($scenarios)* }
        }
        mod v3_4 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_4), On::Tokio, $($scenarios)* }
        }
        mod v3_5 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_5), On::Tokio, $($scenarios)* }
        }
        mod v3_6 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_6), On::Tokio, $($scenarios)* }
        }
        mod v3_7 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_7), On::Tokio, $($scenarios)* }
        }
    };
}

macro_rules! on_every_runtime {
    ($($scenarios:tt)*) => {
        mod smol {
            use super::*;
            tests_on! { ServerKind::Model, On::Smol, $($scenarios)* }
        }
        mod async_std {
            use super::*;
            tests_on! { ServerKind::Model, On::AsyncStd, $($scenarios)* }
        }
    };
}

on_every_server! {
    session:
        a_session_ends_with_its_lease_and_its_lease_with_it
        a_session_takes_over_a_lease_that_another_has_orphaned
        what_no_session_can_be_is_refused
        a_session_outlives_a_restart_and_lost_connections;
    mutex:
        a_lock_is_held_by_one_and_given_back
        waiters_get_it_in_the_order_they_came
        a_waiter_given_up_in_the_middle_blocks_nobody
        a_lock_given_up_at_any_moment_leaves_no_key
        lockers_of_one_session_exclude_each_other
        keys_of_others_are_honoured
        a_lock_given_back_is_free_at_once
        a_lock_in_a_namespace_is_the_one_with_the_whole_name;
    waiting:
        a_key_deleted_while_disconnected_wakes_its_successor
        a_compaction_while_waiting_loses_no_wake_up
        an_answer_that_was_lost_is_no_second_key;
    loss:
        a_revoked_lease_ends_waiting_and_holding
        a_key_deleted_by_somebody_is_lost
        a_partition_is_noticed_before_the_next_holder
        a_closed_client_holds_nothing;
    election:
        one_leads_and_everybody_sees_every_value
        the_next_candidate_follows_a_leader_that_is_lost
        observers_miss_nothing_through_cuts_and_catch_up_after_compaction
        a_campaign_given_up_is_withdrawn
        a_leadership_goes_over_with_its_lease;
    go:
        go_and_rust_lock_in_turn
        waiters_in_go_and_rust_that_give_up_block_nobody
        go_and_rust_never_hold_it_at_once
        go_and_rust_elect_and_observe_each_other;
    contenders:
        a_hundred_contenders_never_hold_it_at_once_and_all_get_it;
}

on_every_runtime! {
    session:
        a_session_ends_with_its_lease_and_its_lease_with_it;
    mutex:
        a_lock_is_held_by_one_and_given_back
        a_lock_given_up_at_any_moment_leaves_no_key;
    waiting:
        a_compaction_while_waiting_loses_no_wake_up;
    loss:
        a_partition_is_noticed_before_the_next_holder;
    election:
        one_leads_and_everybody_sees_every_value;
}
