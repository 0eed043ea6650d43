//! What the application asks for.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::Watcher;
use crate::{
    Action, ApiMisuse, CloseReason, Instant, Request, StartAt, StreamEnd, WatchKey, WatchRequest,
    reads::Purpose,
    stream::{Lane, LaneState, Route},
    watch::place::ResumePoint,
    watch::queue::Queue,
    watch::{Counts, SharedOptions, State, Substream},
};

impl Watcher {
    /// Opens a watch. It is created on the server, and re-created after every break, without further
    /// calls; it ends when [`next`](Self::next) hands out its `Closed`.
    ///
    /// # Errors
    /// [`ApiMisuse::Request`] when the request [can't be served](WatchRequest::validate),
    /// [`ApiMisuse::ShutDown`] after a shutdown.
    pub fn watch(&mut self, now: Instant, request: WatchRequest) -> Result<WatchKey, ApiMisuse> {
        let now = self.advance(now);
        request.validate()?;
        if self.is_shut_down {
            return Err(ApiMisuse::ShutDown);
        }
        let key = WatchKey(self.next_watch);
        self.next_watch += 1;
        let options = Arc::new(request.stream);
        let lane = self.lane_with_room(now, &options);
        let budget = request.buffer_bytes.unwrap_or(self.config.buffer_bytes);
        let (state, resume) = match request.start {
            StartAt::Now => (State::AwaitingRevision, None),
            StartAt::Revision(revision) => (State::Waiting, Some(ResumePoint::at(revision))),
        };
        let substream = Substream {
            range: request.range,
            filters: request.filters,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            progress_notify: request.progress_notify,
            progress_wanted: false,
            created_notify: request.created_notify,
            overflow: request.overflow.unwrap_or(self.config.overflow),
            lane,
            state,
            resume,
            known: request.known.1,
            cluster_id: request.known.0,
            refusals: 0,
            cancels: 0,
            created_before: false,
            holding: false,
            queue: Queue::new(self.config.buffer_floor_bytes, budget),
            counts: Counts::default(),
        };
        self.watches.insert(key, Box::new(substream));
        if resume.is_some() {
            self.enqueue_create(lane, key);
        } else {
            self.await_revision(&options, key);
        }
        Ok(key)
    }

    /// Ends a watch: what waits is thrown away, the server is told, and `next` hands out
    /// `Closed(Cancelled)`. A watch that has ended already stays as it is.
    ///
    /// # Errors
    /// [`ApiMisuse::UnknownWatch`] when its `Closed` has been taken.
    pub fn cancel(&mut self, now: Instant, watch: WatchKey) -> Result<(), ApiMisuse> {
        self.advance(now);
        let Some(substream) = self.watches.get_mut(&watch) else {
            return Err(ApiMisuse::UnknownWatch(watch));
        };
        if substream.is_closed() {
            return Ok(());
        }
        self.queued_bytes -= substream.queue.discard();
        self.close_watch(watch, CloseReason::Cancelled);
        Ok(())
    }

    /// Asks the server for a progress notification, to be delivered even if the watch did not ask for
    /// them. The answer comes once everything before it has, or never on servers whose answers can't be
    /// believed (before 3.4.25 and 3.5.8, and those that won't tell their version): there, wait for an
    /// event or a periodic notification.
    ///
    /// # Errors
    /// [`ApiMisuse::UnknownWatch`] when its `Closed` has been taken.
    pub fn request_progress(&mut self, now: Instant, watch: WatchKey) -> Result<(), ApiMisuse> {
        let now = self.advance(now);
        let Some(substream) = self.watches.get_mut(&watch) else {
            return Err(ApiMisuse::UnknownWatch(watch));
        };
        if substream.is_closed() {
            return Ok(());
        }
        substream.progress_wanted = true;
        if matches!(substream.state, State::Active(_)) {
            let lane = substream.lane;
            self.want_progress(now, lane, watch);
        }
        Ok(())
    }

