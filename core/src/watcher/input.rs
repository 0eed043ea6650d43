//! What the network did: every `handle_*` but the one for time.
//!
//! A frame goes from here to the stream (`Connection::hear`: whose is it?), to the watch (`Watch::admit`: what of it is
//! new?), and to `effects/`.

use alloc::{collections::BTreeMap, vec::Vec};

use super::Watcher;
use crate::{
    CloseReason, DecodeError, Failure, Frame, Header, Instant, Opened, RangeDone, RangeKey, Remedy,
    ServerMisbehaved, ServerVersion, StreamId, StreamKey, WatchKey,
    failure::{Oversize, final_reason, message_of, oversize},
    key::{Asker, GroupId, Purpose},
    printable,
    reads::{
        Asked,
        denial::{Denied, judge},
        now::Now,
    },
    remedy,
    stream::{
        Stream,
        creates::{NO_WATCH, is_refused},
        open::{self, Connection, Heard},
    },
    watch::{
        Refusal,
        admit::{Admitted, Fresh},
        queue::Incoming,
    },
};

impl Watcher {
    /// The stream is open: requests can be sent. (etcd sends its response headers only with the first
    /// response, so a driver must not wait for them before it says so.)
    pub fn handle_opened(&mut self, now: Instant, stream: StreamKey, opened: Opened) {
        let now = self.advance(now);
        let key = stream;
        let Some(stream) = self.streams.current_mut(key).filter(|stream| stream.is_opening()) else { return };
        stream.opened(now, opened, &mut self.rng);
        self.stats.open_streams += 1;
        self.stats.state_changes += 1;
        let watches = &self.watches;
        let is_queued = |key| watches.get(key).is_some_and(|watch| watch.is_queued());
        stream.line_up(now, &self.config, is_queued);
        self.send_creates(key.stream);
        self.settle();
    }

    /// The member has told its version only now, after the stream was opened without one: from here on its replies to
    /// progress requests move resume points, if servers of this version keep their order.
    pub fn handle_version(&mut self, now: Instant, stream: StreamKey, version: ServerVersion) {
        self.advance(now);
        let Some(current) = self.streams.current_mut(stream) else { return };
        let Some(connection) = current.connection_mut() else { return };
        connection.progress_mut().learn(version);
        self.settle();
    }

    /// One `WatchResponse`, [decoded](Frame::decode). Decoding is a step of its own so that a driver can take it outside
    /// of a lock; its error is handed in as it is, and has the connection replaced. A late word of a connection that is
    /// gone is ignored.
    pub fn handle_frame(&mut self, now: Instant, stream: StreamKey, mut frame: Result<Frame, DecodeError>) {
        let now = self.advance(now);
        let key = stream;
        let Some(stream) = self.streams.current(key).filter(|stream| stream.connection().is_some()) else {
            return;
        };
        self.stats.frames += 1;
        match &mut frame {
            Ok(frame) => {
                // Most frames move no deadline.
                if !(is_plain(frame) && stream.is_steady(&self.config)) {
                    self.streams.touch(key.stream);
                }
                self.stats.frame_bytes += frame.bytes.len() as u64;
                self.handle_decoded(now, key, frame);
            }
            Err(error) => self.misbehaved(now, key.stream, (*error).into()),
        }
        self.settle();
    }

    /// A frame that could be decoded has come on a connection that is open.
    fn handle_decoded(&mut self, now: Instant, key: StreamKey, frame: &mut Frame) {
        let is_refusal = frame.created && is_refused(frame);
        match self.take_in(now, key.stream, frame) {
            Ok(is_news) => {
                // Unless the frame itself had the connection replaced.
                let stream = self.streams.get_untouched(key.stream).filter(|stream| stream.key() == key);
                if let Some(stream) = stream {
                    stream.frame_came(now, &self.config, is_news, is_refusal);
                }
            }
            Err(what) => self.misbehaved(now, key.stream, what),
        }
    }

