//! What servers say.

use alloc::{string::String, vec::Vec};
use bytes::Bytes;

use super::Watcher;
use crate::{
    CloseReason, Frame, Header, Instant, ResponseKind, ServerMisbehaved, StreamKey, WatchKey, WatchResponse,
    stream::{Echo, Lag, LaneState, Route},
    watch::response::Chunk,
    watch::{Active, State},
};

/// The id of responses that are for the stream as a whole, and of refused creates.
const NO_WATCH: i64 = -1;

/// Whether a `created` response says that nothing was created. (With an id, a compacted watch was.)
fn is_refused(frame: &Frame) -> bool {
    frame.canceled && (frame.compact_revision == 0 || frame.watch_id == NO_WATCH)
}

impl Watcher {
    /// One `WatchResponse`, as received, without gRPC's five-byte prefix. What a stream says that is gone
    /// is ignored.
    pub fn handle_frame(&mut self, now: Instant, stream: StreamKey, frame: Bytes) {
        let now = self.advance(now);
        match self.lane_of(stream) {
            Some(lane) if matches!(lane.state, LaneState::Open(_)) => {}
            _ => return,
        }
        self.stats.frames += 1;
        self.stats.frame_bytes += frame.len() as u64;
        let number = stream.lane;
        let mut is_refusal = false;
        let outcome = match Frame::decode(frame) {
            Ok(mut decoded) => {
                // A number below 0 says no more than 0 does: that nothing was compacted.
                decoded.compact_revision = decoded.compact_revision.max(0);
                is_refusal = decoded.created && is_refused(&decoded);
                self.handle_decoded(now, number, decoded)
            }
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(()) => {
                // Unless the frame itself had the stream replaced.
                if let Some(lane) = self.lanes.get_mut(&number)
                    && lane.incarnation == stream.incarnation
                {
                    lane.proved(now, &self.config, is_refusal);
                }
            }
            Err(what) => self.misbehaved(now, number, what),
        }
    }

