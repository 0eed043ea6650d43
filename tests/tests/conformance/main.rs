//! One suite of scenarios, run with clients on tokio, smol and async-std against the model server and real etcd 3.4, 3.5,
//! 3.6 and 3.7.
//!
//! On every change, clients on tokio meet every server, those on smol the model and 3.7, and those on async-std the
//! model. The rest is for the night: `cargo xtask test --all-servers`. `.config/nextest.toml` has that choice.
//!
//! A scenario is an async function that is given a [`Backend`](world::Backend); the macro below makes a test of
//! it for each. What watches received is compared with the store's history by
//! [`etcd_watch_testkit::checks`]. A server of yet another line in `ETCD_BIN` goes through all of them in one test for
//! each runtime.

mod basics;
mod cancel;
mod compaction;
mod cuts;
mod isolation;
mod kv;
mod liveness;
mod observer;
mod progress;
mod runtime;
mod sizes;
mod slow;
mod workload;
mod world;

use etcd_watch_testkit::harness::EtcdVersion;
use runtime::On;
use world::{ServerKind, run};

macro_rules! tests_on {
    ($server:expr, $on:expr, $($theme:ident: $($name:ident)*;)*) => {$($(
        #[test]
        fn $name() {
            run($server, $on, crate::$theme::$name);
        }
    )*)*};
}

macro_rules! tests_on_every_server {
    ($on:expr, $($scenarios:tt)*) => {
        mod model {
            use super::*;
            tests_on! { ServerKind::Model, $on, $($scenarios)* }
        }
        mod v3_4 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_4), $on, $($scenarios)* }
        }
        mod v3_5 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_5), $on, $($scenarios)* }
        }
        mod v3_6 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_6), $on, $($scenarios)* }
        }
        mod v3_7 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_7), $on, $($scenarios)* }
        }
        mod given {
            use super::*;
            every_one_of! { $on, $($scenarios)* }
        }
    };
}

macro_rules! scenarios {
    ($($scenarios:tt)*) => {
        mod tokio {
            use super::*;
            tests_on_every_server! { On::Tokio, $($scenarios)* }
        }
        mod smol {
            use super::*;
            tests_on_every_server! { On::Smol, $($scenarios)* }
        }
        mod async_std {
            use super::*;
            tests_on_every_server! { On::AsyncStd, $($scenarios)* }
        }
    };
}

macro_rules! every_one_of {
    ($on:expr, $($theme:ident: $($name:ident)*;)*) => {
        #[test]
        fn every_scenario_on_another_line_in_etcd_bin() {
            for version in EtcdVersion::additional().expect("ETCD_BIN names servers") {
                $($(
                    println!("{version}: {}", stringify!($name));
                    run(ServerKind::Real(version.clone()), $on, crate::$theme::$name);
                )*)*
            }
        }
    };
}

scenarios! {
    basics:
        every_kind_of_watch_keeps_the_nine_rules
        many_watches_each_see_only_their_own
        the_ends_of_the_key_space_are_watched
        what_can_never_be_served_is_refused_at_once
        watches_start_in_the_past_now_and_in_the_future
        previous_values_come_if_asked_for
        filters_leave_out_one_kind_of_event;
    cuts:
        every_kind_of_watch_keeps_the_nine_rules_through_cuts
        a_cut_at_any_byte_of_the_first_exchange_loses_nothing
        a_connection_lost_while_creating_loses_nothing
        a_connection_lost_before_and_after_data_loses_nothing
        a_watch_from_now_that_saw_nothing_misses_nothing_written_during_the_cut
        a_cut_in_the_middle_of_a_catch_up_loses_nothing
        cuts_in_the_middle_of_fragments_lose_nothing
        a_revision_cut_in_the_middle_arrives_whole
        a_server_killed_and_restarted_goes_on_where_it_was;
    cancel:
        a_watch_cancelled_at_once_leaves_nothing_behind
        a_watch_cancelled_while_it_is_created_leaves_nothing_behind
        a_running_watch_is_cancelled
        a_watch_cancelled_while_disconnected_is_not_resumed
        watches_are_cancelled_while_others_are_created
        a_consumer_dropped_at_any_moment_leaves_nothing_behind
        a_client_that_is_dropped_or_closed_leaves_nothing_behind
        masses_are_created_resumed_cancelled_and_closed;
    isolation:
        one_watch_that_ends_leaves_the_rest_alone;
    compaction:
        a_start_that_is_compacted_is_reported
        a_compaction_while_disconnected_is_reported
        a_compaction_under_a_synced_watch_disturbs_nothing
        a_compaction_while_a_slow_consumer_lags_is_reported
        a_quiet_watch_stays_ahead_of_compaction;
    progress:
        periodic_progress_comes_on_quiet_keys_if_asked_for
        manual_progress_is_believed_where_it_can_be
        progress_never_comes_before_the_backlog
        progress_goes_on_after_a_restart
        progress_of_a_future_watch_waits_for_its_start;
    sizes:
        large_values_arrive_with_and_without_fragments
        large_transactions_arrive_whole;
    slow:
        replay_loses_nothing_and_holds_up_nobody
        pause_loses_nothing
        fail_says_where_to_go_on;
    liveness:
        a_half_open_connection_is_noticed_by_a_probe
        a_half_open_connection_is_noticed_by_keepalive
        a_probe_leaves_a_living_connection_alone;
    kv:
        reads_have_all_their_options
        writes_tell_what_was_there_before
        transactions_compare_and_branch
        calls_go_on_after_cuts
        a_lease_that_expires_deletes_its_keys
        leases_are_kept_alive_and_revoked;
}

macro_rules! model_scenarios {
    ($($scenarios:tt)*) => {
        mod model_only {
            use super::*;
            mod tokio {
                use super::*;
                tests_on! { ServerKind::Model, On::Tokio, $($scenarios)* }
            }
            mod smol {
                use super::*;
                tests_on! { ServerKind::Model, On::Smol, $($scenarios)* }
            }
            mod async_std {
                use super::*;
                tests_on! { ServerKind::Model, On::AsyncStd, $($scenarios)* }
            }
        }
    };
}

// What no real server does without users and proxies.
model_scenarios! {
    isolation:
        a_refused_create_among_queued_ones_ends_only_its_own_watch
        creates_through_a_proxy_that_reorders_replies_are_told_apart
        a_watch_the_server_cancels_says_why;
}