    /// Ends every watch with `Closed(ShutDown)`, after what waits for its consumer, and every stream.
    pub fn shutdown(&mut self, now: Instant) {
        self.advance(now);
        self.is_shut_down = true;
        let watches: Vec<WatchKey> = self.watches.keys().copied().collect();
        for watch in watches {
            self.close_watch(watch, CloseReason::ShutDown);
        }
        for number in self.lane_numbers() {
            self.remove_lane(number, StreamEnd::ShutDown);
        }
        self.groups.clear();
    }

    /// The lane a new watch travels on: of the first lanes, as many as watches are spread over, the one with
    /// the fewest; past those, the first that has room; a new one if all are full.
    fn lane_with_room(&mut self, now: Instant, options: &SharedOptions) -> u32 {
        let group = self.groups.entry(options.clone()).or_default();
        let limit = self.config.max_watches_per_stream;
        let with_room = |number: &u32| {
            let count = self.lanes.get(number)?.watches.len();
            (count < limit).then_some((count, *number))
        };
        let streams = self.config.streams;
        let emptiest = group.lanes.iter().take(streams).filter_map(with_room).min();
        let chosen = match emptiest {
            Some((1.., _)) if group.lanes.len() < streams => None,
            Some(emptiest) => Some(emptiest),
            None => group.lanes.iter().skip(streams).find_map(with_room),
        };
        let number = match chosen {
            Some((_, number)) => number,
            None => {
                let number = self.next_lane;
                self.next_lane += 1;
                group.lanes.insert(number);
                self.lanes.insert(number, Lane::new(number, options.clone()));
                self.open_lane(now, number);
                number
            }
        };
        if let Some(lane) = self.lanes.get_mut(&number) {
            lane.watches.insert(WatchKey(self.next_watch - 1));
            lane.empty_since = None;
        }
        number
    }

    /// Ends a watch for good: takes it off its stream and leaves its `Closed` behind what waits.
    pub(super) fn close_watch(&mut self, key: WatchKey, reason: CloseReason) {
        let Some(watch) = self.watches.get_mut(&key).filter(|watch| !watch.is_closed()) else { return };
        watch.queue.close(reason);
        self.detach(key, State::Closed);
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if watch.queue.notify() {
            self.actions.push_back(Action::Deliver { watch: key });
        }
        let number = watch.lane;
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        lane.watches.remove(&key);
        if let Some(lag) = &mut lane.lag {
            lag.watches.remove(&key);
        }
        if !lane.watches.is_empty() {
            return;
        }
        if matches!(lane.state, LaneState::Backoff { .. }) {
            self.remove_lane(number, StreamEnd::Idle);
        } else {
            lane.empty_since = Some(now);
        }
    }

    /// Takes a watch off the server, if it is there, and puts it into another state. Its lane keeps it.
    pub(super) fn detach(&mut self, key: WatchKey, to: State) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        let was = core::mem::replace(&mut watch.state, to);
        let holding = core::mem::take(&mut watch.holding);
        let Some(lane) = self.lanes.get_mut(&watch.lane) else { return };
        if holding {
            lane.release(self.now, &self.config);
        }
        let stream_key = lane.key();
        let purpose = match was {
            State::AwaitingRevision => Some(Purpose::Now),
            State::Denied(_) => Some(Purpose::Denial),
            _ => None,
        };
        if let Some(purpose) = purpose
            && let Some(group) = self.groups.get_mut(&lane.options)
        {
            group.read(purpose).waiting.retain(|&waiting| waiting != key);
        }
        let LaneState::Open(stream) = &mut lane.state else { return };
        stream.wanting.remove(&key);
        match was {
            State::Active(active) => {
                // `None` when the server ended it: then there is nothing to cancel.
                if let Some(route) = stream.routes.get_mut(&active.id)
                    && *route == Route::Live(key)
                {
                    *route = Route::Cancelled;
                    let request = Request::Cancel { watch_id: active.id };
                    self.cancels.push_back(Action::Send { stream: stream_key, request, creates: None });
                }
            }
            State::Creating => {
                if let Some(pending) = stream.pending.iter_mut().find(|pending| pending.watch == Some(key)) {
                    pending.watch = None;
                }
            }
            State::Waiting => stream.to_create.retain(|&waiting| waiting != key),
            State::AwaitingRevision | State::Denied(_) | State::Overflowed | State::Closed => {}
        }
    }
}