    /// Whether the frame brought events that were accepted.
    fn take_in(&mut self, now: Instant, id: StreamId, frame: &mut Frame) -> Result<bool, ServerMisbehaved> {
        open::check(frame)?;
        let Some(stream) = self.streams.get_untouched(id) else { return Ok(false) };
        if !open::is_made_up(frame) {
            let watches = &self.watches;
            let is_queued = |key| watches.get(key).is_some_and(|watch| watch.is_queued());
            stream.follow(now, frame.header.cluster_id, frame.header.revision, is_queued);
        }
        let Some(connection) = stream.open_mut() else { return Ok(false) };
        let heard = connection.hear(now, frame)?;
        match heard {
            Heard::Nothing => {
                if frame.created {
                    // A probe's, or a refusal of one: the line moves on.
                    self.send_creates(id);
                }
                Ok(false)
            }
            Heard::Created { watch, asked_id, id: server_id } => {
                self.created(now, id, watch, asked_id, server_id, frame);
                Ok(false)
            }
            Heard::Refused { watch, asked_id } => {
                self.send_creates(id);
                let is_awaited = self.watches.get(watch).is_some_and(|watch| watch.is_creating(asked_id));
                if is_awaited && !self.check_cluster(watch, frame.header) {
                    self.ended_by_server(now, id, watch, false, frame);
                }
                Ok(false)
            }
            Heard::Canceled { watch } => {
                self.ended_by_server(now, id, watch, true, frame);
                Ok(false)
            }
            Heard::Progress => {
                self.connection_progress(now, id, frame.header);
                Ok(false)
            }
            Heard::Of { watch: key } => {
                let Some(watch) = self.watches.known_mut(key) else { return Ok(false) };
                if let Some(reason) = watch.place_mut().check_cluster(frame.header) {
                    self.close(key, reason);
                    return Ok(false);
                }
                if frame.events.is_empty() {
                    self.stats.progress_notifications += 1;
                    self.watch_progress(now, id, key, frame.header, false);
                    return Ok(false);
                }
                let admitted = watch.admit(frame, connection.progress())?;
                Ok(self.admitted(now, id, key, frame, admitted))
            }
        }
    }

    /// A server has created a watch.
    fn created(
        &mut self,
        now: Instant,
        id: StreamId,
        key: Option<WatchKey>,
        asked_id: i64,
        server_id: i64,
        frame: &Frame,
    ) {
        let (Some(stream), header) = (self.streams.known_mut(id), frame.header) else { return };
        let stream_key = stream.key();
        let Some(connection) = stream.open_mut() else { return };
        let watch = key.and_then(|key| Some((key, self.watches.get_mut(key)?)));
        let Some((key, watch)) = watch.filter(|(_, watch)| watch.is_creating(asked_id)) else {
            // A probe's, or of a watch that was cancelled while its create was on the way.
            self.cancels.push_back((stream_key, server_id));
            self.send_creates(id);
            return;
        };
        connection.enter(server_id, key, watch.listens());
        connection.is_other_cluster(header);
        let was_asked = watch.wants_progress();
        watch.created(now, server_id, header, connection.progress());
        if !was_asked && watch.wants_progress() {
            // Its wish waits for the next request, which is one for all that are created now: etcd answers none before
            // they have caught up.
            connection.progress_mut().want(key, watch.requests_before());
        }
        self.stats.state_changes += 1;
        self.send_creates(id);
        if self.check_cluster(key, header) {
            return;
        }
        let (Some(stream), Some(watch)) = (self.streams.get_mut(id), self.watches.get_mut(key)) else {
            return;
        };
        let known = watch.place().shown();
        if header.revision != 0 && header.revision < known {
            stream.lag_mut().found(now, key, known, header.revision);
        }
        let notice = watch.take_created_notice(header);
        if let Some(notice) = notice {
            self.put_notice(now, key, notice);
        }
        if frame.canceled {
            self.ended_by_server(now, id, key, true, frame);
        } else if was_asked {
            self.ask_for_progress(key);
        }
    }

    /// The server has refused to create a watch, or has ended one that was running.
    fn ended_by_server(
        &mut self,
        now: Instant,
        id: StreamId,
        key: WatchKey,
        is_running: bool,
        frame: &Frame,
    ) {
        if frame.compact_revision > 0 {
            let next_revision = self.resume_revision(key).unwrap_or(0);
            let compact_revision = frame.compact_revision;
            self.close(key, CloseReason::Compacted { compact_revision, next_revision });
            return;
        }
        let (Some(stream), Some(watch)) = (self.streams.get_mut(id), self.watches.get_mut(key)) else {
            return;
        };
        let refusal = Refusal {
            message: printable(frame.cancel_reason()),
            is_running,
            has_token: stream.connection().is_some_and(Connection::has_token),
            is_last_token: stream.attempts().is_last_token(),
        };
        let verdict = watch.judge_refusal(now, &self.config, refusal);
        self.apply(now, key, verdict);
    }

