//! Clients with a user, on real servers with authentication: who may do what, and tokens that go bad at any
//! moment.
//!
//! A scenario is an async function that is given the server it is to start, and the runtime of its clients; the macros
//! below make a test of it for each version and kind of token, on tokio, and some of them on the other runtimes. Those on
//! 3.4 and 3.6 are left for the night (`.config/nextest.toml`). What
//! a watch received is compared with all that was written to its keys.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "tests say what they measured")]

mod calls;
mod changes;
mod cluster;
mod denied;
mod expiry;
mod given;
mod hopeless;
mod proxied;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod world;

use std::time::Duration;

use etcd_watch_testkit::harness::{EtcdServer, EtcdServerBuilder, EtcdVersion};
use runtime::On;
use tokio::time::timeout;
use world::Setup;

/// A scenario that takes longer hangs.
const SCENARIO_DEADLINE: Duration = Duration::from_secs(300);

/// How long tokens last that are to expire.
const SHORT: Duration = Duration::from_secs(2);

async fn run<F: Future<Output = ()>>(server: EtcdServerBuilder, on: On, scenario: impl FnOnce(Setup) -> F) {
    timeout(SCENARIO_DEADLINE, scenario(Setup { server, on })).await.expect("the scenario ends in time");
}

macro_rules! tests_on {
    ($server:expr, $on:expr, $($theme:ident: $($name:ident)*;)*) => {$($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            run($server, $on, crate::$theme::$name).await;
        }
    )*)*};
}

macro_rules! with_lasting_tokens_on {
    ($name:ident: $version:expr, $($scenarios:tt)*) => {
        mod $name {
            use super::*;
            mod simple {
                use super::*;
                tests_on! { EtcdServer::builder($version), On::Tokio, $($scenarios)* }
            }
            mod signed {
                use super::*;
                tests_on! { EtcdServer::builder($version).jwt(Duration::from_secs(300)), On::Tokio, $($scenarios)* }
            }
        }
    };
}

macro_rules! with_lasting_tokens {
    ($($scenarios:tt)*) => {
        with_lasting_tokens_on! { v3_4: EtcdVersion::V3_4, $($scenarios)* }
        with_lasting_tokens_on! { v3_5: EtcdVersion::V3_5, $($scenarios)* }
        with_lasting_tokens_on! { v3_6: EtcdVersion::V3_6, $($scenarios)* }
        with_lasting_tokens_on! { v3_7: EtcdVersion::V3_7, $($scenarios)* }
    };
}

with_lasting_tokens! {
    denied:
        denied_keys_end_only_their_own_watch
        a_role_taken_away_ends_a_watch_when_it_is_resumed
        a_role_given_back_before_the_watch_is_resumed_changes_nothing
        progress_can_be_asked_for_by_those_who_are_not_root;
    calls:
        everything_a_client_does_at_once_costs_one_password_check
        a_wrong_password_is_told_at_once_and_not_tried_again_and_again
        a_client_that_waits_for_its_connection_hears_of_a_wrong_password_at_once;
    changes:
        a_change_of_users_moves_watches_without_a_loss
        a_changed_password_is_told_apart_from_a_denial
        a_deleted_user_is_told_apart_from_a_denial
        authentication_turned_on_and_off_under_a_client_with_a_user
        authentication_turned_on_under_a_client_without_a_user;
    given:
        a_given_token_serves_calls_and_watches_without_a_password_check
        after_a_refused_token_calls_end_and_watches_go_on_with_the_next_one
        another_user_takes_over_a_live_client
        a_client_without_credentials_is_given_some
        a_view_with_a_token_acts_as_its_user;
}

/// What a runtime could do differently: streams that are moved, and timers.
macro_rules! on_other_runtimes {
    ($server:expr, $($scenarios:tt)*) => {
        mod smol {
            use super::*;
            tests_on! { $server, On::Smol, $($scenarios)* }
        }
        mod async_std {
            use super::*;
            tests_on! { $server, On::AsyncStd, $($scenarios)* }
        }
    };
}

