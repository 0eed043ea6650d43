//! What is watched: the keys that are written, in every way there is.

use std::time::Duration;

use etcd_watch_client::{Filters, KeyRange, Overflow, StreamOptions, WatchRequest};
use etcd_watch_testkit::checks::Watched;

/// All that is written but for [`DELETED`] begins with this.
pub(crate) const PREFIX: &str = "w/";
/// What the mark of a step deletes, and nobody else.
pub(crate) const DELETED: &str = "w/b/mark";
/// How many keys are written.
pub(crate) const KEYS: u32 = 12;

/// The keys `w/a0` to `w/c3`.
pub(crate) fn key(index: u32) -> String {
    let letter = ["a", "b", "c"][(index / 4) as usize % 3];
    format!("{PREFIX}{letter}{}", index % 4)
}

/// How long a slow consumer rests after each response.
const REST: Duration = Duration::from_millis(150);

/// What to watch: the request, the same in the checker's terms, and how it is consumed.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) request: WatchRequest,
    pub(crate) watched: Watched,
    pub(crate) rest: Option<Duration>,
}

impl Kind {
    pub(crate) fn new(name: &'static str, range: KeyRange) -> Self {
        let watched = Watched::range(&range);
        Self { name, request: WatchRequest::new(range).created_notify(true), watched, rest: None }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(WatchRequest) -> WatchRequest) -> Self {
        self.request = change(self.request);
        self
    }

    fn from(mut self, revision: i64) -> Self {
        self.watched.from = revision;
        self.with(|request| request.start_revision(revision))
    }

    fn prev_kv(mut self) -> Self {
        self.watched.prev_kv = true;
        self.with(|request| request.prev_kv(true))
    }

    fn filtered(mut self, filters: Filters) -> Self {
        (self.watched.no_put, self.watched.no_delete) = (filters.no_put, filters.no_delete);
        self.with(|request| request.filters(filters))
    }

    fn slow(mut self, policy: Overflow) -> Self {
        self.rest = Some(REST);
        self.with(|request| request.buffer_bytes(2 << 10).overflow(policy))
    }

    /// For a watch that stays with a member whose leader is lost.
    pub(crate) fn without_leader(self) -> Self {
        let options = StreamOptions { require_leader: false, ..StreamOptions::default() };
        self.with(|request| request.stream_options(options))
    }
}

fn prefix(name: &'static str, prefix: &'static str) -> Kind {
    Kind::new(name, KeyRange::prefix(prefix))
}

fn one(name: &'static str, index: u32) -> Kind {
    Kind::new(name, KeyRange::key(key(index)))
}

/// Every kind but the ones that need a stream of their own. Each sees every mark of a step.
pub(crate) fn shared() -> Vec<Kind> {
    let range = KeyRange::range(key(2), key(6)).expect("it is not empty");
    let no_put = Filters { no_put: true, no_delete: false };
    let no_delete = Filters { no_put: false, no_delete: true };
    vec![
        prefix("everything", PREFIX),
        prefix("everything from the start", PREFIX).from(1).prev_kv(),
        prefix("everything with progress", PREFIX).with(|request| request.progress_notify(true)),
        one("a key", 0),
        one("a key from the start", 11).from(1).prev_kv(),
        Kind::new("a range from the start", range.clone()).from(1),
        Kind::new("a range", range).prev_kv(),
        Kind::new("from a key on", KeyRange::from_key(key(5))).prev_kv(),
        prefix("deletes from the start", "w/b").from(1).filtered(no_put).prev_kv(),
        prefix("deletes", PREFIX).filtered(no_put),
        prefix("puts", "w/c").filtered(no_delete),
        prefix("without fragments", "w/a").prev_kv().with(|request| request.fragment(false)),
        prefix("slow, replayed", PREFIX).from(1).slow(Overflow::Replay),
    ]
}

/// Dozens of watches: every kind there is, three times.
pub(crate) fn dozens() -> Vec<Kind> {
    (0..3).flat_map(|_| all()).collect()
}

/// Every kind there is.
pub(crate) fn all() -> Vec<Kind> {
    let options =
        StreamOptions { metadata: vec![("of-its-own".into(), "yes".into())], ..StreamOptions::default() };
    // One key, with which it can keep up between the bursts: what waits before it is not replayed but all there is.
    let paused = one("slow, paused", 3).slow(Overflow::Pause);
    let mut kinds = shared();
    kinds.push(paused.with(|request| request.stream_options(options)));
    kinds
}
