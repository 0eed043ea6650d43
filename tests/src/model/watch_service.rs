//! All watch streams of a member.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use etcd_watch_proto::etcdserverpb::watch_request::RequestUnion;
use etcd_watch_proto::etcdserverpb::{WatchRequest, WatchResponse};

use super::config::ModelConfig;
use super::error::ModelError;
use super::key_range::KeyRange;
use super::store::Change;
use super::watch_stream::{Context, WatchStream, requested_range};

/// One watch stream of a model member. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelStream(u64);

/// All watch streams of a member.
#[derive(Debug, Clone, Default)]
pub(super) struct WatchService {
    streams: BTreeMap<ModelStream, WatchStream>,
    opened: u64,
    index: WatcherIndex,
    /// Streams that have something for their reader, each once.
    ready: VecDeque<ModelStream>,
    is_ready: BTreeSet<ModelStream>,
    denied: Vec<(KeyRange, String)>,
    /// When watches that are behind catch up next, if that goes by time.
    next_sync: Option<Duration>,
}

impl WatchService {
    pub(super) fn open(&mut self, config: &ModelConfig, now: Duration) -> ModelStream {
        self.opened += 1;
        let stream = ModelStream(self.opened);
        self.streams.insert(stream, WatchStream::new(config, self.opened, now));
        stream
    }

    pub(super) fn close(&mut self, stream: ModelStream) {
        if let Some(closed) = self.streams.remove(&stream) {
            self.index.remove_stream(stream, &closed);
        }
        self.is_ready.remove(&stream);
    }

    pub(super) fn close_all(&mut self) {
        self.streams.clear();
        self.index = WatcherIndex::default();
        self.ready.clear();
        self.is_ready.clear();
        self.next_sync = None;
    }

