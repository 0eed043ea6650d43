//! The machine itself.

mod commands;
mod delivery;
mod denials;
mod frames;
mod ranges;
mod status;
mod streams;
mod timers;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};

use crate::{
    Action, Config, ConfigError, Instant, Stats, StreamKey, TimeoutReason, WatchKey,
    reads::Group,
    stream::{GrpcStream, Lane},
    watch::queue::Spares,
    watch::{SharedOptions, Substream},
};

/// How many slots an empty queue of actions keeps.
const KEPT_ACTIONS: usize = 64;

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
///   [`resume_revision`](Self::resume_revision), and for the log [`reopens_at`](Self::reopens_at).
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
///     Action, Config, Delivery, Instant, KeyRange, Opened, Request, WatchRequest, Watcher,
/// };
///
/// let now = Instant::ZERO;
/// let mut watcher = Watcher::new(Config::default(), 1)?;
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
/// watcher.handle_frame(now, stream, Bytes::from(created));
/// let put = [&[0x10], &varint[..], &[0x5a, 7, 0x12, 5, 0x0a, 1, b'k', 0x18, 7]].concat();
/// watcher.handle_frame(now, stream, Bytes::from(put));
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
    config: Config,
    rng: fastrand::Rng,
    now: Instant,
    /// Boxed: a map of them in order of their keys is half empty.
    watches: BTreeMap<WatchKey, Box<Substream>>,
    lanes: BTreeMap<u32, Lane>,
    groups: BTreeMap<SharedOptions, Group>,
    actions: VecDeque<Action>,
    /// Cancels: they go out after everything else, creates above all.
    cancels: VecDeque<Action>,
    /// Whether some group may have a read to ask for.
    reads_due: bool,
    queued_bytes: usize,
    spares: Spares,
    next_watch: u64,
    next_lane: u32,
    next_range: u64,
    is_shut_down: bool,
    stats: Stats,
}

impl Watcher {
    /// A machine without watches. `seed` is for the jitter of its backoff: any number, different for
    /// each client.
    ///
    /// # Errors
    /// When `config` [contradicts itself](Config::validate).
    pub fn new(config: Config, seed: u64) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            config,
            rng: fastrand::Rng::with_seed(seed),
            now: Instant::ZERO,
            watches: BTreeMap::new(),
            lanes: BTreeMap::new(),
            groups: BTreeMap::new(),
            actions: VecDeque::new(),
            cancels: VecDeque::new(),
            reads_due: false,
            queued_bytes: 0,
            spares: Spares::default(),
            next_watch: 1,
            next_lane: 0,
            next_range: 0,
            is_shut_down: false,
            stats: Stats::default(),
        })
    }

    /// The next thing to do, or `None` when there is nothing until the next call or timeout.
    pub fn poll_action(&mut self) -> Option<Action> {
        if self.actions.is_empty() && core::mem::take(&mut self.reads_due) {
            // As late as possible, so that all the watches opened in one go share one read.
            self.ask_for_reads();
        }
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        while let Some(cancel) = self.cancels.pop_front() {
            // A stream that is gone meanwhile took its watches with it.
            if let Action::Send { stream, .. } = &cancel
                && self.lane_of(*stream).is_some()
            {
                self.stats.cancels += 1;
                return Some(cancel);
            }
        }
        // A storm has passed: its room isn't needed any more.
        self.actions.shrink_to(KEPT_ACTIONS);
        self.cancels.shrink_to(KEPT_ACTIONS);
        None
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); `None` when nothing waits for time.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout().map(|(at, _)| at)
    }

    /// Why: the reason for [`poll_timeout`](Self::poll_timeout).
    #[must_use]
    pub fn timeout_reason(&self) -> Option<TimeoutReason> {
        self.next_timeout().map(|(_, reason)| reason)
    }

    fn next_timeout(&self) -> Option<(Instant, TimeoutReason)> {
        let lanes = self.lanes.values().flat_map(|lane| lane.timeouts(&self.config));
        let groups = self.groups.values().flat_map(|group| group.timeouts(&self.config));
        lanes.chain(groups).min()
    }

    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    /// The lane of a stream that is still the current one.
    fn lane_of(&mut self, stream: StreamKey) -> Option<&mut Lane> {
        self.lanes.get_mut(&stream.lane).filter(|lane| lane.incarnation == stream.incarnation)
    }

    /// A lane's stream, if it is open.
    fn open_stream(&mut self, number: u32) -> Option<&mut GrpcStream> {
        self.lanes.get_mut(&number)?.stream()
    }

    fn lane_numbers(&self) -> Vec<u32> {
        self.lanes.keys().copied().collect()
    }
}
