//! What the log says of a watch stream that can't be opened.

use std::time::Duration;

use etcd_watch_testkit::harness::wait_until;
use etcd_watch_tokio::WatchConfig;

use crate::{DEADLINE, builder, dead_endpoint, log::Log};

#[tokio::test]
async fn a_stream_that_can_never_be_opened_is_warned_of_seldom() {
    let (log, _guard) = Log::start();
    let millisecond = Duration::from_millis(1);
    let config = WatchConfig::default().backoff(millisecond, millisecond, millisecond);
    let client = builder(dead_endpoint().await).watch_config(config).connect_lazy().expect("valid settings");
    let _watch = client.watch("key").expect("it is opened");
    let failures = || -> Vec<u64> {
        let warnings = log.named("stream_failing");
        let failures = warnings.iter().map(|fields| {
            let failures = fields.split_once("failures=").expect("it says how many").1;
            failures.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
        });
        failures.collect()
    };
    wait_until("a third warning", DEADLINE, || failures().len() == 3).await;
    assert_eq!(failures(), [8, 16, 32]);
    // The others, from 1 to 31.
    assert!(log.named("stream_failed").len() >= 29);
}
