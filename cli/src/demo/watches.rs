//! The kinds of watch that the demo puts to the test.

use std::time::Duration;

use etcd_watch_testkit::checks::Watched;
use etcd_watch_tokio::{Filters, KeyRange, Overflow, StartAt, WatchRequest};

use super::writers;

/// A kind of watch.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    range: KeyRange,
    start: StartAt,
    prev_kv: bool,
    filters: Filters,
    /// It starts half-way.
    pub(super) late: bool,
    /// Its consumer rests for so long after each response.
    pub(super) rest: Option<Duration>,
}

/// A slow consumer's buffer: a fraction of a second's worth of events.
const SMALL_BUFFER: usize = 64 << 10;

impl Kind {
    fn new(name: &'static str, range: KeyRange) -> Self {
        Self {
            name,
            range,
            start: StartAt::Revision(1),
            prev_kv: false,
            filters: Filters::default(),
            late: false,
            rest: None,
        }
    }

    /// Every kind there is.
    pub(super) fn all() -> Vec<Self> {
        let prefix = |at: usize| KeyRange::prefix(writers::PREFIXES[at]);
        vec![
            Self::new("every key", KeyRange::all()),
            Self::new("a prefix", prefix(0)),
            Self::new("one key", KeyRange::key(writers::HOT_KEY)),
            Self { prev_kv: true, ..Self::new("previous values", prefix(1)) },
            Self {
                filters: Filters { no_put: true, no_delete: false },
                ..Self::new("deletes only", KeyRange::all())
            },
            Self { rest: Some(Duration::from_millis(250)), ..Self::new("slow consumer", KeyRange::all()) },
            Self { late: true, start: StartAt::Now, ..Self::new("from now, late", prefix(3)) },
            Self { late: true, ..Self::new("from the past", KeyRange::all()) },
        ]
    }

    /// What to ask the client for.
    pub(super) fn request(&self) -> WatchRequest {
        let start = if let StartAt::Revision(revision) = self.start { revision } else { 0 };
        let request = WatchRequest::new(self.range.clone())
            .start_revision(start)
            .prev_kv(self.prev_kv)
            .filters(self.filters)
            .created_notify(true)
            .progress_notify(true);
        if self.rest.is_none() {
            return request;
        }
        // On a stream of its own, so that the proxy has more than one connection to break.
        request.buffer_bytes(SMALL_BUFFER).overflow(Overflow::Replay).own_stream(true)
    }

    /// Whether it begins with what happens after it was asked for.
    pub(super) fn is_from_now(&self) -> bool {
        self.start == StartAt::Now
    }

    /// What it asks for, in the checker's terms, if it starts at the beginning.
    pub(super) fn watched(&self) -> Watched {
        Watched {
            from: 1,
            no_put: self.filters.no_put,
            no_delete: self.filters.no_delete,
            prev_kv: self.prev_kv,
            ..Watched::range(&self.range)
        }
    }
}
