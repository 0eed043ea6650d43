//! The machine itself: the contract with its driver, and the application's commands.
//!
//! The other files of this room: `input.rs` takes in what the network did, `timers.rs` what time has brought,
//! `effects/` alone changes anything that watches, streams and reads can't change by themselves, `status.rs` answers
//! questions, `invariants.rs` checks what must always hold.

mod effects;
mod input;
mod invariants;
mod status;
mod timers;

use alloc::{
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    Action, ApiMisuse, CloseReason, ConfigError, Delivery, Instant, Request, StartAt, Stats, StreamEnd,
    StreamId, StreamKey, TimeoutReason, WatchConfig, WatchKey, WatchRequest,
    deadlines::{Deadlines, Owner},
    key::{Asker, GroupId, Purpose, RangeKey},
    reads::Groups,
    stream::{Stream, table::Streams},
    watch::{Watch, key_queue::give_back, queue::Spares, table::Watches},
};

/// Every watch of a client and every gRPC stream they travel on, as one synchronous machine.
///
/// It does no I/O, reads no clock and starts nothing. A *driver* owns the sockets and the timer, and
/// calls it:
///
/// - **commands** are the application's: [`watch`](Self::watch), [`cancel`](Self::cancel),
///   [`request_progress`](Self::request_progress), [`shutdown`](Self::shutdown), and
///   [`next`](Self::next) to take what a watch has; and the driver's own, [`move_stream`](Self::move_stream).
///   Only they return errors, and only for the caller's own misuse.
/// - **`handle_*`** tell it what happened: [`handle_opened`](Self::handle_opened),
///   [`handle_frame`](Self::handle_frame), [`handle_failed`](Self::handle_failed),
///   [`handle_range_done`](Self::handle_range_done), [`handle_timeout`](Self::handle_timeout). They
///   never fail: no bytes and no sequence of calls can make them panic (a panic is a bug here, never an
///   answer to input), allocate without bound or loop without bound.
/// - **`poll_*`** say what to do: after any call, take [`poll_action`](Self::poll_action) until it
///   returns `None`, then ask [`poll_timeout`](Self::poll_timeout) when to call `handle_timeout`.
///   [`has_actions`](Self::has_actions) says whether it is worth it.
/// - **getters** change nothing: [`stats`](Self::stats), [`watch_stats`](Self::watch_stats),
///   [`resume_revision`](Self::resume_revision), [`last_frame`](Self::last_frame), and for the log
///   [`reopens_at`](Self::reopens_at).
///
/// Time comes in as `now`; when it goes backwards it is taken to stand still. A call of `handle_timeout`
/// that is early does nothing. The same calls give the same actions, bit for bit: jitter comes from the
/// seed. So do those of a clone, which goes on from the same state: for looking at what would happen.
///
/// [`Action::Deliver`] says once that a watch has something; `next` takes it. What isn't taken stays in
/// the machine, which bounds it: not taking *is* backpressure. Ask [`wants_frame`](Self::wants_frame)
/// before reading more from a stream.
///
/// # Driving it by hand
/// ```
/// use bytes::Bytes;
/// use etcd_watch_core::{
///     Action, WatchConfig, Delivery, Frame, Instant, KeyRange, Opened, Request, WatchRequest, Watcher,
/// };
///
/// let now = Instant::ZERO;
/// let mut watcher = Watcher::new(WatchConfig::default(), 1)?;
/// let watch = watcher.watch(now, WatchRequest::new(KeyRange::key("k")).start_revision(5))?;
///
/// // It wants a stream. The driver connects, then:
/// let Some(Action::Open { stream, .. }) = watcher.poll_action() else { panic!() };
/// watcher.handle_opened(now, stream, Opened::default());
///
/// // It has a create request to send, with an id of its choice.
/// let Some(Action::Send { request: Request::Create(create), .. }) = watcher.poll_action() else { panic!() };
/// assert_eq!(create.start_revision, 5);
/// assert_eq!(watcher.poll_action(), None);
///
/// // The server's answers, here as raw protobuf: created, then one put of "k" at revision 7.
/// let id = create.watch_id.to_le_bytes();
/// let varint = [id[0] | 0x80, (create.watch_id >> 7) as u8 | 0x80, (create.watch_id >> 14) as u8];
/// let created = [&[0x10], &varint[..], &[0x18, 1]].concat();
/// watcher.handle_frame(now, stream, Frame::decode(Bytes::from(created)));
/// let key_value = [0x0a, 1, b'k', 0x10, 7, 0x18, 7, 0x20, 1];
/// let put = [&[0x10], &varint[..], &[0x5a, 11, 0x12, 9], &key_value].concat();
/// watcher.handle_frame(now, stream, Frame::decode(Bytes::from(put)));
///
/// // It has something for the watch.
/// assert_eq!(watcher.poll_action(), Some(Action::Deliver { watch }));
/// let Some(Delivery::Response(response)) = watcher.next(now, watch) else { panic!() };
/// let event = response.events().next().unwrap();
/// assert_eq!((event.key(), event.mod_revision()), (&b"k"[..], 7));
/// assert_eq!(response.resume_revision(), 8);
/// assert_eq!(watcher.next(now, watch), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Watcher {
    config: WatchConfig,
    rng: fastrand::Rng,
    now: Instant,
    watches: Watches,
    streams: Streams,
    groups: Groups,
    deadlines: Deadlines,
    actions: VecDeque<Action>,
    /// Cancels: they go out after everything else, creates above all.
    cancels: VecDeque<(StreamKey, i64)>,
    /// Groups that may have a read to ask for.
    reads_due: BTreeSet<GroupId>,
    /// What waits for consumers and what is incomplete, in bytes.
    held_bytes: usize,
    /// The watch whose incomplete revision may exceed the common budget.
    over_budget: Option<WatchKey>,
    spares: Spares,
    next_range: u64,
    is_shut_down: bool,
    stats: Stats,
}

