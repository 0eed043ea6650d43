//! What programs would write by hand around calls and mirrors: writes under a condition, transactions that are code,
//! reads of whole ranges, and mirrors of decoded values; against the model server and real etcd.
//!
//! A scenario is an async function that is given a server and a runtime for its clients.

mod conditional;
mod pages;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod stm;
mod typed;
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

macro_rules! everywhere {
    ($($scenarios:tt)*) => {
        mod model {
            use super::*;
            tests_on! { ServerKind::Model, On::Tokio, $($scenarios)* }
        }
        mod v3_5 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_5), On::Tokio, $($scenarios)* }
        }
        mod v3_7 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_7), On::Tokio, $($scenarios)* }
        }
        mod smol_v3_7 {
            use super::*;
            tests_on! { ServerKind::Real(EtcdVersion::V3_7), On::Smol, $($scenarios)* }
        }
    };
}

everywhere! {
    conditional:
        of_many_who_create_a_key_one_does
        a_key_is_changed_only_as_it_was_seen
        conditions_hold_within_a_namespace
        a_write_whose_answer_was_lost_is_made_again_with_the_same_condition;
    stm:
        counters_lose_nothing_where_reads_are_checked
        an_update_is_lost_only_if_reads_are_not_checked
        writes_do_not_skew_if_reads_are_checked
        only_serializable_snapshot_minds_a_key_that_was_written_without_being_read
        reads_are_of_one_revision_or_each_of_its_own
        a_transaction_reads_its_own_writes
        an_error_of_the_closure_writes_nothing
        conflicts_end_at_a_limit
        a_snapshot_that_was_compacted_is_taken_again
        many_keys_are_prefetched_at_one_revision
        a_commit_whose_answer_was_lost_is_not_made_again;
    pages:
        all_pages_are_of_one_revision_while_keys_are_written
        pages_begin_again_or_end_when_their_revision_is_compacted
        pages_are_of_the_revision_that_is_asked_for_or_do_not_come
        a_range_without_keys_has_a_revision_and_no_pages
        nobody_answers;
    typed:
        a_typed_mirror_hands_out_each_change_decoded_or_not;
}
