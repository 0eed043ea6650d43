//! Facts that are kept in two places for speed must agree.

use super::Watcher;
use crate::{
    StreamId, WatchKey,
    deadlines::Owner,
    key::Purpose,
    stream::{Stream, open::Connection},
    watch::{Watch, table::Order},
};

impl Watcher {
    /// Checks that the machine doesn't contradict itself, for simulations and tests of drivers. It looks at everything,
    /// so it costs in proportion to the number of watches.
    ///
    /// # Panics
    /// When it does, which is a bug of the machine.
    pub fn assert_consistent(&self) {
        let held: usize = self.watches.iter().map(|(_, watch)| watch.held()).sum();
        assert_eq!(self.held_bytes, held, "the bytes held are those of all watches");
        let open = self.watches.iter().filter(|(_, watch)| !watch.is_closed()).count();
        assert_eq!(self.stats.watches, open, "the watches counted are those that are open");
        for (key, watch) in self.watches.iter().filter(|(_, watch)| !watch.is_closed()) {
            let stream = self.streams.get(watch.stream());
            assert!(stream.is_some_and(|stream| stream.watches().contains(key)), "{key:?} has its stream");
        }
        self.assert_waiting();
        let open = self.streams.ids().into_iter().filter_map(|id| self.streams.get(id)?.connection()).count();
        assert_eq!(self.stats.open_streams, open, "the streams counted as open are those that are");
        self.streams.ids().into_iter().for_each(|id| self.assert_stream(id));
    }

    /// The watches for whose consumers something waits, and only these, are in their orders.
    fn assert_waiting(&self) {
        for (key, watch) in self.watches.iter() {
            let order = (!watch.queue().is_empty()).then(|| watch.order());
            assert_eq!(self.watches.order(key), order, "{key:?} is in its order");
        }
        for order in [Order::Droppable, Order::Kept] {
            let listed = self.watches.waiting(order).count();
            let waiting = self.watches.iter().filter(|&(key, _)| self.watches.order(key) == Some(order));
            assert_eq!(listed, waiting.count(), "the order is complete");
        }
    }

    fn assert_stream(&self, id: StreamId) {
        let Some(stream) = self.streams.get(id) else { return };
        let due = stream.due(&self.config);
        assert_eq!(self.deadlines.of(Owner::Stream(id)), due, "{id:?} is called at its time");
        if let Some(group) = self.groups.get(stream.group()) {
            for purpose in [Purpose::Now, Purpose::Denial] {
                let owner = Owner::Read(stream.group(), purpose);
                assert_eq!(self.deadlines.of(owner), group.read(purpose).due(&self.config), "{owner:?}");
            }
        }
        let watch_of = |key: WatchKey| self.watches.get(key);
        assert!(
            stream.watches().iter().all(|key| watch_of(key).is_some()),
            "{id:?} has watches that are there"
        );
        if let Some(connection) = stream.connection() {
            self.assert_connection(stream, connection);
        } else {
            let is_live = |key: WatchKey| watch_of(key).is_some_and(|watch| watch.live_id().is_some());
            assert!(!stream.watches().iter().any(is_live), "{id:?} is not open");
        }
    }

    fn assert_connection(&self, stream: &Stream, connection: &Connection) {
        let live = stream.watches().iter().filter_map(|key| {
            let watch = self.watches.get(key)?;
            Some((watch.live_id()?, key, watch))
        });
        let (mut routed, mut holds) = (0, 0);
        for (server_id, key, watch) in live {
            assert_eq!(connection.watch_at(server_id), Some(key), "{key:?} has its route");
            let is_wanted = watch.wants_progress();
            assert_eq!(connection.progress().is_wanted_by(key), is_wanted, "{key:?} and its progress");
            routed += 1;
            holds += usize::from(Watch::is_holding(watch));
        }
        assert_eq!((connection.live_routes(), connection.holds()), (routed, holds), "{:?}", stream.key());
        assert!(connection.progress().wanted() <= routed, "progress is wanted by watches that run");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Instant, KeyRange, Opened, TimeoutReason, WatchConfig, WatchRequest};

    /// A machine with one watch, on a stream that is open.
    fn machine() -> (Watcher, WatchKey, StreamId) {
        let mut watcher = Watcher::new(WatchConfig::default(), 1).expect("a valid configuration");
        let request = WatchRequest::new(KeyRange::key("k")).start_revision(1);
        let key = watcher.watch(Instant::ZERO, request).expect("a valid request");
        let id = watcher.streams.ids()[0];
        let stream = watcher.streams.get(id).expect("it was opened for the watch").key();
        watcher.handle_opened(Instant::ZERO, stream, Opened::default());
        watcher.assert_consistent();
        (watcher, key, id)
    }

    #[test]
    #[should_panic(expected = "the bytes held are those of all watches")]
    fn bytes_that_no_watch_holds_are_found_out() {
        let (mut watcher, ..) = machine();
        watcher.held_bytes += 1;
        watcher.assert_consistent();
    }

    #[test]
    #[should_panic(expected = "is called at its time")]
    fn a_deadline_that_a_stream_does_not_have_is_found_out() {
        let (mut watcher, _, id) = machine();
        watcher.deadlines.set(Owner::Stream(id), Some((Instant::ZERO, TimeoutReason::Linger)));
        watcher.assert_consistent();
    }

    #[test]
    #[should_panic(expected = "progress is wanted by watches that run")]
    fn progress_that_is_wanted_by_a_watch_that_does_not_run_is_found_out() {
        let (mut watcher, key, id) = machine();
        let connection = watcher.streams.get_mut(id).and_then(|stream| stream.connection_mut());
        connection.expect("it is open").progress_mut().want(key, 0);
        watcher.settle();
        watcher.assert_consistent();
    }
}