    pub(super) fn fail_all(&mut self, error: ModelError) {
        let streams: Vec<ModelStream> = self.streams.keys().copied().collect();
        for stream in streams {
            if let Some(failed) = self.streams.get_mut(&stream) {
                self.index.remove_stream(stream, failed);
                failed.fail(error);
                self.mark_ready(stream);
            }
        }
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = ModelStream> {
        self.streams.keys().copied()
    }

    pub(super) fn get(&self, stream: ModelStream) -> Option<&WatchStream> {
        self.streams.get(&stream)
    }

    pub(super) fn watcher_count(&self) -> usize {
        self.streams.values().map(WatchStream::watcher_count).sum()
    }

    pub(super) fn slow_watcher_count(&self) -> usize {
        self.streams.values().map(WatchStream::slow_watcher_count).sum()
    }

    /// Refuses, from now on, watches that touch the range.
    pub(super) fn deny(&mut self, range: KeyRange, reason: &str) {
        self.denied.push((range, reason.to_owned()));
    }

    pub(super) fn allow_all(&mut self) {
        self.denied.clear();
    }

    pub(super) fn handle_request(
        &mut self,
        stream: ModelStream,
        request: WatchRequest,
        refused: Option<&str>,
        context: Context<'_>,
    ) {
        let Some(target) = self.streams.get_mut(&stream) else { return };
        if target.failure().is_some() {
            return;
        }
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let range = requested_range(&create);
                let denied = self.denied.iter().find(|(denied, _)| denied.overlaps(&range));
                let denied = refused.or_else(|| denied.map(|(_, reason)| reason.as_str()));
                if let Some((id, range)) = target.create(&create, denied, context) {
                    self.index.insert((stream, id), range);
                }
            }
            Some(RequestUnion::CancelRequest(cancel)) => {
                if let Some(range) = target.cancel(cancel.watch_id, context) {
                    self.index.remove((stream, cancel.watch_id), &range);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => target.request_progress(context),
            None => {}
        }
        self.mark_ready(stream);
    }

    /// Ends a watch from the server's side. False if there is no such watch.
    pub(super) fn cancel(
        &mut self,
        stream: ModelStream,
        id: i64,
        reason: &str,
        context: Context<'_>,
    ) -> bool {
        let Some(target) = self.streams.get_mut(&stream) else { return false };
        let Some(range) = target.end(id, reason, context) else { return false };
        self.index.remove((stream, id), &range);
        self.mark_ready(stream);
        true
    }

    /// Loses a watch, as a proxy can.
    pub(super) fn lose(&mut self, stream: ModelStream, id: i64) -> bool {
        self.streams.get_mut(&stream).is_some_and(|target| target.lose(id))
    }

    pub(super) fn poll_response(
        &mut self,
        stream: ModelStream,
        context: Context<'_>,
    ) -> Option<WatchResponse> {
        self.streams.get_mut(&stream)?.next_response(context)
    }

    pub(super) fn poll_ready(&mut self) -> Option<ModelStream> {
        loop {
            let stream = self.ready.pop_front()?;
            if self.is_ready.remove(&stream) {
                return Some(stream);
            }
        }
    }

    /// Passes on the changes of one revision that just happened.
    pub(super) fn notify(&mut self, changes: &[Change], context: Context<'_>) {
        let mut batches: BTreeMap<WatcherRef, Vec<Change>> = BTreeMap::new();
        for change in changes {
            self.index.for_each_watching(&change.key, |watcher| {
                batches.entry(watcher).or_default().push(Change::clone(change));
            });
        }
        for ((stream, id), changes) in batches {
            if let Some(target) = self.streams.get_mut(&stream) {
                target.notify(id, changes, context);
                self.mark_ready(stream);
            }
        }
    }

    /// Does what is due by time.
    pub(super) fn handle_timeout(&mut self, now: Duration, context: Context<'_>) {
        let sync_due = self.next_sync.is_some_and(|due| due <= now);
        if sync_due {
            self.next_sync = None;
        }
        let mut touched = Vec::new();
        for (stream, target) in &mut self.streams {
            if target.next_progress().is_some() {
                target.notify_progress(now, context);
            }
            if sync_due && target.is_behind() {
                target.catch_up(context);
            }
            if target.has_output() {
                touched.push(*stream);
            }
        }
        for stream in touched {
            self.mark_ready(stream);
        }
    }

    /// Sees to it that watches that are behind catch up, where that goes by time.
    pub(super) fn schedule(&mut self, now: Duration, interval: Duration) {
        if !interval.is_zero()
            && self.next_sync.is_none()
            && self.streams.values().any(WatchStream::is_behind)
        {
            self.next_sync = Some(now.saturating_add(interval));
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Duration> {
        self.streams.values().filter_map(WatchStream::next_progress).chain(self.next_sync).min()
    }

    fn mark_ready(&mut self, stream: ModelStream) {
        if self.is_ready.insert(stream) {
            self.ready.push_back(stream);
        }
    }
}

/// A watch on a stream.
type WatcherRef = (ModelStream, i64);

/// Finds the watches on a key.
#[derive(Debug, Clone, Default)]
struct WatcherIndex {
    single: BTreeMap<Bytes, BTreeSet<WatcherRef>>,
    ranges: BTreeMap<WatcherRef, KeyRange>,
}

impl WatcherIndex {
    fn insert(&mut self, watcher: WatcherRef, range: KeyRange) {
        match range {
            KeyRange::One(key) => {
                self.single.entry(key).or_default().insert(watcher);
            }
            range => {
                self.ranges.insert(watcher, range);
            }
        }
    }

    fn remove(&mut self, watcher: WatcherRef, range: &KeyRange) {
        self.ranges.remove(&watcher);
        if let KeyRange::One(key) = range
            && let Some(watchers) = self.single.get_mut(key)
        {
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.single.remove(key);
            }
        }
    }

    fn remove_stream(&mut self, stream: ModelStream, removed: &WatchStream) {
        for (id, range) in removed.ranges() {
            self.remove((stream, id), range);
        }
    }

    fn for_each_watching(&self, key: &[u8], mut found: impl FnMut(WatcherRef)) {
        for watcher in self.single.get(key).into_iter().flatten() {
            found(*watcher);
        }
        for (watcher, range) in &self.ranges {
            if range.contains(key) {
                found(*watcher);
            }
        }
    }
}
