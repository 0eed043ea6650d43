//! The client's machine and its streams to the present store.

use std::collections::{BTreeMap, VecDeque};

use etcd_watch_client::fuzzing::watch_request;
use etcd_watch_core::{Action, Failure, Instant, Opened, ServerVersion, StreamKey, WatchConfig, Watcher};
use etcd_watch_proto::prost::Message;

use crate::model::{ModelEtcd, ModelStream};

pub(super) struct Link {
    pub(super) watcher: Watcher,
    opening: VecDeque<StreamKey>,
    streams: BTreeMap<StreamKey, ModelStream>,
}

/// One response that came.
#[derive(Clone, Copy)]
pub(super) struct Carried {
    /// Whether more of it was to follow.
    pub(super) is_fragment: bool,
}

impl Link {
    pub(super) fn new(config: WatchConfig, seed: u64) -> Self {
        Self {
            watcher: Watcher::new(config, seed).expect("a valid configuration"),
            opening: VecDeque::new(),
            streams: BTreeMap::new(),
        }
    }

    /// Does what the machine says.
    pub(super) fn settle(&mut self, store: &mut ModelEtcd) {
        while let Some(action) = self.watcher.poll_action() {
            match action {
                Action::Open { stream, .. } => self.opening.push_back(stream),
                Action::Send { stream, request, .. } => {
                    if let Some(stream) = self.streams.get(&stream) {
                        store.handle_watch_request(*stream, watch_request(request));
                    }
                }
                Action::Close { stream, .. } => {
                    self.opening.retain(|opening| *opening != stream);
                    if let Some(stream) = self.streams.remove(&stream) {
                        store.close_watch_stream(stream);
                    }
                }
                // Only watches "from now" and denials need one, and there are none of either.
                Action::Range { .. } | Action::Deliver { .. } | Action::Overflowed { .. } => {}
            }
        }
    }

    /// A stream is opened; false if none is wanted.
    pub(super) fn open(&mut self, now: Instant, store: &mut ModelEtcd) -> bool {
        let Some(stream) = self.opening.pop_front() else { return false };
        self.streams.insert(stream, store.open_watch_stream());
        let version: Option<ServerVersion> = store.config().version.parse().ok();
        self.watcher.handle_opened(now, stream, Opened { version, authenticated: false });
        true
    }

    /// A stream can't be opened; false if none is wanted.
    pub(super) fn refuse(&mut self, now: Instant) -> bool {
        let Some(stream) = self.opening.pop_front() else { return false };
        self.watcher.handle_failed(now, stream, Failure::connection("refused"));
        true
    }

    /// All connections break; false if there is none.
    pub(super) fn cut(&mut self, now: Instant, store: &mut ModelEtcd) -> bool {
        let streams = std::mem::take(&mut self.streams);
        for stream in streams.keys() {
            self.watcher.handle_failed(now, *stream, Failure::connection("reset by peer"));
        }
        store.close_watch_streams();
        !streams.is_empty()
    }

    /// One response comes, if there is one and it is wanted.
    pub(super) fn carry(&mut self, now: Instant, store: &mut ModelEtcd) -> Option<Carried> {
        for (key, stream) in &self.streams {
            if self.watcher.wants_frame(*key)
                && let Some(response) = store.poll_watch_response(*stream)
            {
                self.watcher.handle_frame(
                    now,
                    *key,
                    etcd_watch_core::Frame::decode(response.encode_to_vec().into()),
                );
                return Some(Carried { is_fragment: response.fragment });
            }
        }
        None
    }
}
