//! One watch as the server sees it.

use etcd_watch_proto::etcdserverpb::WatchCreateRequest;
use etcd_watch_proto::etcdserverpb::watch_create_request::FilterType;

use super::history::{EventKind, HistoryEvent};
use super::key_range::KeyRange;
use super::store::{Change, Store};

/// One watch as the server sees it.
///
/// ```text
///   created in the past ---> Unsynced <------------------+
///                             |  |  ^ caught up by part   | moved, history goes on
///              caught up      |  |  +---+                 |
///   created now --> Synced <--+  +------+--> Victim ------+
///                     |   no room in the queue ^ |
///                     +------------------------+ +--> Synced
///
///   Unsynced whose next revision is compacted --> Compacted
///   any that a proxy loses --> Lost
/// ```
#[derive(Debug, Clone)]
pub(super) struct Watcher {
    pub(super) range: KeyRange,
    /// As requested: 0 for "from now".
    pub(super) start_revision: i64,
    /// First revision it hasn't seen.
    pub(super) min_revision: i64,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    /// Progress notifications: none, or whether the next one is due.
    pub(super) progress: Option<bool>,
    pub(super) state: State,
    no_put: bool,
    no_delete: bool,
}

/// How a watch stands to the store.
#[derive(Debug, Clone)]
pub(super) enum State {
    /// It has everything, and gets changes as they happen.
    Synced,
    /// It has to catch up from history.
    Unsynced,
    /// This didn't fit into its stream's queue and goes first.
    Victim(Batch),
    /// Its next revision is gone, and it has been told.
    Compacted,
    /// A proxy has lost it: it is there, and gets nothing any more.
    Lost,
}

/// The changes that go into one response.
#[derive(Debug, Clone, Default)]
pub(super) struct Batch {
    pub(super) changes: Vec<Change>,
    /// Where to go on if the batch was full.
    pub(super) more: Option<i64>,
}

impl Watcher {
    /// A watch that starts at a revision, with the store at another.
    pub(super) fn new(request: &WatchCreateRequest, range: KeyRange, newest: i64) -> Self {
        let start = request.start_revision;
        let synced = start == 0 || start > newest;
        Self {
            range,
            start_revision: start,
            min_revision: if synced { start.max(newest + 1) } else { start },
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress: request.progress_notify.then_some(true),
            state: if synced { State::Synced } else { State::Unsynced },
            no_put: request.filters().any(|filter| filter == FilterType::Noput),
            no_delete: request.filters().any(|filter| filter == FilterType::Nodelete),
        }
    }

    pub(super) fn sees_puts(&self) -> bool {
        !self.no_put
    }

    pub(super) fn is_synced(&self) -> bool {
        matches!(self.state, State::Synced)
    }

    pub(super) fn passes(&self, change: &HistoryEvent) -> bool {
        match change.kind {
            EventKind::Put => !self.no_put,
            EventKind::Delete => !self.no_delete,
        }
    }

    /// The next changes from history, up to a number of revisions, each of them whole.
    pub(super) fn next_batch(&self, store: &Store, max_revisions: usize) -> Batch {
        let mut batch = Batch::default();
        let mut revisions = 0;
        let mut last = None;
        // Filters come later: what they take away counts.
        for change in store.changes_since(&self.range, self.min_revision) {
            if last != Some(change.revision) {
                if revisions == max_revisions {
                    batch.more = Some(change.revision);
                    break;
                }
                revisions += 1;
                last = Some(change.revision);
            }
            batch.changes.push(Change::clone(change));
        }
        batch
    }
}