mod elsewhere_v3_7_signed {
    use super::*;
    on_other_runtimes! {
        EtcdServer::builder(EtcdVersion::V3_7).jwt(Duration::from_secs(300)),
        denied: denied_keys_end_only_their_own_watch a_role_taken_away_ends_a_watch_when_it_is_resumed;
        calls: everything_a_client_does_at_once_costs_one_password_check;
        changes: a_change_of_users_moves_watches_without_a_loss a_changed_password_is_told_apart_from_a_denial;
        given:
            after_a_refused_token_calls_end_and_watches_go_on_with_the_next_one
            a_view_with_a_token_acts_as_its_user;
    }
}

mod elsewhere_v3_5_simple {
    use super::*;
    on_other_runtimes! {
        EtcdServer::builder(EtcdVersion::V3_5),
        denied: denied_keys_end_only_their_own_watch a_role_taken_away_ends_a_watch_when_it_is_resumed;
        calls: everything_a_client_does_at_once_costs_one_password_check;
        changes: a_change_of_users_moves_watches_without_a_loss a_changed_password_is_told_apart_from_a_denial;
    }
}

mod elsewhere_short_v3_7_signed {
    use super::*;
    on_other_runtimes! {
        EtcdServer::builder(EtcdVersion::V3_7).jwt(SHORT),
        expiry: watches_go_on_through_cuts_with_tokens_that_expire;
        given: tokens_that_are_replaced_in_time_lose_nothing;
    }
}

mod elsewhere_short_v3_5_simple {
    use super::*;
    on_other_runtimes! {
        EtcdServer::builder(EtcdVersion::V3_5).simple_token_ttl(SHORT),
        expiry: watches_go_on_through_cuts_with_tokens_that_expire;
    }
}

/// Simple tokens that expire need a flag that 3.4 doesn't have.
macro_rules! with_short_tokens {
    ($($scenarios:tt)*) => {
        mod short_v3_4_signed {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_4).jwt(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_5_signed {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_5).jwt(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_5_simple {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_5).simple_token_ttl(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_6_signed {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_6).jwt(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_6_simple {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_6).simple_token_ttl(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_7_signed {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_7).jwt(SHORT), On::Tokio, $($scenarios)* }
        }
        mod short_v3_7_simple {
            use super::*;
            tests_on! { EtcdServer::builder(EtcdVersion::V3_7).simple_token_ttl(SHORT), On::Tokio, $($scenarios)* }
        }
    };
}

with_short_tokens! {
    expiry:
        watches_go_on_through_cuts_with_tokens_that_expire
        calls_go_on_after_their_token_has_expired
        a_lease_is_kept_alive_past_the_end_of_a_token;
    given:
        tokens_that_are_replaced_in_time_lose_nothing;
}

mod proxied_v3_4 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_4).jwt(SHORT),
        On::Tokio,
        proxied: without_probes_a_lost_watch_stays_silent with_probes_a_lost_watch_goes_on_at_another_proxy;
    }
}

mod proxied_v3_5 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_5).simple_token_ttl(SHORT),
        On::Tokio,
        proxied:
            without_probes_a_lost_watch_stays_silent
            with_probes_a_lost_watch_goes_on_at_the_same_proxy
            with_probes_a_lost_watch_goes_on_at_another_proxy;
    }
}

/// Signed tokens outlive a restart.
mod restarted_v3_4 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_4).snapshot_count(10),
        On::Tokio,
        expiry: watches_go_on_after_a_restart_that_forgot_the_tokens;
    }
}

mod restarted_v3_5 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_5).snapshot_count(10),
        On::Tokio,
        expiry: watches_go_on_after_a_restart_that_forgot_the_tokens;
    }
}

mod restarted_v3_6 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_6).snapshot_count(10),
        On::Tokio,
        expiry: watches_go_on_after_a_restart_that_forgot_the_tokens;
    }
}

mod restarted_v3_7 {
    use super::*;
    tests_on! {
        EtcdServer::builder(EtcdVersion::V3_7).snapshot_count(10),
        On::Tokio,
        expiry: watches_go_on_after_a_restart_that_forgot_the_tokens;
    }
}
