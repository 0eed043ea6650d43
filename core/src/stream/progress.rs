//! Manual progress: what one connection's server was asked, what it replied, and for whom a reply speaks.
//!
//! A reply to a manual request carries no watch id and speaks for all the watches of the connection. In etcd it takes
//! another channel to the send loop than a `Created` does, so a reply can be older than a watch and still arrive after
//! its `Created`. A reply speaks for a watch if one of two things proves that it was made after the watch:
//!
//! - its revision is past the one in the watch's `Created`, or
//! - more replies have arrived than requests had been sent before the `Created` arrived.
//!
//! Servers pass over requests while a watch of the connection catches up. So the second rule may want many replies in a
//! quiet store: each reply that is one too few is followed by the next request at once.

use alloc::{collections::BTreeSet, vec::Vec};
use core::time::Duration;

use crate::{Header, Instant, Opened, ServerVersion, WatchConfig, WatchKey};

/// How many requests may be unanswered before they are spaced out.
const BURST: u64 = 128;

/// How far they are spaced out then, and how soon a wanted one is repeated.
const PAUSE: Duration = Duration::from_millis(100);

/// Manual progress on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Whether replies wait for the events before them, by the server's version.
    is_ordered: bool,
    /// Whether requests are answered while the watches are quiet, by the server's version.
    is_answered: bool,
    /// Whether an event has come at or below a revision that was reported complete.
    is_false: bool,
    requests: u64,
    replies: u64,
    last_request: Option<Instant>,
    /// The last reply that can be believed.
    spoken: Option<Header>,
    /// Watches that want a notification, for their consumers or since they missed changes.
    wanting: BTreeSet<WatchKey>,
    /// Watches whose consumer gets every notification.
    listening: BTreeSet<WatchKey>,
    /// More replies than this speak for every watch that wants one.
    enough_replies: u64,
}

impl Progress {
    pub(crate) fn new(opened: Opened) -> Self {
        let mut progress = Self {
            is_ordered: false,
            is_answered: false,
            is_false: false,
            requests: 0,
            replies: 0,
            last_request: None,
            spoken: None,
            wanting: BTreeSet::new(),
            listening: BTreeSet::new(),
            enough_replies: 0,
        };
        if let Some(version) = opened.version {
            progress.learn(version);
        }
        progress
    }

    /// The server has told its version.
    pub(crate) fn learn(&mut self, version: ServerVersion) {
        self.is_ordered = version.orders_manual_progress();
        self.is_answered = version.answers_progress_on_quiet_streams();
    }

    /// Whether replies move resume points.
    pub(crate) fn is_trusted(&self) -> bool {
        self.is_ordered && !self.is_false
    }

    /// Whether a watch that wants to know how far it is can rely on being told.
    pub(crate) fn tells(&self) -> bool {
        self.is_trusted() && self.is_answered
    }

    /// Whether an event has come at or below a revision that was reported complete.
    pub(crate) fn is_false(&self) -> bool {
        self.is_false
    }

    /// Requests sent so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Replies received so far.
    pub(crate) fn replies(&self) -> u64 {
        self.replies
    }

    /// The header of the last reply that can be believed.
    pub(crate) fn spoken(&self) -> Option<Header> {
        self.spoken
    }

    /// A watch runs on the connection.
    pub(crate) fn add(&mut self, key: WatchKey, listens: bool) {
        if listens {
            self.listening.insert(key);
        }
    }

    /// A watch that runs on the connection wants a notification. `requests_before` is how many requests had been sent
    /// when it was created.
    pub(crate) fn want(&mut self, key: WatchKey, requests_before: u64) {
        self.wanting.insert(key);
        self.enough_replies = self.enough_replies.max(requests_before);
    }

    /// Whether a watch that runs on the connection wants a notification.
    pub(crate) fn is_wanted_by(&self, key: WatchKey) -> bool {
        self.wanting.contains(&key)
    }

    /// How many watches want a notification.
    pub(crate) fn wanted(&self) -> usize {
        self.wanting.len()
    }

    /// A watch has had its notification.
    pub(crate) fn satisfied(&mut self, key: WatchKey) {
        self.wanting.remove(&key);
    }

    /// A watch runs on the connection no more.
    pub(crate) fn remove(&mut self, key: WatchKey) {
        self.wanting.remove(&key);
        self.listening.remove(&key);
    }

    /// Whether a request may be sent now; counts it if so.
    pub(crate) fn take_turn(&mut self, now: Instant) -> bool {
        let is_rested = self.last_request.is_none_or(|last| now >= last + PAUSE);
        if self.unanswered() >= BURST && !is_rested {
            return false;
        }
        self.count_request(now);
        true
    }