    fn handle_decoded(
        &mut self,
        now: Instant,
        number: u32,
        mut frame: Frame,
    ) -> Result<(), ServerMisbehaved> {
        // The gRPC proxy makes `created` up, with the revision that was asked for: it may not exist yet.
        if !frame.created || frame.header.cluster_id != 0 {
            self.follow_lag(number, frame.header);
        }
        if frame.created {
            let Some((key, id)) = self.match_created(number, &frame)? else { return Ok(()) };
            if is_refused(&frame) {
                if self.is_other_store(key, frame.header) {
                    return Ok(());
                }
                if frame.compact_revision > 0 {
                    self.cancelled(now, number, key, frame.compact_revision, String::new());
                    return Ok(());
                }
                let reason = frame.cancel_reason().into();
                self.refused(now, number, key, reason, false);
                return Ok(());
            }
            self.created(now, number, key, id, frame.header);
            if !frame.canceled {
                return Ok(());
            }
            frame.watch_id = id;
        }
        if frame.watch_id == NO_WATCH && !frame.canceled && frame.events.is_empty() {
            self.stream_progress(now, number, frame.header);
            return Ok(());
        }
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(()) };
        let Some(stream) = lane.stream() else { return Ok(()) };
        let key = match stream.routes.get(&frame.watch_id) {
            Some(&Route::Live(key)) => key,
            Some(Route::Cancelled) => {
                if frame.canceled {
                    stream.routes.remove(&frame.watch_id);
                }
                return Ok(());
            }
            None => return stream.count_stale(frame.watch_id),
        };
        if frame.canceled {
            // etcd holds on to a compacted watch until it is cancelled; the route makes the close do so.
            if frame.compact_revision == 0 {
                stream.routes.remove(&frame.watch_id);
            }
            let reason = frame.cancel_reason().into();
            self.cancelled(now, number, key, frame.compact_revision, reason);
            return Ok(());
        }
        if self.is_other_store(key, frame.header) {
            return Ok(());
        }
        if frame.events.is_empty() {
            self.stats.progress_notifications += 1;
            self.watch_progress(now, key, frame.header, false);
            return Ok(());
        }
        let (header, fragment) = (frame.header, frame.fragment);
        self.events(now, number, key, frame.into(), header, fragment)
    }

    /// Which create a `created` response answers.
    fn match_created(
        &mut self,
        number: u32,
        frame: &Frame,
    ) -> Result<Option<(WatchKey, i64)>, ServerMisbehaved> {
        let watch_id = frame.watch_id;
        let unexpected = ServerMisbehaved::UnexpectedCreated { watch_id };
        let Some(lane) = self.lanes.get_mut(&number) else { return Ok(None) };
        let key = lane.key();
        let Some(stream) = lane.stream() else { return Ok(None) };
        // Replies keep the order of the requests; a refused one carries no id but that order.
        let Some(pending) = stream.pending.pop_front() else { return Err(unexpected) };
        if !is_refused(frame) {
            match stream.echo {
                Echo::Unknown if watch_id == pending.id => stream.echo = Echo::Kept,
                Echo::Unknown => {
                    stream.echo = Echo::Ignored;
                    stream.next_id = 0;
                }
                Echo::Kept if watch_id != pending.id => return Err(unexpected),
                Echo::Kept | Echo::Ignored => {}
            }
            if stream.echo == Echo::Ignored {
                if watch_id < 0 || stream.routes.contains_key(&watch_id) {
                    return Err(unexpected);
                }
                stream.next_id = stream.next_id.max(watch_id.saturating_add(1));
            }
            let route = pending.watch.map_or(Route::Cancelled, Route::Live);
            stream.routes.insert(watch_id, route);
            if pending.watch.is_none() {
                // It was cancelled while its create was on the way, or was a probe's.
                let request = crate::Request::Cancel { watch_id };
                self.cancels.push_back(crate::Action::Send { stream: key, request, creates: None });
            }
        }
        self.send_creates(number);
        Ok(pending.watch.map(|watch| (watch, watch_id)))
    }

    /// A watch runs on the server.
    fn created(&mut self, now: Instant, number: u32, key: WatchKey, id: i64, header: Header) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let requests_before = lane.stream().map_or(0, |stream| stream.progress_requests);
        let Some(watch) = self.watches.get_mut(&key) else { return };
        let active = Active { id, created_at: header.revision, requests_before, heard: false, partial: None };
        watch.state = State::Active(active);
        watch.created_before = true;
        watch.refusals = 0;
        if self.is_other_store(key, header) {
            return;
        }
        let (Some(watch), Some(lane)) = (self.watches.get_mut(&key), self.lanes.get_mut(&number)) else {
            return;
        };
        if header.revision != 0 && header.revision < watch.known {
            let lag = lane.lag.get_or_insert_with(|| Lag {
                since: now,
                moved: false,
                revision: header.revision,
                watches: Default::default(),
                ask_at: now,
            });
            if lag.watches.is_empty() {
                lag.since = now;
                lag.ask_at = now;
            }
            lag.revision = header.revision;
            lag.watches.insert(key);
        }
        let (wanted, next) = (watch.progress_wanted, watch.next_revision());
        if core::mem::take(&mut watch.created_notify) {
            self.deliver(now, key, WatchResponse::notice(ResponseKind::Created, header, next));
        }
        if wanted {
            self.want_progress(now, number, key);
        }
    }

    /// The server ended a watch that was running.
    fn cancelled(&mut self, now: Instant, number: u32, key: WatchKey, compact_revision: i64, reason: String) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if compact_revision > 0 {
            let next_revision = watch.next_revision();
            self.close_watch(key, CloseReason::Compacted { compact_revision, next_revision });
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&number)
            && core::mem::take(&mut watch.holding)
        {
            lane.release(now, &self.config);
        }
        self.refused(now, number, key, reason, true);
    }

    /// Whether another cluster is speaking; the watch ends if so.
    fn is_other_store(&mut self, key: WatchKey, header: Header) -> bool {
        let Some(watch) = self.watches.get_mut(&key) else { return true };
        if header.cluster_id == 0 || header.cluster_id == watch.cluster_id {
            return false;
        }
        if watch.cluster_id == 0 {
            watch.cluster_id = header.cluster_id;
            return false;
        }
        let reason = CloseReason::StoreChanged { before: watch.cluster_id, after: header.cluster_id };
        self.close_watch(key, reason);
        true
    }

    fn events(
        &mut self,
        now: Instant,
        number: u32,
        key: WatchKey,
        chunk: Chunk,
        header: Header,
        more: bool,
    ) -> Result<(), ServerMisbehaved> {
        let Some(watch) = self.watches.get_mut(&key) else { return Ok(()) };
        let admitted = watch.admit(chunk, header, more)?;
        watch.cancels = 0;
        let stale = u32::try_from(admitted.stale).unwrap_or(u32::MAX);
        watch.counts.stale_events = watch.counts.stale_events.saturating_add(stale);
        let partial_bytes = watch.partial_bytes();
        // Those of a revision that is not complete yet may come again.
        self.stats.events += admitted.response.as_ref().map_or(0, |response| response.len() as u64);
        self.stats.stale_events += admitted.stale as u64;
        self.stats.overtaken_events += admitted.overtaken as u64;
        if admitted.overtaken > 0 {
            self.distrust(number, key);
        }
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.too_large = 0;
        }
        if let Some(response) = admitted.response {
            self.deliver(now, key, response);
        }
        let limit = self.config.max_revision_bytes;
        if partial_bytes > limit {
            self.close_watch(key, CloseReason::TooLarge { what: "a revision", bytes: partial_bytes, limit });
        }
        Ok(())
    }

    /// An event came below a progress revision: this stream's progress is believed no more, and what it
    /// vouched for is taken back.
    fn distrust(&mut self, number: u32, key: WatchKey) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if let LaneState::Open(stream) = &mut lane.state {
            stream.lied = true;
        }
        for watch in &lane.watches {
            if let Some(point) = self.watches.get_mut(watch).and_then(|watch| watch.resume.as_mut()) {
                if *watch == key {
                    point.withdraw_all();
                } else {
                    point.withdraw();
                }
            }
        }
    }

    /// A reply to a manual progress request: it speaks for all the stream's watches, if it can be
    /// believed, and if it was made after the watch was created.
    ///
    /// A reply may have been made before a watch and still come after its `Created`: the two take
    /// different ways through the server. It speaks for the watch if its revision is past the one the
    /// watch was created at, or if more replies have come than were asked for before the `Created` came.
    fn stream_progress(&mut self, now: Instant, number: u32, header: Header) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let Some(stream) = lane.stream() else { return };
        stream.progress_replies += 1;
        self.stats.progress_notifications += 1;
        let replies = stream.progress_replies;
        if !stream.trusts_manual_progress() {
            self.stats.untrusted_progress += 1;
            return;
        }
        let speaks_for = |key: &WatchKey| match self.watches.get(key).map(|watch| &watch.state) {
            Some(State::Active(active)) => {
                header.revision > active.created_at || replies > active.requests_before
            }
            _ => false,
        };
        let watches: Vec<WatchKey> = lane.watches.iter().filter(|key| speaks_for(key)).copied().collect();
        for watch in watches {
            if !self.is_other_store(watch, header) {
                self.watch_progress(now, watch, header, true);
            }
        }
    }

    /// The server says that a watch has everything up to the header's revision.
    fn watch_progress(&mut self, now: Instant, key: WatchKey, header: Header, manual: bool) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        let (State::Active(active), Some(point)) = (&mut watch.state, &mut watch.resume) else { return };
        active.heard = true;
        watch.cancels = 0;
        let lied = self.lanes.get_mut(&watch.lane).and_then(|lane| lane.stream()).is_some_and(|s| s.lied);
        if lied
            || active.partial.is_some()
            || header.revision == 0
            || !point.progress(header.revision, manual)
        {
            return;
        }
        watch.known = watch.known.max(header.revision);
        let wanted = core::mem::take(&mut watch.progress_wanted);
        if wanted && let Some(stream) = self.lanes.get_mut(&watch.lane).and_then(|lane| lane.stream()) {
            stream.wanting.remove(&key);
        }
        if wanted || watch.progress_notify {
            let next = watch.next_revision();
            self.deliver(now, key, WatchResponse::notice(ResponseKind::Progress, header, next));
        }
    }

    /// A member that lagged may have caught up.
    fn follow_lag(&mut self, number: u32, header: Header) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        lane.shown.note(header.cluster_id, header.revision);
        let Some(lag) = &mut lane.lag else { return };
        let revision = header.revision;
        if revision == 0 {
            return;
        }
        lag.revision = revision;
        lag.watches.retain(|watch| self.watches.get(watch).is_some_and(|watch| watch.known > revision));
        // Not before all its watches are back on the server: one that is ahead may still be among them.
        if lag.watches.is_empty()
            && let LaneState::Open(stream) = &lane.state
            && stream.proven
            && stream.to_create.is_empty()
            && stream.pending.iter().all(|create| create.watch.is_none())
        {
            lane.lag = None;
        }
    }
}
