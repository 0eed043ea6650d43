//! Tests of the driver without a network.

use etcd_watch_core::{KeyRange, WatchRequest};

use super::*;
use crate::{ClientBuilder, testing::Tasks};

#[test]
fn what_is_remembered_of_streams_that_ended_without_a_connection_is_bounded() {
    let builder = ClientBuilder::on(Tasks::default()).endpoints(["http://host:1"]).seed(1);
    // Its own driver is never polled.
    let client = builder.connect_lazy().unwrap();
    let mut driver = Driver::new(client.hub().clone(), client.calls().clone(), SlowConsumers::new(None));
    let mut turn = || {
        let _ = driver.turn(&mut Context::from_waker(Waker::noop()));
        (driver.before.len(), driver.hub.lock().links.len())
    };
    let (mut most_streams, mut most_links) = (0, 0);
    for _ in 0..4 * SPARE_MEMORIES {
        let own = WatchRequest::new(KeyRange::key("k")).start_revision(1).own_stream(true);
        let watch = client.watch(own).unwrap();
        let (streams, links) = turn();
        (most_streams, most_links) = (most_streams.max(streams), most_links.max(links));
        drop(watch);
        turn();
    }
    assert!(most_streams > 1, "streams end so");
    assert!(most_streams.max(most_links) <= SPARE_MEMORIES + 4, "{most_streams} streams, {most_links} links");
}
