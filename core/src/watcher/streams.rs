//! Opening, failing and replacing streams, and creating watches on them.

use alloc::{boxed::Box, string::String, vec::Vec};

use super::{Watcher, denials::DENIAL_LIMIT};
use crate::{
    Action, ApiMisuse, CloseReason, CreateRequest, Creates, EndpointHint, Failure, Filters, Instant,
    KeyRange, Opened, Remedy, Request, ServerMisbehaved, StreamEnd, StreamKey, WatchKey,
    failure::{TOKEN_LIMIT, final_reason, message_of},
    remedy,
    stream::{GrpcStream, Lane, LaneState, Pending},
    watch::State,
};

/// Streams in a row that may end with a response over the limit before the watch it must be for ends.
const TOO_LARGE_LIMIT: u32 = 3;

impl Watcher {
    pub(super) fn open_lane(&mut self, now: Instant, number: u32) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        lane.state = LaneState::Opening;
        lane.patience.attempt(now);
        let endpoint =
            if core::mem::take(&mut lane.elsewhere) { EndpointHint::Another } else { EndpointHint::Any };
        self.stats.opens += 1;
        self.actions.push_back(Action::Open {
            stream: lane.key(),
            options: lane.options.clone(),
            endpoint,
            fresh_token: lane.fresh_token,
        });
    }

    /// The stream is open: requests can be sent. (etcd sends its response headers only with the first
    /// response, so a driver must not wait for them before it says so.)
    pub fn handle_opened(&mut self, now: Instant, stream: StreamKey, opened: Opened) {
        let now = self.advance(now);
        let Some(lane) =
            self.lanes.get_mut(&stream.lane).filter(|lane| lane.incarnation == stream.incarnation)
        else {
            return;
        };
        if !matches!(lane.state, LaneState::Opening) {
            return;
        }
        if opened.version.is_some() {
            lane.patience.reached();
        }
        let mut open = GrpcStream::new(now, opened, &mut self.rng);
        let waits = |key: &&WatchKey| {
            self.watches.get(key).is_some_and(|watch| matches!(watch.state, State::Waiting))
        };
        open.to_create = lane.watches.iter().filter(waits).copied().collect();
        lane.state = LaneState::Open(Box::new(open));
        self.send_creates(stream.lane);
    }

    /// A watch is ready to be created on its lane.
    pub(super) fn enqueue_create(&mut self, number: u32, watch: WatchKey) {
        if let Some(stream) = self.open_stream(number) {
            stream.to_create.push_back(watch);
            self.send_creates(number);
        }
    }

    /// Sends the creates that may go out: one until the server has echoed its id, then all.
    pub(super) fn send_creates(&mut self, number: u32) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let key = lane.key();
        let LaneState::Open(stream) = &mut lane.state else { return };
        if !stream.proven && !stream.to_create.is_empty() {
            lane.patience.attempt(now);
        }
        while stream.may_create()
            && let Some(watch) = stream.to_create.pop_front()
        {
            let Some(substream) = self.watches.get_mut(&watch) else { continue };
            let id = stream.take_id();
            let Some(create) = substream.create_request(id) else { continue };
            substream.state = State::Creating;
            stream.pending.push_back(Pending { id, watch: Some(watch) });
            stream.answer_due.get_or_insert(now + self.config.answer_timeout);
            self.stats.creates += 1;
            let resumes = substream.created_before;
            self.stats.recreates += u64::from(resumes);
            substream.counts.recreates = substream.counts.recreates.saturating_add(resumes.into());
            let creates = Some(Creates { watch, resumes });
            self.actions.push_back(Action::Send { stream: key, request: Request::Create(create), creates });
        }
    }

    /// Asks a stream for a sign of life, and for its member's revision: a watch that sees nothing is created for
    /// nobody, and cancelled as soon as it is there. A create is always answered. A progress request is not: etcd
    /// passes over it while a watch of the stream catches up, or begins in the member's future, as all do that go on
    /// where a quiet store is; and proxies don't forward it.
    pub(super) fn probe(&mut self, now: Instant, number: u32) {
        // What a stream that isn't read would say, nobody hears.
        let Some(lane) = self.lanes.get_mut(&number).filter(|lane| lane.holds == 0) else { return };
        let key = lane.key();
        let watch = lane.watches.first().and_then(|watch| self.watches.get(watch));
        // Who may watch a range may watch its first key.
        let first_key = watch.map(|watch| watch.range.start().clone()).unwrap_or_default();
        let Some(stream) = lane.stream() else { return };
        if !stream.pending.is_empty() {
            return; // Their answers will do.
        }
        let id = stream.take_id();
        stream.pending.push_back(Pending { id, watch: None });
        stream.answer_due.get_or_insert(now + self.config.answer_timeout);
        let request = Request::Create(CreateRequest {
            range: KeyRange::key(first_key),
            start_revision: 0,
            progress_notify: false,
            filters: Filters { no_put: true, no_delete: true },
            prev_kv: false,
            watch_id: id,
            fragment: false,
        });
        self.actions.push_back(Action::Send { stream: key, request, creates: None });
    }

    /// The stream is gone, or could not be opened. Its watches go on elsewhere, at exactly the next
    /// revision.
    pub fn handle_failed(&mut self, now: Instant, stream: StreamKey, failure: Failure) {
        let now = self.advance(now);
        let Some(lane) = self.lane_of(stream) else { return };
        if matches!(lane.state, LaneState::Backoff { .. }) {
            return;
        }
        let remedy = remedy(&failure);
        let ended = final_reason(remedy, &failure);
        lane.too_large = if remedy == Remedy::TooLarge { lane.too_large + 1 } else { 0 };
        lane.patience.failed(now, &failure, remedy == Remedy::NoLeader);
        if let Failure::ResponseTooLarge { bytes, limit } = failure
            && lane.too_large >= TOO_LARGE_LIMIT
        {
            self.close_unheard(stream.lane, &CloseReason::TooLarge { what: "a response", bytes, limit });
        }
        if remedy == Remedy::Reauthenticate {
            self.token_refused(now, stream.lane, message_of(&failure), None);
            return;
        }
        if let Some(reason) = ended {
            // What the whole stream is refused for, every watch on it is.
            self.replace_stream(now, stream.lane, remedy, None);
            self.close_all(stream.lane, &reason);
            return;
        }
        self.replace_stream(now, stream.lane, remedy, None);
        self.give_up_if_due(now, stream.lane);
    }

    /// Ends the watches that have heard nothing on this stream but that they were created: one of them is
    /// what the response over the limit was for.
    fn close_unheard(&mut self, number: u32, reason: &CloseReason) {
        let unheard = |key: &WatchKey| matches!(self.watches.get(key).map(|watch| &watch.state), Some(State::Active(active)) if !active.heard);
        let watches: Vec<WatchKey> = self.lane_watches(number).into_iter().filter(unheard).collect();
        for watch in watches {
            self.close_watch(watch, reason.clone());
        }
    }

    pub(super) fn close_all(&mut self, number: u32, reason: &CloseReason) {
        for watch in self.lane_watches(number) {
            self.close_watch(watch, reason.clone());
        }
    }

    pub(super) fn lane_watches(&self, number: u32) -> Vec<WatchKey> {
        self.lanes.get(&number).map(|lane| lane.watches.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn give_up_if_due(&mut self, now: Instant, number: u32) {
        let verdict = self.lanes.get(&number).and_then(|lane| lane.patience.verdict(now, &self.config));
        if let Some(reason) = verdict {
            self.close_all(number, &reason);
        }
    }

    /// The server broke the protocol.
    pub(super) fn misbehaved(&mut self, now: Instant, number: u32, what: ServerMisbehaved) {
        self.stats.misbehaved += 1;
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.penalty = lane.penalty.saturating_add(1);
        }
        self.replace_stream(now, number, Remedy::RetryElsewhere, Some(what.into()));
    }

    /// The server does not accept the token of a lane's stream: the next one is opened with a new token.
    /// Where new ones are refused too, that ends.
    pub(super) fn token_refused(
        &mut self,
        now: Instant,
        number: u32,
        message: String,
        end: Option<StreamEnd>,
    ) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        // The first to be refused had not been asked for anew.
        let is_last = lane.is_last_token();
        lane.refused_tokens += u32::from(lane.fresh_token);
        let tokens = lane.refused_tokens;
        self.replace_stream(now, number, Remedy::Reauthenticate, end);
        if is_last {
            self.close_all(number, &CloseReason::TokenRefused { tokens, message });
        } else {
            self.give_up_if_due(now, number);
        }
    }

    /// Gives an open stream up at once and opens it anew, because the driver has a better place for it. Its
    /// watches go on there at exactly the next revision. It is no failure: there is no backoff, and nothing
    /// is held against the endpoint. The driver chooses the endpoint ([`EndpointHint::Any`]). A stream
    /// without watches is only closed.
    ///
    /// # Errors
    /// [`ApiMisuse::StreamNotOpen`], and nothing changes, when the stream is gone, or is being opened or
    /// waiting to be: then the driver has its choice of endpoint already.
    pub fn move_stream(&mut self, now: Instant, stream: StreamKey) -> Result<(), ApiMisuse> {
        let now = self.advance(now);
        let number = stream.lane;
        if self.lane_of(stream).and_then(Lane::stream).is_none() {
            return Err(ApiMisuse::StreamNotOpen(stream));
        }
        self.stats.moves += 1;
        self.leave_stream(number, Some(StreamEnd::Moved));
        if self.lanes.get(&number).is_some_and(|lane| lane.watches.is_empty()) {
            self.drop_lane(number);
        } else {
            self.open_lane(now, number);
        }
        Ok(())
    }

    /// Gives a lane's stream up and schedules the next one. `end` is said to a driver that does not know
    /// yet. A lane without watches goes away instead.
    pub(super) fn replace_stream(
        &mut self,
        now: Instant,
        number: u32,
        remedy: Remedy,
        end: Option<StreamEnd>,
    ) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        self.stats.reconnects += u64::from(matches!(lane.state, LaneState::Open(_)));
        lane.elsewhere = !matches!(remedy, Remedy::Retry | Remedy::Reauthenticate);
        lane.fresh_token |= remedy == Remedy::Reauthenticate;
        // Misbehaviour isn't forgiven by the frames before it.
        lane.backoff.at_least(lane.penalty);
        self.leave_stream(number, end);
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let until = now + lane.backoff.next(&self.config, &mut self.rng);
        lane.state = LaneState::Backoff { until };
        if lane.watches.is_empty() {
            self.drop_lane(number);
        }
    }

    /// The end of an incarnation: its watches wait for the next one, and what it still says is ignored.
    fn leave_stream(&mut self, number: u32, end: Option<StreamEnd>) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        if let Some(reason) = end {
            self.actions.push_back(Action::Close { stream: lane.key(), reason });
        }
        for key in &lane.watches {
            let Some(watch) = self.watches.get_mut(key) else { continue };
            if core::mem::take(&mut watch.holding) {
                // It has no room: every new stream would bring one more response.
                watch.state = State::Overflowed;
            } else if matches!(watch.state, State::Creating | State::Active(_)) {
                watch.state = State::Waiting;
            }
        }
        lane.holds = 0;
        lane.incarnation = lane.incarnation.wrapping_add(1);
        if let Some(lag) = &mut lane.lag {
            lag.watches.clear();
        }
    }

    /// Closes a lane that is not needed any more.
    pub(super) fn remove_lane(&mut self, number: u32, reason: StreamEnd) {
        let Some(lane) = self.lanes.get(&number) else { return };
        if !matches!(lane.state, LaneState::Backoff { .. }) {
            self.actions.push_back(Action::Close { stream: lane.key(), reason });
        }
        self.drop_lane(number);
    }

    fn drop_lane(&mut self, number: u32) {
        let Some(lane) = self.lanes.remove(&number) else { return };
        if let Some(group) = self.groups.get_mut(&lane.options) {
            group.lanes.remove(&number);
        }
        self.drop_group_if_unused(&lane.options);
    }

    /// What a refusal or an unexplained cancel comes to: end the watch, or try again.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        number: u32,
        key: WatchKey,
        message: String,
        running: bool,
    ) {
        /// How often in a row before it counts as final.
        const LIMIT: u8 = 8;
        let has_token = self.has_token(number);
        let is_last_token = self.lanes.get(&number).is_some_and(Lane::is_last_token);
        let Some(watch) = self.watches.get_mut(&key) else { return };
        let times = if running { &mut watch.cancels } else { &mut watch.refusals };
        *times = times.saturating_add(1);
        let is_final = *times >= LIMIT;
        // Others of the stream may do well with its tokens.
        let is_alone = u32::from(*times) > TOKEN_LIMIT && !is_last_token;
        match crate::failure::remedy_of_cancel(&message) {
            Some(Remedy::Denied) if has_token && !running && *times < DENIAL_LIMIT => {
                self.doubt(number, key, message);
            }
            Some(Remedy::BadCredentials) => {
                self.close_watch(key, CloseReason::AuthenticationFailed { message });
            }
            Some(Remedy::Denied) => self.close_watch(key, CloseReason::PermissionDenied { message }),
            Some(Remedy::Reauthenticate) if is_alone => {
                self.close_watch(key, CloseReason::TokenRefused { tokens: TOKEN_LIMIT, message });
            }
            Some(Remedy::Reauthenticate) => {
                self.token_refused(now, number, message, Some(StreamEnd::TokenExpired));
            }
            Some(_) if is_final => self.close_watch(key, CloseReason::Refused { message }),
            Some(Remedy::Retry) => {
                watch.state = State::Waiting;
                self.enqueue_create(number, key);
            }
            None if message.is_empty() && !is_final => {
                watch.state = State::Waiting;
                self.enqueue_create(number, key);
            }
            None if running => self.close_watch(key, CloseReason::CancelledByServer { message }),
            None => self.close_watch(key, CloseReason::Refused { message }),
            // What concerns the member concerns the whole stream.
            Some(remedy) => {
                if let Some(lane) = self.lanes.get_mut(&number) {
                    let failure = Failure::status(crate::Code::Unavailable, message.clone());
                    lane.patience.failed(now, &failure, remedy == Remedy::NoLeader);
                }
                self.replace_stream(now, number, remedy, Some(StreamEnd::Unavailable { message }));
                self.give_up_if_due(now, number);
            }
        }
    }
}
