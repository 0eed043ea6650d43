//! Drives a mirror by hand.

use bytes::Bytes;
use etcd_watch_core::{
    CloseReason, Delivery, Failure, Instant, KeyRange, ListKey, ListRequest, Mirror, MirrorAction,
    MirrorEvent, MirrorRequest, OwnedKeyValue, Page, Pairs, TimeoutReason, WatchConfig,
};

pub(crate) const CLUSTER: u64 = 7;

/// What the machine takes a pair for before one has come.
pub(crate) const FIRST_PAIR_BYTES: usize = 64 << 10;

/// A mirror whose driver, server and consumer are the test.
pub(crate) struct Hand {
    pub(crate) mirror: Mirror,
    pub(crate) now: Instant,
}

impl Hand {
    pub(crate) fn new(config: &WatchConfig, request: MirrorRequest) -> Self {
        Self {
            mirror: Mirror::new(config, request, 1).expect("a valid request"),
            now: Instant::from_nanos(1),
        }
    }

    /// A mirror of the keys under `k`, two a page.
    pub(crate) fn of_k() -> Self {
        Self::new(&WatchConfig::default(), of_k())
    }

    /// What it wants done next.
    pub(crate) fn action(&mut self) -> Option<MirrorAction> {
        let has_actions = self.mirror.has_actions();
        let action = self.mirror.poll_action();
        assert_eq!(has_actions, action.is_some());
        action
    }

    pub(crate) fn asked(&mut self) -> (ListKey, ListRequest) {
        match self.action() {
            Some(MirrorAction::List { list, request }) => (list, request),
            other => panic!("a page was to be asked for: {other:?}"),
        }
    }

    /// Answers the page that is asked for.
    pub(crate) fn answer(&mut self, result: Result<Page, Failure>) -> ListRequest {
        let (list, request) = self.asked();
        self.mirror.handle_page(self.now, list, result);
        request
    }

    pub(crate) fn fail(&mut self, code: i32, message: &str) -> ListRequest {
        self.answer(Err(Failure::status(code, message)))
    }

    pub(crate) fn events(&mut self) -> Vec<MirrorEvent> {
        std::iter::from_fn(|| self.mirror.next(self.now)).collect()
    }

    /// What the events come to: `=` list, `+` put, `-` delete, `!` synced.
    pub(crate) fn told(&mut self) -> String {
        let mut told = Vec::new();
        for event in self.events() {
            match event {
                MirrorEvent::Listing { revision, .. } => told.push(format!("={revision}")),
                MirrorEvent::Snapshot(part) => {
                    let name = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
                    told.extend(part.puts().iter().map(|kv| format!("+{}", name(kv.key()))));
                    told.extend(part.deletes().iter().map(|key| format!("-{}", name(key))));
                }
                MirrorEvent::Synced { revision } => told.push(format!("!{revision}")),
                other => told.push(format!("{other:?}")),
            }
        }
        told.join(" ")
    }

    pub(crate) fn sleep_to_timeout(&mut self) -> TimeoutReason {
        let reason = self.mirror.timeout_reason().expect("something to wait for");
        self.now = self.mirror.poll_timeout().expect("something to wait for");
        self.mirror.handle_timeout(self.now);
        reason
    }

    /// Lists all there is in one page, and gets to watching.
    pub(crate) fn watching(&mut self, revision: i64, kvs: &[(&'static str, i64)]) {
        self.answer(Ok(page(revision, kvs, false)));
        self.events();
        assert!(matches!(self.action(), Some(MirrorAction::Watch(_))));
    }

    pub(crate) fn watch_ends(&mut self, reason: CloseReason) {
        assert!(self.mirror.wants_delivery());
        self.mirror.handle_delivery(self.now, Delivery::Closed(reason));
    }

    pub(crate) fn is_idle(&mut self) -> bool {
        self.action().is_none() && !self.mirror.has_events()
    }
}

pub(crate) fn of_k() -> MirrorRequest {
    MirrorRequest::new(KeyRange::prefix("k")).page_bytes(2 * FIRST_PAIR_BYTES)
}

pub(crate) fn page(revision: i64, kvs: &[(&'static str, i64)], more: bool) -> Page {
    let kv = |&(key, mod_revision): &(&'static str, i64)| OwnedKeyValue {
        key: Bytes::from_static(key.as_bytes()),
        value: Bytes::from_static(b"v"),
        create_revision: mod_revision,
        mod_revision,
        version: 1,
        lease: 0,
    };
    let kvs: Vec<OwnedKeyValue> = kvs.iter().map(kv).collect();
    Page { revision, cluster_id: CLUSTER, more, count: 0, kvs: Pairs::copied(&kvs).expect("they are few") }
}

pub(crate) fn compacted() -> CloseReason {
    CloseReason::Compacted { compact_revision: 9, next_revision: 8 }
}
