//! Streams: opened, joined, replaced, given up; and what is sent on them.

use alloc::{string::String, vec::Vec};

use super::Watcher;
use crate::{
    Action, CloseReason, CreateRequest, Creates, Filters, Instant, KeyRange, Remedy, Request,
    ServerMisbehaved, StreamEnd, StreamId, StreamKey, WatchKey, stream::open::Connection, watch::Watch,
};

impl Watcher {
    /// Asks the driver to open a stream.
    pub(in crate::watcher) fn open(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        self.stats.open_streams -= usize::from(stream.connection().is_some());
        let attempt = stream.begin_opening(now);
        let (key, group) = (stream.key(), stream.group());
        let Some(options) = self.groups.get(group).map(|group| group.options().clone()) else {
            debug_assert!(false, "a stream has a group");
            return;
        };
        self.stats.opens += 1;
        self.actions.push_back(Action::Open {
            stream: key,
            options,
            endpoint: attempt.endpoint,
            fresh_token: attempt.fresh_token,
        });
    }

    /// A watch travels on this stream from now on.
    pub(in crate::watcher) fn join(&mut self, id: StreamId, key: WatchKey) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        let before = stream.watches().len();
        stream.add(key);
        let (group, is_own) = (stream.group(), stream.is_own());
        if !is_own && let Some(group) = self.groups.get_untouched(group) {
            group.count_watches(id, before, before + 1, &self.config);
        }
    }

    /// A watch is ready to be created on its stream.
    pub(in crate::watcher) fn line_up(&mut self, id: StreamId, key: WatchKey) {
        let watches = &self.watches;
        let is_queued = |key| watches.get(key).is_some_and(|watch| watch.is_queued());
        if let Some(connection) = self.streams.get_mut(id).and_then(|stream| stream.connection_mut()) {
            connection.creates().enqueue(key, is_queued);
            self.send_creates(id);
        }
    }

    /// Sends the creates that may go out: one until the server has echoed its id, then all.
    pub(in crate::watcher) fn send_creates(&mut self, id: StreamId) {
        let now = self.now;
        let Some(stream) = self.streams.known_mut(id) else { return };
        let stream_key = stream.key();
        let Some(connection) = stream.connection_mut() else { return };
        loop {
            let watches = &self.watches;
            let is_queued = |key| watches.get(key).is_some_and(|watch: &Watch| watch.is_queued());
            let Some((key, server_id)) = connection.creates().next(now, is_queued) else { break };
            let created = self.watches.get_mut(key).and_then(|watch| watch.create(server_id));
            let Some((create, resumes)) = created else { break };
            self.stats.creates += 1;
            self.stats.recreates += u64::from(resumes);
            self.actions.push_back(Action::Send {
                stream: stream_key,
                request: Request::Create(create),
                creates: Some(Creates { watch: key, resumes }),
            });
        }
        if connection.is_unanswered() {
            stream.attempts_mut().expect(now);
        }
    }

    /// Asks a stream for a sign of life, and for its member's revision: a watch that sees nothing is created for
    /// nobody, and cancelled as soon as it is there. A create is always answered. A progress request is not: etcd
    /// passes over it while a watch of the connection catches up, or begins in the member's future, as all do that go
    /// on where a quiet store is; and proxies don't forward it.
    pub(in crate::watcher) fn probe(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        let stream_key = stream.key();
        let watch = stream.watches().first().and_then(|key| self.watches.get(key));
        // Who may watch a range may watch its first key.
        let first_key = watch.map(|watch| watch.keys().start()).unwrap_or_default();
        // Nobody hears what a connection says that isn't read.
        let Some(connection) = stream.connection_mut().filter(|connection| connection.is_read()) else {
            return;
        };
        let Some(watch_id) = connection.creates().probe(now) else { return };
        let request = Request::Create(CreateRequest {
            range: KeyRange::key(first_key),
            start_revision: 0,
            progress_notify: false,
            filters: Filters { no_put: true, no_delete: true },
            prev_kv: false,
            watch_id,
            fragment: false,
        });
        self.actions.push_back(Action::Send { stream: stream_key, request, creates: None });
    }

    /// Asks for the progress that a watch wants, if it runs on a server; otherwise that is done when it does.
    pub(in crate::watcher) fn ask_for_progress(&mut self, key: WatchKey) {
        let now = self.now;
        let Some(watch) = self.watches.get(key).filter(|watch| watch.live_id().is_some()) else { return };
        let Some(stream) = self.streams.known_mut(watch.stream()) else { return };
        let stream_key = stream.key();
        let Some(connection) = stream.open_mut() else { return };
        connection.progress_mut().want(key, watch.requests_before());
        if connection.progress_mut().take_turn(now) {
            self.send_progress_request(stream_key);
        }
    }

    /// Sends a progress request that has been counted.
    pub(in crate::watcher) fn send_progress_request(&mut self, stream: StreamKey) {
        self.actions.push_back(Action::Send { stream, request: Request::Progress, creates: None });
    }

    /// An event came below a progress revision: progress replies on this connection are believed no more, and what
    /// they vouched for is taken back. For the event's own watch, periodic notifications are, too.
    pub(in crate::watcher) fn disprove_progress(&mut self, id: StreamId, key: WatchKey) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        if let Some(connection) = stream.connection_mut() {
            connection.progress_mut().disprove();
        }
        // A watch may wait for nothing any more.
        self.stats.state_changes += 1;
        for each in stream.watches().iter() {
            if let Some(watch) = self.watches.get_mut(each) {
                watch.withdraw_progress(each == key);
            }
        }
    }

    /// The server broke the protocol.
    pub(in crate::watcher) fn misbehaved(&mut self, now: Instant, id: StreamId, what: ServerMisbehaved) {
        self.stats.misbehaved += 1;
        if let Some(stream) = self.streams.get_mut(id) {
            stream.misbehaved();
        }
        self.replace(now, id, Remedy::RetryElsewhere, Some(what.into()));
    }

    /// A proxy has lost a watch. It keeps one watch on a member for all its clients that watch the same keys, and what it
    /// has lost stays lost while one of them is left there: so every stream through a proxy on which these keys are
    /// watched is replaced, all at the same time.
    pub(in crate::watcher) fn replace_deaf(
        &mut self,
        now: Instant,
        id: StreamId,
        watch: WatchKey,
        revision: i64,
    ) {
        self.stats.deaf += 1;
        let watches = &self.watches;
        let Some(keys) = watches.get(watch).map(Watch::keys) else { return };
        let is_concerned = |&other: &StreamId| {
            let stream = self.streams.get(other);
            let stream = stream.filter(|stream| stream.connection().is_some_and(Connection::is_proxied));
            let mut others = stream.into_iter().flat_map(|stream| stream.watches().iter());
            other == id || others.any(|key| watches.get(key).is_some_and(|watch| watch.keys() == keys))
        };
        let concerned: Vec<StreamId> = self.streams.ids().into_iter().filter(is_concerned).collect();
        for id in concerned {
            self.replace(now, id, Remedy::RetryElsewhere, Some(StreamEnd::Deaf { watch, revision }));
        }
    }

    /// The server does not accept the token of a connection: the next one is opened with a new token. Where new ones
    /// are refused too, the watches end.
    pub(in crate::watcher) fn token_refused(
        &mut self,
        now: Instant,
        id: StreamId,
        message: String,
        end: Option<StreamEnd>,
    ) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        let refused = stream.attempts_mut().token_refused();
        self.replace(now, id, Remedy::Reauthenticate, end);
        match refused {
            Some(tokens) => self.close_all(id, &CloseReason::TokenRefused { tokens, message }),
            None => self.give_up_if_due(now, id),
        }
    }

    pub(in crate::watcher) fn give_up_if_due(&mut self, now: Instant, id: StreamId) {
        let stream = self.streams.get(id);
        if let Some(reason) = stream.and_then(|stream| stream.attempts().give_up(now, &self.config)) {
            self.close_all(id, &reason);
        }
    }

    /// Gives a stream's connection up and schedules the next one. `end` is said to a driver that does not know yet. A
    /// stream without watches goes away instead.
    pub(in crate::watcher) fn replace(
        &mut self,
        now: Instant,
        id: StreamId,
        remedy: Remedy,
        end: Option<StreamEnd>,
    ) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        self.stats.reconnects += u64::from(stream.connection().is_some());
        stream.attempts_mut().avoid(remedy);
        self.leave(id, end);
        let Some(stream) = self.streams.known_mut(id) else { return };
        self.stats.open_streams -= usize::from(stream.connection().is_some());
        stream.back_off(now, &self.config, &mut self.rng);
        if stream.watches().is_empty() {
            self.forget_stream(id);
        }
    }

    /// The end of a connection: its watches wait for the next one, and what it still says is ignored.
    pub(in crate::watcher) fn leave(&mut self, id: StreamId, end: Option<StreamEnd>) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        if let Some(reason) = end {
            self.actions.push_back(Action::Close { stream: stream.key(), reason });
        }
        if let Some(connection) = stream.connection() {
            for key in stream.watches().iter() {
                let Some(watch) = self.watches.get_mut(key) else { continue };
                if watch.live_id().is_some() {
                    watch.is_away_since(self.now);
                }
                watch.lose_connection(connection.progress());
                self.held_bytes = self.held_bytes.saturating_add_signed(watch.recount());
            }
        }
        stream.leave();
        self.stats.state_changes += 1;
    }

    /// Closes a stream that is not needed any more.
    pub(in crate::watcher) fn remove_stream(&mut self, id: StreamId, reason: StreamEnd) {
        let Some(stream) = self.streams.known_mut(id) else { return };
        if stream.backoff_until().is_none() {
            self.actions.push_back(Action::Close { stream: stream.key(), reason });
        }
        self.forget_stream(id);
    }

    pub(in crate::watcher) fn forget_stream(&mut self, id: StreamId) {
        let Some(stream) = self.streams.remove(id) else { return };
        self.stats.open_streams -= usize::from(stream.connection().is_some());
        self.stats.state_changes += 1;
        if let Some(group) = self.groups.get_mut(stream.group()) {
            group.remove_stream(id, stream.is_own(), stream.watches().len());
        }
    }
}