    fn count_request(&mut self, now: Instant) {
        self.requests += 1;
        self.last_request = Some(now);
    }

    fn unanswered(&self) -> u64 {
        self.requests.saturating_sub(self.replies)
    }

    /// A reply has come. The watches whose consumers may have to be told; `None` if it can't be believed.
    pub(crate) fn reply(&mut self, header: Header) -> Option<Vec<WatchKey>> {
        self.replies += 1;
        if !self.is_trusted() {
            return None;
        }
        if header.revision > 0 {
            self.spoken = Some(header);
        }
        Some(self.listening.union(&self.wanting).copied().collect())
    }

    /// Whether another request must follow the last reply at once, because too few have come to speak for every watch
    /// that wants one. Counts it if so.
    pub(crate) fn follows_up(&mut self, now: Instant) -> bool {
        let is_due = self.is_trusted() && !self.wanting.is_empty() && self.replies <= self.enough_replies;
        if is_due {
            self.count_request(now);
        }
        is_due
    }

    /// An event came at or below a revision that was reported complete: no reply of this connection is believed any
    /// more.
    pub(crate) fn disprove(&mut self) {
        self.is_false = true;
        self.spoken = None;
    }

    /// When the next request is due, if nothing else asks for one before. `opened` is when the connection was.
    pub(crate) fn due(&self, config: &WatchConfig, opened: Instant, has_watches: bool) -> Option<Instant> {
        if !self.is_trusted() {
            return None;
        }
        let last = self.last_request.unwrap_or(opened);
        if !self.wanting.is_empty() {
            return Some(last + PAUSE * u32::try_from(self.unanswered()).unwrap_or(u32::MAX).clamp(1, 50));
        }
        config.progress_interval.filter(|_| has_watches).map(|interval| last + interval.max(PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn trusted() -> Progress {
        Progress::new(Opened { version: Some(ServerVersion::new(3, 5, 30)), authenticated: false })
    }

    fn key(index: u32) -> WatchKey {
        WatchKey { number: index.into(), index }
    }

    #[test]
    fn requests_are_spaced_out_once_many_are_unanswered() {
        let mut progress = trusted();
        assert!((0..BURST).all(|_| progress.take_turn(at(10))));
        assert!(!progress.take_turn(at(109)));
        assert!(progress.take_turn(at(110)) && !progress.take_turn(at(110)));
        assert_eq!(progress.requests(), BURST + 1);
        progress.reply(Header::default());
        progress.reply(Header::default());
        assert!(progress.take_turn(at(110)) && !progress.take_turn(at(110)));
    }

    #[test]
    fn a_request_that_stays_unanswered_is_repeated_later_and_later() {
        let config = WatchConfig::default().progress_interval(Some(Duration::from_millis(50)));
        let mut progress = trusted();
        assert_eq!(progress.due(&config, at(0), false), None, "no watch could want it");
        assert_eq!(progress.due(&config, at(0), true), Some(at(100)), "not at every interval");
        progress.want(key(1), 0);
        for (unanswered, due) in [(0, 100), (1, 100), (3, 300), (50, 5_000), (90, 5_000)] {
            progress.requests = unanswered;
            assert_eq!(progress.due(&config, at(0), true), Some(at(due)), "{unanswered} unanswered");
        }
        progress.disprove();
        assert_eq!(progress.due(&config, at(0), true), None, "it would say nothing");
    }

    #[test]
    fn replies_are_asked_for_until_there_are_enough_for_every_watch_that_wants_one() {
        let mut progress = trusted();
        assert!((0..3).all(|_| progress.take_turn(at(1))));
        progress.want(key(1), 3);
        for reply in 1..=3 {
            assert_eq!(progress.reply(Header { revision: 7, ..Header::default() }), Some([key(1)].into()));
            assert!(progress.follows_up(at(2)), "after reply {reply}");
        }
        progress.reply(Header::default());
        assert!(!progress.follows_up(at(2)), "four replies are one more than were asked for before");
        assert_eq!((progress.requests(), progress.spoken().map(|header| header.revision)), (6, Some(7)));
    }

    #[test]
    fn nothing_is_kept_of_a_watch_that_has_left() {
        let mut progress = trusted();
        progress.add(key(1), true);
        progress.add(key(2), false);
        progress.want(key(2), 0);
        assert_eq!(progress.reply(Header::default()), Some([key(1), key(2)].into()));
        progress.remove(key(1));
        progress.satisfied(key(2));
        assert_eq!(progress.reply(Header::default()), Some(Vec::new()));
    }
}
