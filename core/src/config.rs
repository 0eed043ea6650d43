//! The machine's settings.

use alloc::format;
use core::{fmt::Debug, ops::RangeInclusive, time::Duration};

use crate::{ConfigError, Overflow};

/// The longest time that anything may be told to wait: longer ones are mistakes, and overflow clocks.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What may be held in memory.
pub(crate) const BYTES: RangeInclusive<usize> = 1..=isize::MAX as usize;
pub(crate) const BYTES_ALLOWED: &str = "from 1 to isize::MAX";

/// How many there may be of anything.
pub(crate) const COUNTS: RangeInclusive<usize> = 1..=u32::MAX as usize;
pub(crate) const COUNTS_ALLOWED: &str = "from 1 to 4294967295";

/// Settings of a [`Watcher`](crate::Watcher). Start from `WatchConfig::default()`, change what you need, and
/// hand it over: [`Watcher::new`](crate::Watcher::new) refuses contradictions.
///
/// ```
/// use core::time::Duration;
/// use etcd_watch_core::WatchConfig;
///
/// let config = WatchConfig::default().buffer_bytes(1 << 20).probe(Some(Duration::from_secs(20)));
/// assert!(config.validate().is_ok());
/// assert!(WatchConfig::default().buffer_bytes(0).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct WatchConfig {
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
    pub(crate) page_bytes: usize,
}

impl Default for WatchConfig {
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
            page_bytes: 16 << 20,
        }
    }
}

impl WatchConfig {
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

    /// What a watch's buffer may hold at first, and behind a consumer that takes nothing. The limit doubles up to
    /// [`buffer_bytes`](Self::buffer_bytes) as long as the consumer has taken something within
    /// [`stall_after`](Self::stall_after), and halves again when the room isn't used. Default: 1 MiB (or `buffer_bytes`, if that is less).
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
    /// Those that only one watch travels on ([`own_stream`](crate::WatchRequest::own_stream)) don't count. Default: 1:
    /// few connections, and each fills up before the next is opened.
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
    ///
    /// Behind a proxy, which chooses the ids of watches itself, a probe finds only the proxy. There one watch of a stream
    /// after the other is listened to for this long. If nothing comes for it, the store is asked by one read whether a
    /// key of its range was put since its last event. A watch that then stays behind for the
    /// [time of a sign of life](Self::probe_timeout) has been lost by the proxy: its stream is replaced, and it goes on
    /// without a loss ([`Stats::deaf`](crate::Stats::deaf)). Deletes alone are not noticed. A server looks at the whole
    /// range for such a read.
    pub fn probe(mut self, idle: Option<Duration>) -> Self {
        self.probe_idle = idle;
        self
    }

    /// How long the sign of life may take, and how long a watch behind a proxy may be behind what the store has. Default:
    /// 5 s.
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

    /// How long a stream without watches is kept for the next one. A stream that was for one watch alone is kept as
    /// long, though no other watch joins it. Default: 5 s.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// The size in bytes that pages of a [`Mirror`](crate::Mirror)'s lists are to have. Default: 16 MiB. A list begins with
    /// a small page, and each page's size decides how many keys the next is asked for. A page of several times this size is
    /// refused, and asked for again with fewer keys; only a page of a single key may have any size.
    ///
    /// A server goes through all that is left of the range for each page, so small pages make large lists slow: a list
    /// of a million keys of 100 B takes four times as long in pages of 1 MiB.
    pub fn page_bytes(mut self, bytes: usize) -> Self {
        self.page_bytes = bytes;
        self
    }

