//! The machine's settings.

use core::time::Duration;

use crate::{ConfigError, Overflow};

/// Settings of a [`Watcher`](crate::Watcher). Start from `Config::default()`, change what you need, and
/// hand it over: [`Watcher::new`](crate::Watcher::new) refuses contradictions.
///
/// ```
/// use core::time::Duration;
/// use etcd_watch_core::Config;
///
/// let config = Config::default().buffer_bytes(1 << 20).probe(Some(Duration::from_secs(20)));
/// assert!(config.validate().is_ok());
/// assert!(Config::default().buffer_bytes(0).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Config {
    pub(crate) overflow: Overflow,
    pub(crate) buffer_bytes: usize,
    pub(crate) buffer_floor_bytes: usize,
    pub(crate) total_buffer_bytes: usize,
    pub(crate) stall_after: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) batch_events: usize,
    pub(crate) max_revision_bytes: usize,
    pub(crate) max_watches_per_stream: usize,
    pub(crate) streams: usize,
    pub(crate) backoff_floor: Duration,
    pub(crate) backoff_base: Duration,
    pub(crate) backoff_ceiling: Duration,
    pub(crate) answer_timeout: Duration,
    pub(crate) probe_idle: Option<Duration>,
    pub(crate) probe_timeout: Duration,
    pub(crate) progress_interval: Option<Duration>,
    pub(crate) lag_deadline: Duration,
    pub(crate) no_leader_deadline: Option<Duration>,
    pub(crate) unreachable_deadline: Option<Duration>,
    pub(crate) linger: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            overflow: Overflow::Replay,
            buffer_bytes: 16 << 20,
            buffer_floor_bytes: 1 << 20,
            total_buffer_bytes: 256 << 20,
            stall_after: Duration::from_millis(500),
            batch_bytes: 1 << 20,
            batch_events: 4096,
            max_revision_bytes: 512 << 20,
            max_watches_per_stream: 10_000,
            streams: 1,
            backoff_floor: Duration::from_millis(10),
            backoff_base: Duration::from_millis(50),
            backoff_ceiling: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            probe_idle: None,
            probe_timeout: Duration::from_secs(5),
            progress_interval: Some(Duration::from_secs(60)),
            lag_deadline: Duration::from_secs(10),
            no_leader_deadline: None,
            unreachable_deadline: None,
            linger: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// What to do when a consumer is too slow and its watch doesn't say. Default: replay from etcd's
    /// history, which neither loses events nor disturbs other watches.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// The most bytes that may wait for one consumer; what happens beyond is the watch's [`Overflow`] policy. Two
    /// things may exceed it: a response that is the only one to wait, which is always kept, and with
    /// [`Overflow::Pause`] the one response that crosses the line. Default: 16 MiB, some 60,000 small events.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self.buffer_floor_bytes = self.buffer_floor_bytes.min(bytes);
        self
    }

    /// What a watch's buffer may hold behind a consumer that takes nothing at all. From here the limit
    /// doubles up to [`buffer_bytes`](Self::buffer_bytes) as long as the consumer keeps moving, and
    /// halves again when the room isn't used. Default: 1 MiB (or `buffer_bytes`, if that is less).
    pub fn buffer_floor_bytes(mut self, bytes: usize) -> Self {
        self.buffer_floor_bytes = bytes;
        self
    }

    /// The most bytes that may wait for all consumers together, with what has come of revisions that are not complete.
    /// Default: 256 MiB.
    ///
    /// It is kept by dropping what waits for the consumers that have taken nothing for longest. With
    /// [`Overflow::Replay`] that is asked for again when the consumer calls `next`; with [`Overflow::Fail`] the watch
    /// ends with [`Lagged`](crate::CloseReason::Lagged), whose `next_revision` says where to go on. Where that is not
    /// enough, all incomplete revisions but one are asked for again later. Three things are never dropped, and may
    /// exceed the total: the newest response, if it is the only one to wait for its consumer; the one incomplete
    /// revision; and what waits behind [`Overflow::Pause`], whose stream isn't read further.
    pub fn total_buffer_bytes(mut self, bytes: usize) -> Self {
        self.total_buffer_bytes = bytes;
        self
    }

    /// A consumer that has taken nothing for this long counts as stalled: its buffer grows no further.
    /// Default: 500 ms, well above a scheduler's pauses.
    pub fn stall_after(mut self, after: Duration) -> Self {
        self.stall_after = after;
        self
    }

    /// Responses that wait together are handed over together, up to this many bytes. Default: 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Responses that wait together are handed over together, up to this many events; 1 hands over each
    /// response by itself. Default: 4096.
    pub fn batch_events(mut self, events: usize) -> Self {
        self.batch_events = events;
        self
    }

    /// The most bytes one revision may have, since it can only be delivered whole. Default: 512 MiB: a
    /// delete of a million keys with their previous values.
    pub fn max_revision_bytes(mut self, bytes: usize) -> Self {
        self.max_revision_bytes = bytes;
        self
    }

    /// The most watches on one gRPC stream; beyond it another stream is opened. Default: 10,000.
    pub fn max_watches_per_stream(mut self, watches: usize) -> Self {
        self.max_watches_per_stream = watches;
        self
    }

    /// Over how many gRPC streams watches with equal options are spread: each new watch goes to the one with
    /// the fewest. A driver that opens each on another endpoint spreads the load over a cluster's members.
    /// Default: 1: few connections, and each fills up before the next is opened.
    pub fn streams(mut self, streams: usize) -> Self {
        self.streams = streams;
        self
    }

    /// How long to wait before a reconnect: a random time between `floor` and `base` doubled with each
    /// failure up to `ceiling` (full jitter). Default: 10 ms, 50 ms, 5 s: a blip costs little, and a
    /// thousand clients of a member that restarts don't arrive together.
    pub fn backoff(mut self, floor: Duration, base: Duration, ceiling: Duration) -> Self {
        (self.backoff_floor, self.backoff_base, self.backoff_ceiling) = (floor, base, ceiling);
        self
    }

    /// How long a stream may leave a create request unanswered. Default: 10 s.
    pub fn answer_timeout(mut self, timeout: Duration) -> Self {
        self.answer_timeout = timeout;
        self
    }

    /// Ask a stream that has been silent for this long for a sign of life: to create a watch that sees
    /// nothing, which is cancelled at once. Default: off, since connections are watched by HTTP/2 keepalive
    /// in any case. What a probe finds besides is a member that answers pings but not its watches.
    pub fn probe(mut self, idle: Option<Duration>) -> Self {
        self.probe_idle = idle;
        self
    }

    /// How long the sign of life may take. Default: 5 s.
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.probe_timeout = timeout;
        self
    }

    /// How often a trusted stream is asked for progress, so that a quiet watch resumes at a recent
    /// revision and not into compaction. Default: 60 s. `None`: rely on the server's own notifications.
    pub fn progress_interval(mut self, interval: Option<Duration>) -> Self {
        self.progress_interval = interval;
        self
    }

    /// How long a member may be behind what was already seen, before another is tried, and again before
    /// [`StoreRegressed`](crate::CloseReason::StoreRegressed) is reported. Also how long other members are asked
    /// for the current revision when one tells less than was seen before; then it is believed. Default: 10 s.
    pub fn lag_deadline(mut self, deadline: Duration) -> Self {
        self.lag_deadline = deadline;
        self
    }

    /// How long to look for a member with a leader before watches end with
    /// [`NoLeader`](crate::CloseReason::NoLeader). Default: `None`, for ever.
    pub fn no_leader_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.no_leader_deadline = deadline;
        self
    }

    /// How long to go on without any answer before watches end with
    /// [`Unreachable`](crate::CloseReason::Unreachable). Default: `None`, for ever.
    pub fn unreachable_deadline(mut self, deadline: Option<Duration>) -> Self {
        self.unreachable_deadline = deadline;
        self
    }

    /// How long a stream without watches is kept for the next one. Default: 5 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Checks that the settings can work together; [`Watcher::new`](crate::Watcher::new) does so too.
    ///
    /// # Errors
    /// Names the field that is zero, or the two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let durations = [
            ("stall_after", Some(self.stall_after)),
            ("backoff floor", Some(self.backoff_floor)),
            ("backoff base", Some(self.backoff_base)),
            ("answer_timeout", Some(self.answer_timeout)),
            ("probe", self.probe_idle),
            ("probe_timeout", Some(self.probe_timeout)),
            ("progress_interval", self.progress_interval),
            ("lag_deadline", Some(self.lag_deadline)),
            ("no_leader_deadline", self.no_leader_deadline),
            ("unreachable_deadline", self.unreachable_deadline),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, value)| *value == Some(Duration::ZERO)) {
            return Err(ConfigError::Zero { field });
        }
        let sizes = [
            ("buffer_bytes", self.buffer_bytes),
            ("buffer_floor_bytes", self.buffer_floor_bytes),
            ("total_buffer_bytes", self.total_buffer_bytes),
            ("batch_bytes", self.batch_bytes),
            ("batch_events", self.batch_events),
            ("max_revision_bytes", self.max_revision_bytes),
            ("max_watches_per_stream", self.max_watches_per_stream),
            ("streams", self.streams),
        ];
        if let Some(&(field, _)) = sizes.iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { field });
        }
        for (low, high, inverted) in [
            ("buffer_floor_bytes", "buffer_bytes", self.buffer_floor_bytes > self.buffer_bytes),
            ("buffer_bytes", "total_buffer_bytes", self.buffer_bytes > self.total_buffer_bytes),
            ("backoff floor", "backoff ceiling", self.backoff_floor > self.backoff_ceiling),
            ("backoff base", "backoff ceiling", self.backoff_base > self.backoff_ceiling),
        ] {
            if inverted {
                return Err(ConfigError::Inverted { low, high });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn what_is_set_is_kept() {
        let second = Duration::from_secs(1);
        let config = Config::default().overflow(Overflow::Pause).stall_after(second).streams(3);
        assert_eq!((config.overflow, config.stall_after, config.streams), (Overflow::Pause, second, 3));
    }

    #[test]
    fn zeros_and_contradictions_are_refused_by_name() {
        let zero = Config::default().batch_events(0).validate();
        assert_eq!(zero, Err(ConfigError::Zero { field: "batch_events" }));
        let zero = Config::default().streams(0).validate();
        assert_eq!(zero, Err(ConfigError::Zero { field: "streams" }));
        let zero = Config::default().probe(Some(Duration::ZERO)).validate();
        assert_eq!(zero, Err(ConfigError::Zero { field: "probe" }));
    }

    #[test]
    fn a_bound_may_be_as_low_as_the_one_below_it_but_no_lower() {
        let buffers = |floor, buffer, total| {
            // In this order: a smaller buffer takes its floor with it.
            let config = Config::default().buffer_bytes(buffer).buffer_floor_bytes(floor);
            config.total_buffer_bytes(total).validate()
        };
        let backoff = |floor, base, ceiling| {
            let [floor, base, ceiling] = [floor, base, ceiling].map(Duration::from_secs);
            Config::default().backoff(floor, base, ceiling).validate()
        };
        let inverted = |low, high| Err(ConfigError::Inverted { low, high });
        assert_eq!((buffers(7, 7, 7), backoff(2, 2, 2)), (Ok(()), Ok(())));
        assert_eq!(buffers(8, 7, 7), inverted("buffer_floor_bytes", "buffer_bytes"));
        assert_eq!(buffers(7, 8, 7), inverted("buffer_bytes", "total_buffer_bytes"));
        assert_eq!(backoff(3, 2, 2), inverted("backoff floor", "backoff ceiling"));
        assert_eq!(backoff(2, 3, 2), inverted("backoff base", "backoff ceiling"));
    }
}
