//! The example of recipes, as it is, on real servers.

#![cfg(unix)]

mod common;
#[allow(dead_code, reason = "its main runs when it is started")]
#[path = "../examples/recipes.rs"]
mod recipes;

use common::{in_time, serve};
use etcd_watch_testkit::harness::EtcdVersion;
use futures_lite::future::zip;

#[test]
fn two_that_run_at_once_get_the_lock_in_turn_and_the_last_sees_both() {
    for version in EtcdVersion::under_test().expect("the servers are on this machine") {
        let server = serve(version);
        let endpoint = server.endpoint();
        let run = || recipes::recipes(&endpoint, "settings/");
        let both = in_time("both have had their turn", zip(run(), run()));
        let (one, other) = smol::block_on(both);
        let mut seen = [one, other].map(|keys| keys.expect("it goes well").into_keys().collect::<Vec<_>>());
        seen.sort_by_key(Vec::len);
        let [first, last] = seen;
        assert_eq!((first.len(), last.len()), (1, 2));
        assert!(last.contains(&first[0]), "{first:?} and {last:?}");
    }
}