    /// The events of a frame were lawful. Whether any were accepted.
    fn admitted(
        &mut self,
        now: Instant,
        id: StreamId,
        key: WatchKey,
        frame: &mut Frame,
        admitted: Admitted,
    ) -> bool {
        self.stats.stale_events += admitted.stale as u64;
        self.stats.overtaken_events += admitted.overtaken as u64;
        if admitted.overtaken > 0 {
            self.disprove_progress(id, key);
        }
        let is_news = admitted.fresh.is_some();
        match admitted.fresh {
            Some(Fresh::Frame) => self.put_events(now, key, Incoming::Frame(frame), admitted.base),
            Some(Fresh::Response(response)) => {
                self.put_events(now, key, Incoming::Response(response), admitted.base);
            }
            None => {}
        }
        if admitted.has_partial {
            self.limit_partial(now, key);
        }
        is_news
    }

    /// A reply to a manual progress request. It speaks for all the watches of the connection that it can speak for; they
    /// take it in when it matters, but for those whose consumers want to hear of it.
    fn connection_progress(&mut self, now: Instant, id: StreamId, header: Header) {
        self.stats.progress_notifications += 1;
        let Some(stream) = self.streams.known_mut(id) else { return };
        let stream_key = stream.key();
        let Some(connection) = stream.open_mut() else { return };
        let Some(concerned) = connection.progress_mut().reply(header) else {
            self.stats.untrusted_progress += 1;
            return;
        };
        if connection.is_other_cluster(header) {
            let all: Vec<WatchKey> = stream.watches().iter().collect();
            for key in all {
                if self.watches.get(key).is_some_and(|watch| watch.live_id().is_some()) {
                    self.check_cluster(key, header);
                }
            }
        }
        for key in concerned {
            self.watch_progress(now, id, key, header, true);
        }
        let connection = self.streams.get_mut(id).and_then(|stream| stream.connection_mut());
        if connection.is_some_and(|connection| connection.progress_mut().follows_up(now)) {
            self.send_progress_request(stream_key);
        }
    }

    /// The server says that a watch has everything up to the header's revision.
    fn watch_progress(&mut self, now: Instant, id: StreamId, key: WatchKey, header: Header, manual: bool) {
        let (Some(connection), Some(watch)) =
            (self.streams.get_mut(id).and_then(|stream| stream.connection_mut()), self.watches.get_mut(key))
        else {
            return;
        };
        let wanted = watch.wants_progress();
        let Some(notice) = watch.progress(header, manual, connection.progress()) else { return };
        if wanted {
            connection.progress_mut().satisfied(key);
        }
        self.put_notice(now, key, notice);
    }

    /// The stream is gone, or could not be opened. Its watches go on elsewhere, at exactly the next
    /// revision.
    pub fn handle_failed(&mut self, now: Instant, stream: StreamKey, failure: Failure) {
        let now = self.advance(now);
        let (key, id) = (stream, stream.stream);
        let is_current = self.streams.current(key).is_some_and(|stream| stream.backoff_until().is_none());
        if is_current {
            self.stream_failed(now, id, &failure);
            self.settle();
        }
    }

    fn stream_failed(&mut self, now: Instant, id: StreamId, failure: &Failure) {
        let remedy = remedy(failure);
        let Some(stream) = self.streams.known_mut(id) else { return };
        let watches = &self.watches;
        let running = |stream: &Stream| {
            let Some(connection) = stream.connection() else { return BTreeMap::new() };
            let heard_of = |key: WatchKey| {
                let watch = watches.get(key).filter(|watch| watch.live_id().is_some())?;
                Some((key, watch.is_unheard(connection.progress())))
            };
            stream.watches().iter().filter_map(heard_of).collect()
        };
        let culprit = stream.failed(now, &self.config, failure, remedy, running);
        if let (Some(culprit), Some(Oversize { bytes, limit })) = (culprit, oversize(failure)) {
            self.close(culprit, CloseReason::TooLarge { what: "a response", bytes, limit });
        }
        if remedy == Remedy::Reauthenticate {
            self.token_refused(now, id, message_of(failure), None);
            return;
        }
        self.replace(now, id, remedy, None);
        match final_reason(remedy, failure) {
            // What the whole stream is refused for, every watch on it is.
            Some(reason) => self.close_all(id, &reason),
            None => self.give_up_if_due(now, id),
        }
    }