impl Watcher {
    /// A machine without watches. `seed` is for the jitter of its backoff: any number, different for
    /// each client.
    ///
    /// # Errors
    /// When `config` [contradicts itself](WatchConfig::validate).
    pub fn new(config: WatchConfig, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::ZERO,
            watches: Watches::default(),
            streams: Streams::default(),
            groups: Groups::default(),
            deadlines: Deadlines::default(),
            actions: VecDeque::new(),
            cancels: VecDeque::new(),
            reads_due: BTreeSet::new(),
            held_bytes: 0,
            over_budget: None,
            spares: Spares::default(),
            next_range: 0,
            is_shut_down: false,
            stats: Stats::default(),
        })
    }

    /// Opens a watch. It is created on the server, and re-created after every break, without further
    /// calls; it ends when [`next`](Self::next) hands out its `Closed`.
    ///
    /// # Errors
    /// [`ApiMisuse::Request`] when the request [can't be served](WatchRequest::validate),
    /// [`ApiMisuse::ShutDown`] after a shutdown.
    pub fn watch(&mut self, now: Instant, mut request: WatchRequest) -> Result<WatchKey, ApiMisuse> {
        let now = self.advance(now);
        request.validate()?;
        if self.is_shut_down {
            return Err(ApiMisuse::ShutDown);
        }
        let group = self.groups.of(core::mem::take(&mut request.stream));
        let id = self.stream_for(now, group, request.own_stream);
        let mut watch = Watch::new(&request, id, &self.config);
        watch.is_away_since(now);
        let key = self.watches.insert(watch);
        self.stats.watches += 1;
        self.stats.state_changes += 1;
        self.join(id, key);
        match request.start {
            StartAt::Now => self.wait_for_read(group, Purpose::Now, key),
            StartAt::Revision(_) => self.line_up(id, key),
        }
        self.settle();
        Ok(key)
    }

    /// The stream that the next watch travels on. It is opened, if need be.
    fn stream_for(&mut self, now: Instant, group: GroupId, is_own: bool) -> StreamId {
        let shared = self.groups.get(group).filter(|_| !is_own);
        if let Some(id) = shared.and_then(|group| group.stream_with_room(&self.config)) {
            return id;
        }
        let id = self.streams.insert(|id| Stream::new(id, group, is_own));
        if let Some(group) = self.groups.get_mut(group) {
            group.add_stream(id, is_own);
        }
        self.open(now, id);
        id
    }

    /// Ends a watch: what waits is thrown away, the server is told, and `next` hands out
    /// `Closed(Cancelled)`. A watch that has ended already stays as it is.
    ///
    /// # Errors
    /// [`ApiMisuse::UnknownWatch`] when its `Closed` has been taken.
    pub fn cancel(&mut self, now: Instant, watch: WatchKey) -> Result<(), ApiMisuse> {
        self.advance(now);
        let key = watch;
        let Some(watch) = self.watches.get_mut(key) else { return Err(ApiMisuse::UnknownWatch(key)) };
        if !watch.is_closed() {
            watch.discard();
            self.close(key, CloseReason::Cancelled);
            self.settle();
        }
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
        self.advance(now);
        let key = watch;
        let Some(watch) = self.watches.get_mut(key) else { return Err(ApiMisuse::UnknownWatch(key)) };
        if !watch.is_closed() {
            watch.want_progress();
            self.ask_for_progress(key);
            self.settle();
        }
        Ok(())
    }

    /// Takes what a watch has next: responses that waited together come together, up to the batch
    /// limits. After [`Action::Deliver`], take until this returns `None`; the watch is announced again
    /// only then. After `Closed` the key means nothing any more.
    pub fn next(&mut self, now: Instant, watch: WatchKey) -> Option<Delivery> {
        let now = self.advance(now);
        let key = watch;
        let watch = self.watches.get_mut(key)?;
        let delivery = watch.take(now, &self.config, &mut self.spares);
        let waits_for_consumer = watch.waits_for_consumer();
        match &delivery {
            Some(Delivery::Closed(_)) => {
                self.watches.remove(key);
                return delivery;
            }
            Some(Delivery::Response(_)) => {
                self.stats.responses += 1;
                self.taken(key);
            }
            None => {}
        }
        if waits_for_consumer {
            self.go_on(now, key);
            self.settle();
        }
        delivery
    }

    /// Gives an open stream's connection up at once and opens another, because the driver has a better place for it.
    /// Its watches go on there at exactly the next revision. It is no failure: there is no backoff, and nothing
    /// is held against the endpoint. The driver chooses the endpoint ([`EndpointHint::Any`](crate::EndpointHint)). A
    /// stream without watches is only closed.
    ///
    /// # Errors
    /// [`ApiMisuse::StreamNotOpen`], and nothing changes, when the stream is gone, or is being opened or
    /// waiting to be: then the driver has its choice of endpoint already.
    pub fn move_stream(&mut self, now: Instant, stream: StreamKey) -> Result<(), ApiMisuse> {
        let now = self.advance(now);
        let key = stream;
        let open = self.streams.current(key).filter(|stream| stream.connection().is_some());
        let Some(is_empty) = open.map(|stream| stream.watches().is_empty()) else {
            return Err(ApiMisuse::StreamNotOpen(key));
        };
        self.stats.moves += 1;
        self.leave(key.stream, Some(StreamEnd::Moved));
        if is_empty {
            self.forget_stream(key.stream);
        } else {
            self.open(now, key.stream);
        }
        self.settle();
        Ok(())
    }

    /// Ends every watch with `Closed(ShutDown)`, after what waits for its consumer, and every stream.
    pub fn shutdown(&mut self, now: Instant) {
        self.end_everything(now, &CloseReason::ShutDown);
    }

    /// [`shutdown`](Self::shutdown) by a driver that can't go on, since its runtime is gone: every watch ends with
    /// `Closed(RuntimeGone)`. A watch that was closed before keeps its reason.
    pub fn abandon(&mut self, now: Instant) {
        self.end_everything(now, &CloseReason::RuntimeGone);
    }

    fn end_everything(&mut self, now: Instant, reason: &CloseReason) {
        self.advance(now);
        self.is_shut_down = true;
        let open = self.watches.iter().filter(|(_, watch)| !watch.is_closed());
        let keys: Vec<WatchKey> = open.map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.close(key, reason.clone()));
        for id in self.streams.ids() {
            self.remove_stream(id, StreamEnd::ShutDown);
        }
        self.groups.clear();
        self.reads_due.clear();
        self.settle();
    }

    /// The next thing to do, or `None` when there is nothing until the next call or timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if !self.reads_due.is_empty() {
            // As late as possible, so that all the watches opened in one go share one read.
            self.ask_for_reads();
            self.settle();
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
        }
        while let Some((stream, watch_id)) = self.cancels.pop_front() {
            // With a connection that is gone its watches on the server are gone, too.
            if self.streams.current(stream).is_some() {
                self.stats.cancels += 1;
                let request = Request::Cancel { watch_id };
                return Some(Action::Send { stream, request, creates: None });
            }
        }
        // A storm has passed: its room isn't needed any more.
        give_back(&mut self.actions);
        give_back(&mut self.cancels);
        None
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` when nothing waits for time. It costs the same
    /// however many watches and streams there are.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| at)
    }

    /// Why: the reason for [`poll_timeout`](Self::poll_timeout).
    #[must_use]
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.deadlines.first().map(|(_, reason)| reason)
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// The end of every call that changes something: the deadlines of all that was changed are brought up to date.
    fn settle(&mut self) {
        while let Some(id) = self.streams.next_touched() {
            let due = self.streams.get(id).and_then(|stream| stream.due(&self.config));
            self.deadlines.set(Owner::Stream(id), due);
        }
        let watches = &self.watches;
        let waits =
            |key, purpose| watches.get(key).is_some_and(|watch: &Watch| watch.is_in_line_for(purpose));
        while let Some(id) = self.groups.next_touched(waits) {
            for purpose in [Purpose::Now, Purpose::Denial] {
                let due = self.groups.get(id).and_then(|group| group.read(purpose).due(&self.config));
                self.deadlines.set(Owner::Read(id, purpose), due);
            }
        }
    }

    fn next_range_key(&mut self, asker: Asker) -> RangeKey {
        let number = self.next_range;
        self.next_range += 1;
        RangeKey { number, asker }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KeyRange;

    #[test]
    fn the_room_that_a_storm_of_actions_took_is_given_back() {
        let mut watcher = Watcher::new(WatchConfig::default(), 1).expect("a valid configuration");
        for number in 0..1_000 {
            let request = WatchRequest::new(KeyRange::key("k")).start_revision(1).own_stream(true);
            watcher.watch(Instant::ZERO, request).expect("a valid request");
            let gone = StreamKey { stream: StreamId(number), connection: 7 };
            watcher.cancels.push_back((gone, 0));
        }
        assert!(watcher.actions.capacity() >= 1_000);
        while watcher.poll_action().is_some() {}
        assert!(watcher.actions.capacity() <= 64 && watcher.cancels.capacity() <= 64);
    }
}
