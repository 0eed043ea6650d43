//! Services that register, and clients that follow them: on the model and on real servers, on every runtime.

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "on which server a test failed is worth knowing")]

mod balance;
#[allow(dead_code, reason = "its main runs when it is started")]
#[path = "../../../runtime-tokio/examples/discovery.rs"]
mod example;
mod follow;
mod go;
mod register;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod world;

/// A test of each for every runtime and every kind of server.
macro_rules! everywhere {
    ($($module:ident { $($name:ident)* })*) => {
        everywhere! { @on tokio_runtime On::Tokio, $($module { $($name)* })* }
        everywhere! { @on smol_runtime On::Smol, $($module { $($name)* })* }
        everywhere! { @on async_std_runtime On::AsyncStd, $($module { $($name)* })* }
    };
    (@on $runtime:ident $on:expr, $($module:ident { $($name:ident)* })*) => {
        mod $runtime {
            use crate::runtime::On;
            use crate::world::{Backend, World, in_time};
            $($(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                for backend in Backend::all() {
                    println!("{backend:?}");
                    in_time(crate::$module::$name(World::start($on, backend).await)).await;
                }
            })*)*
        }
    };
}

everywhere! {
    follow {
        what_is_added_is_listed_and_watched
        every_change_is_told_once_through_cut_connections
        what_was_removed_in_a_compacted_span_is_told_as_removed
        what_is_no_endpoint_is_told_and_leaves_the_last_good_one
        a_thousand_endpoints_are_listed_in_pages_and_followed
        an_empty_target_is_refused
        a_watch_waits_while_etcd_is_down
        a_closed_client_ends_the_watch
    }
    register {
        an_endpoint_is_there_until_it_is_deregistered
        dropping_a_registration_deregisters
        an_updated_endpoint_is_put_under_the_same_lease
        a_revoked_lease_is_replaced_and_the_key_put_again
        a_deleted_key_is_put_again
        a_lease_that_expires_during_a_partition_is_replaced
        a_name_that_another_takes_is_theirs_until_it_is_free
        cut_connections_lose_no_registration
        a_registration_waits_for_etcd
    }
    go {
        what_go_adds_is_listed_and_watched
        what_is_added_here_go_lists_and_watches
        both_write_the_same_bytes
    }
}

/// What the model can't do.
mod on_real_servers {
    use crate::{
        follow, register,
        runtime::On,
        world::{Backend, World, in_time},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_restored_store_is_told_as_a_difference() {
        for backend in Backend::real() {
            in_time(follow::a_restored_store_is_told_as_a_difference(On::Tokio, backend)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_endpoint_is_registered_again_in_a_restored_store() {
        for backend in Backend::real() {
            in_time(register::an_endpoint_is_registered_again_in_a_restored_store(On::Tokio, backend)).await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_user_who_may_not_register_is_told_and_one_who_may_only_write_can() {
        for backend in Backend::real() {
            let world = World::start(On::Tokio, backend).await;
            in_time(register::permissions_are_told_and_enough_of_them_are_enough(world)).await;
        }
    }
}