    /// The answer to [`Action::Range`](crate::Action::Range). An answer nobody waits for is ignored.
    pub fn handle_range_done(&mut self, now: Instant, range: RangeKey, result: Result<RangeDone, Failure>) {
        let now = self.advance(now);
        let result = result.and_then(believed);
        let (group, purpose) = match range.asker {
            Asker::Group(group, purpose) => (group, purpose),
            Asker::Stream(stream) => {
                self.missed_answered(now, stream, range, result.ok());
                self.settle();
                return;
            }
        };
        let asked = self.groups.get_mut(group).and_then(|group| group.read_mut(purpose).answer(range));
        let Some(asked) = asked else {
            self.settle();
            return;
        };
        self.reads_due.insert(group);
        match (purpose, result) {
            (Purpose::Denial, result) => self.denial_answered(now, group, asked.watches, result),
            (Purpose::Now, Ok(done)) if done.revision > 0 => self.now_answered(now, group, asked, done),
            (Purpose::Now, Ok(_)) => {
                let failure = Failure::connection("the endpoint leaves the revision out of its responses");
                self.now_failed(now, group, asked.watches, &failure);
            }
            (Purpose::Now, Err(failure)) => self.now_failed(now, group, asked.watches, &failure),
        }
        self.settle();
    }

    /// The store has said whether it has more for a watch behind a proxy. It counts only if it is of the watch's own
    /// history.
    fn missed_answered(&mut self, now: Instant, stream: StreamKey, range: RangeKey, done: Option<RangeDone>) {
        let Some(stream) = self.streams.current_mut(stream) else { return };
        let Some(watch) = stream.hearing_mut().asked_for(range) else { return };
        let watch = self.watches.get(watch);
        let done = done.filter(|done| watch.is_some_and(|watch| watch.place().may_be_of(done.cluster_id)));
        stream.hearing_mut().answered(now, &self.config, done);
    }

    fn now_answered(&mut self, now: Instant, id: GroupId, asked: Asked, done: RangeDone) {
        let Some(group) = self.groups.known_mut(id) else { return };
        match group.now_answered(now, &self.config, &mut self.rng, asked.shown, done) {
            Now::Behind => return self.wait_again(id, Purpose::Now, asked.watches),
            Now::WentBack => {
                for &id in group.streams() {
                    if let Some(stream) = self.streams.get_mut(id) {
                        stream.forget_shown();
                    }
                }
            }
            Now::Known => {}
        }
        for key in asked.watches {
            let Some(watch) = self.watches.get_mut(key).filter(|watch| watch.is_asked_for(Purpose::Now))
            else {
                continue;
            };
            watch.start_at(done);
            let stream = watch.stream();
            self.line_up(stream, key);
        }
    }

    fn now_failed(&mut self, now: Instant, id: GroupId, mut watches: Vec<WatchKey>, failure: &Failure) {
        let remedy = remedy(failure);
        let Some(reason) = final_reason(remedy, failure) else {
            return self.retry_read(now, id, Purpose::Now, watches, failure);
        };
        if let Some(group) = self.groups.get_mut(id) {
            group.read_mut(Purpose::Now).answered();
        }
        // The keys read were the first watch's: what is wrong with them concerns no other.
        let is_for_all = matches!(remedy, Remedy::Unsupported | Remedy::BadCredentials);
        let concerned = if is_for_all { watches.len() } else { watches.len().min(1) };
        let others = watches.split_off(concerned);
        self.close_asked(watches, Purpose::Now, &reason);
        self.wait_again(id, Purpose::Now, others);
    }

    fn denial_answered(
        &mut self,
        now: Instant,
        id: GroupId,
        watches: Vec<WatchKey>,
        result: Result<RangeDone, Failure>,
    ) {
        let Some(group) = self.groups.known_mut(id) else { return };
        let read = group.read_mut(Purpose::Denial);
        match judge(result) {
            Denied::Stands => {
                read.answered();
                watches.into_iter().for_each(|key| self.end_denied(key));
            }
            Denied::TokensExpired { is_ours } => {
                if is_ours {
                    // The next read carries a new one.
                    read.attempts().renew_token();
                } else {
                    read.answered();
                }
                self.tokens_expired(now, id, watches);
            }
            Denied::BadCredentials(reason) => {
                self.close_asked(watches, Purpose::Denial, &reason);
                self.close_in_line(id, Purpose::Denial, &reason);
            }
            Denied::Unknown(failure) => self.retry_read(now, id, Purpose::Denial, watches, &failure),
        }
    }
}

/// The answer to a read, if a store can have given it. A member that gives another one is as good as none.
fn believed(done: RangeDone) -> Result<RangeDone, Failure> {
    let RangeDone { revision, mod_revision, .. } = done;
    match [revision, mod_revision].into_iter().find(|&revision| !Header::may_be_revision(revision)) {
        Some(revision) => Err(Failure::connection(alloc::format!(
            "the endpoint answers with revision {revision}, which no store has"
        ))),
        None => Ok(done),
    }
}

/// Whether a frame brings nothing but events, or progress, of a watch.
fn is_plain(frame: &Frame) -> bool {
    !frame.created && !frame.canceled && frame.watch_id != NO_WATCH
}
