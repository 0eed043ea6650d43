//! The server's end of one watch stream. The promises of watches are tested elsewhere: this one is brief.

use std::collections::{BTreeMap, VecDeque};

use etcd_watch_core::{KeyRange, Request};
use etcd_watch_proto::etcdserverpb::{ResponseHeader, WatchResponse as Frame};

use crate::store::Store;

struct ServerWatch {
    range: KeyRange,
    next: i64,
}

#[derive(Default)]
pub(crate) struct Server {
    pub(crate) inbox: VecDeque<Request>,
    watches: BTreeMap<i64, ServerWatch>,
}

impl Server {
    pub(crate) fn watch_count(&self) -> usize {
        self.watches.len()
    }

    /// Handles the oldest request.
    pub(crate) fn read(&mut self, store: &Store) -> Option<Frame> {
        match self.inbox.pop_front()? {
            Request::Create(create) => {
                assert!(create.is_probe() || create.start_revision > 0, "a mirror knows where to start");
                // A probe's watch sees nothing.
                let next = if create.is_probe() { i64::MAX } else { create.start_revision };
                let watch = ServerWatch { range: create.range, next };
                self.watches.insert(create.watch_id, watch);
                Some(Frame { created: true, ..frame(store, create.watch_id) })
            }
            Request::Cancel { watch_id } => {
                let known = self.watches.remove(&watch_id);
                known.map(|_| Frame { canceled: true, ..frame(store, watch_id) })
            }
            Request::Progress => {
                let is_synced = self.watches.values().all(|watch| watch.next > store.revision);
                is_synced.then(|| frame(store, -1))
            }
        }
    }

    /// Sends every watch what it lacks, up to so many revisions of it.
    pub(crate) fn emit(&mut self, store: &Store, revisions: i64) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.watches.retain(|&id, watch| {
            if watch.next < store.compacted {
                let compact_revision = store.compacted;
                frames.push(Frame { canceled: true, compact_revision, ..frame(store, id) });
                return false;
            }
            if watch.next <= store.revision {
                let to = (watch.next + revisions - 1).min(store.revision);
                let events = store.events(watch.next, to, &watch.range);
                watch.next = to + 1;
                if !events.is_empty() {
                    frames.push(Frame { events, ..frame(store, id) });
                }
            }
            true
        });
        frames
    }

    /// A periodic notification to every watch that lacks nothing.
    pub(crate) fn notify(&self, store: &Store) -> Vec<Frame> {
        let synced = self.watches.iter().filter(|(_, watch)| watch.next > store.revision);
        synced.map(|(&id, _)| frame(store, id)).collect()
    }
}

fn frame(store: &Store, watch_id: i64) -> Frame {
    let (cluster_id, revision) = (store.cluster_id, store.revision);
    let header = Some(ResponseHeader { cluster_id, member_id: 1, revision, raft_term: 2 });
    Frame { header, watch_id, ..Frame::default() }
}
