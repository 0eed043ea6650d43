//! Denials that may be due to a stream's old token.
//!
//! A server looks at a stream's auth token when a watch is created on it, and some say "permission denied" when
//! they mean that it has expired. Whether the user may have the keys is found out by reading them, for which the
//! driver uses its newest token: if that is denied too, the watch ends; if it is not, the stream is replaced by
//! one with a new token. One read at a time, so that many denials make no flood.
//!
//! ```text
//!   Creating --denied, with a token--> Denied --read denied, or refused otherwise--> Closed
//!                                        |  |
//!                                        |  +--read fails in a way that may pass--> Denied, after a backoff
//!                                        |
//!                                        +--read allowed, or its token refused--> Waiting, stream replaced
//! ```
//!
//! A watch that is denied for the third time in a row ends without a read.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};

use super::Watcher;
use crate::{
    CloseReason, Failure, Instant, RangeDone, Remedy, StreamEnd, WatchKey,
    failure::final_reason,
    reads::Purpose,
    remedy,
    stream::LaneState,
    watch::{Denial, SharedOptions, State, Substream},
};

/// How often in a row a watch may be refused before a denial is taken for what it says.
pub(super) const DENIAL_LIMIT: u8 = 3;

/// The watch whose keys are read next, and those behind it that ask for the same ones.
pub(super) fn next_denied(
    watches: &BTreeMap<WatchKey, Box<Substream>>,
    waiting: &mut VecDeque<WatchKey>,
) -> Vec<WatchKey> {
    let Some(first) = waiting.pop_front() else { return Vec::new() };
    let mut next = Vec::from([first]);
    let Some(range) = watches.get(&first).map(|watch| &watch.range) else { return next };
    let is_same = |key: &WatchKey| watches.get(key).is_some_and(|watch| watch.range == *range);
    while let Some(same) = waiting.front().copied().filter(is_same) {
        waiting.pop_front();
        next.push(same);
    }
    next
}

impl Watcher {
    /// Whether a lane's stream carries an auth token, which may have expired.
    pub(super) fn has_token(&self, number: u32) -> bool {
        self.lanes
            .get(&number)
            .is_some_and(|lane| matches!(&lane.state, LaneState::Open(stream) if stream.authenticated))
    }

    /// Has it found out whether a denial stands.
    pub(super) fn doubt(&mut self, number: u32, key: WatchKey, message: String) {
        let (Some(lane), Some(watch)) = (self.lanes.get(&number), self.watches.get_mut(&key)) else { return };
        watch.state = State::Denied(Denial { incarnation: lane.incarnation, message });
        self.groups.entry(lane.options.clone()).or_default().denial.waiting.push_back(key);
        self.reads_due = true;
    }

    /// The denied watches' keys have been read, or not.
    pub(super) fn denial_answered(
        &mut self,
        now: Instant,
        options: &SharedOptions,
        watches: Vec<WatchKey>,
        result: Result<RangeDone, Failure>,
    ) {
        let Some(group) = self.groups.get_mut(options) else { return };
        let Err(failure) = result else {
            group.denial.answered();
            self.tokens_expired(now, options, &watches);
            return;
        };
        match remedy(&failure) {
            Remedy::Reauthenticate => {
                // The token of reads is an old one too: the next read is to have a new one.
                group.denial.fresh_token = true;
                self.tokens_expired(now, options, &watches);
            }
            Remedy::BadCredentials => {
                let waiting = core::mem::take(&mut group.denial.waiting);
                if let Some(reason) = final_reason(Remedy::BadCredentials, &failure) {
                    self.close_waiting(watches.into_iter().chain(waiting), Purpose::Denial, &reason);
                }
            }
            remedy if final_reason(remedy, &failure).is_some() => {
                group.denial.answered();
                watches.into_iter().for_each(|watch| self.denial_stands(watch));
            }
            _ => self.retry_read(now, options, Purpose::Denial, watches, &failure),
        }
    }

    fn denial_stands(&mut self, key: WatchKey) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if let State::Denied(denial) = &mut watch.state {
            let message = core::mem::take(&mut denial.message);
            self.close_watch(key, CloseReason::PermissionDenied { message });
        }
    }

    /// The denials of these watches were their streams' old tokens: those streams are replaced, and whoever
    /// was denied on them is created anew.
    fn tokens_expired(&mut self, now: Instant, options: &SharedOptions, watches: &[WatchKey]) {
        let mut expired: BTreeMap<u32, String> = BTreeMap::new();
        for &key in watches {
            let Some((number, denial)) = self.wait_after_denial(key) else { continue };
            let is_current = self.lanes.get(&number).is_some_and(|lane| {
                lane.incarnation == denial.incarnation && matches!(lane.state, LaneState::Open(_))
            });
            if is_current {
                expired.entry(number).or_insert(denial.message);
            } else if !expired.contains_key(&number) {
                self.enqueue_create(number, key);
            }
        }
        let Some(group) = self.groups.get_mut(options) else { return };
        let is_on_expired =
            |key: &WatchKey| self.watches.get(key).is_some_and(|watch| expired.contains_key(&watch.lane));
        let waiting = core::mem::take(&mut group.denial.waiting);
        let (freed, kept): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(is_on_expired);
        group.denial.waiting = kept;
        for key in freed {
            self.wait_after_denial(key);
        }
        for (number, message) in expired {
            self.token_refused(now, number, message, Some(StreamEnd::TokenExpired));
        }
    }

    /// Has a denied watch wait for its turn on a stream again; its lane and what it was told.
    fn wait_after_denial(&mut self, key: WatchKey) -> Option<(u32, Denial)> {
        let watch = self.watches.get_mut(&key)?;
        if !matches!(watch.state, State::Denied(_)) {
            return None;
        }
        match core::mem::replace(&mut watch.state, State::Waiting) {
            State::Denied(denial) => Some((watch.lane, denial)),
            _ => None,
        }
    }
}