    /// Checks that the settings can work together; [`Watcher::new`](crate::Watcher::new) does so too.
    ///
    /// # Errors
    /// Names the field that is out of range, and what it may be; or the two fields that contradict each other. Times
    /// are from 1 ns (a backoff or a deadline of 0 would be a busy loop) to 365 days, sizes from 1 byte to
    /// `isize::MAX`, counts from 1 to 4,294,967,295.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let durations = [
            ("stall_after", Some(self.stall_after)),
            ("backoff floor", Some(self.backoff_floor)),
            ("backoff base", Some(self.backoff_base)),
            ("backoff ceiling", Some(self.backoff_ceiling)),
            ("answer_timeout", Some(self.answer_timeout)),
            ("probe", self.probe_idle),
            ("probe_timeout", Some(self.probe_timeout)),
            ("progress_interval", self.progress_interval),
            ("lag_deadline", Some(self.lag_deadline)),
            ("no_leader_deadline", self.no_leader_deadline),
            ("unreachable_deadline", self.unreachable_deadline),
        ];
        for (field, value) in durations.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            check(field, value, !value.is_zero() && value <= MAX_DURATION, "above 0 and at most 365 days")?;
        }
        check("linger", self.linger, self.linger <= MAX_DURATION, "at most 365 days")?;
        for (field, value) in [
            ("buffer_bytes", self.buffer_bytes),
            ("buffer_floor_bytes", self.buffer_floor_bytes),
            ("total_buffer_bytes", self.total_buffer_bytes),
            ("batch_bytes", self.batch_bytes),
            ("max_revision_bytes", self.max_revision_bytes),
            ("page_bytes", self.page_bytes),
        ] {
            check(field, value, BYTES.contains(&value), BYTES_ALLOWED)?;
        }
        for (field, value) in [
            ("batch_events", self.batch_events),
            ("max_watches_per_stream", self.max_watches_per_stream),
            ("streams", self.streams),
        ] {
            check(field, value, COUNTS.contains(&value), COUNTS_ALLOWED)?;
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

fn check(
    field: &'static str,
    value: impl Debug,
    is_in: bool,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if is_in {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { field, value: format!("{value:?}"), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(WatchConfig::default().validate(), Ok(()));
    }

    #[test]
    fn what_is_set_is_kept() {
        let second = Duration::from_secs(1);
        let config = WatchConfig::default().overflow(Overflow::Pause).stall_after(second).streams(3);
        assert_eq!((config.overflow, config.stall_after, config.streams), (Overflow::Pause, second, 3));
    }

    #[test]
    fn what_is_out_of_range_is_refused_by_name() {
        let refused = |config: WatchConfig| match config.validate() {
            Err(ConfigError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let config = WatchConfig::default;
        for bad in [Duration::ZERO, Duration::MAX] {
            assert_eq!(refused(config().stall_after(bad)), "stall_after");
            assert_eq!(refused(config().backoff(bad, bad, bad)), "backoff floor");
            assert_eq!(refused(config().answer_timeout(bad)), "answer_timeout");
            assert_eq!(refused(config().probe(Some(bad))), "probe");
            assert_eq!(refused(config().probe_timeout(bad)), "probe_timeout");
            assert_eq!(refused(config().progress_interval(Some(bad))), "progress_interval");
            assert_eq!(refused(config().lag_deadline(bad)), "lag_deadline");
            assert_eq!(refused(config().no_leader_deadline(Some(bad))), "no_leader_deadline");
            assert_eq!(refused(config().unreachable_deadline(Some(bad))), "unreachable_deadline");
        }
        let second = Duration::from_secs(1);
        assert_eq!(refused(config().backoff(second, second, Duration::MAX)), "backoff ceiling");
        assert_eq!(refused(config().linger(Duration::MAX)), "linger");
        assert_eq!(config().linger(Duration::ZERO).validate(), Ok(()));
        for bad in [0, usize::MAX] {
            assert_eq!(refused(config().buffer_bytes(bad)), "buffer_bytes");
            assert_eq!(refused(config().buffer_floor_bytes(bad)), "buffer_floor_bytes");
            assert_eq!(refused(config().total_buffer_bytes(bad)), "total_buffer_bytes");
            assert_eq!(refused(config().batch_bytes(bad)), "batch_bytes");
            assert_eq!(refused(config().batch_events(bad)), "batch_events");
            assert_eq!(refused(config().max_revision_bytes(bad)), "max_revision_bytes");
            assert_eq!(refused(config().max_watches_per_stream(bad)), "max_watches_per_stream");
            assert_eq!(refused(config().streams(bad)), "streams");
            assert_eq!(refused(config().page_bytes(bad)), "page_bytes");
        }
    }

    #[test]
    fn a_bound_may_be_as_low_as_the_one_below_it_but_no_lower() {
        let buffers = |floor, buffer, total| {
            // In this order: a smaller buffer takes its floor with it.
            let config = WatchConfig::default().buffer_bytes(buffer).buffer_floor_bytes(floor);
            config.total_buffer_bytes(total).validate()
        };
        let backoff = |floor, base, ceiling| {
            let [floor, base, ceiling] = [floor, base, ceiling].map(Duration::from_secs);
            WatchConfig::default().backoff(floor, base, ceiling).validate()
        };
        let inverted = |low, high| Err(ConfigError::Inverted { low, high });
        assert_eq!((buffers(7, 7, 7), backoff(2, 2, 2)), (Ok(()), Ok(())));
        assert_eq!(buffers(8, 7, 7), inverted("buffer_floor_bytes", "buffer_bytes"));
        assert_eq!(buffers(7, 8, 7), inverted("buffer_bytes", "total_buffer_bytes"));
        assert_eq!(backoff(3, 2, 2), inverted("backoff floor", "backoff ceiling"));
        assert_eq!(backoff(2, 3, 2), inverted("backoff base", "backoff ceiling"));
    }
}
