//! Reads: asked for, tried again, and what their failure comes to for the watches that wait.

use alloc::{collections::BTreeMap, string::String, vec::Vec};

use super::Watcher;
use crate::{
    Action, CloseReason, EndpointHint, Failure, Instant, StreamEnd, StreamId, WatchKey,
    failure::message_of,
    key::{Asker, GroupId, Purpose},
    reads::Group,
    remedy,
    watch::table::Watches,
    wire::RevisionRequest,
};

impl Watcher {
    /// A watch waits for the next read of its group.
    pub(in crate::watcher) fn wait_for_read(&mut self, id: GroupId, purpose: Purpose, key: WatchKey) {
        let watches = &self.watches;
        let waits = |key| watches.get(key).is_some_and(|watch| watch.is_in_line_for(purpose));
        if let Some(group) = self.groups.get_mut(id) {
            group.read_mut(purpose).enqueue(key, waits);
            self.reads_due.insert(id);
        }
    }

    /// Asks for the reads that groups are waiting for.
    pub(in crate::watcher) fn ask_for_reads(&mut self) {
        while let Some(id) = self.reads_due.pop_first() {
            for purpose in [Purpose::Now, Purpose::Denial] {
                self.ask_for_read(id, purpose);
            }
        }
    }

    fn ask_for_read(&mut self, id: GroupId, purpose: Purpose) {
        let key = self.next_range_key(Asker::Group(id, purpose));
        let Some(group) = self.groups.get_mut(id).filter(|group| group.read(purpose).is_idle()) else {
            return;
        };
        let asked = next_to_ask(group, purpose, &self.watches);
        let Some(first) = asked.first().and_then(|&first| self.watches.get(first)) else {
            // Nobody waits: the next who does has all the time there is.
            group.read_mut(purpose).attempts().stop_clock();
            return;
        };
        let keys = first.keys().to_range();
        for &key in &asked {
            if let Some(watch) = self.watches.get_mut(key) {
                watch.set_asked(true);
            }
        }
        let mut shown = group.shown();
        for stream in group.streams().iter().filter_map(|&id| self.streams.get(id)) {
            shown.note_all(stream.shown());
        }
        let attempt = group.read_mut(purpose).begin(self.now, key, asked, shown);
        self.actions.push_back(Action::Range {
            range: key,
            request: RevisionRequest { keys, min_mod_revision: 0 },
            options: group.options().clone(),
            endpoint: attempt.endpoint,
            fresh_token: attempt.fresh_token,
        });
    }

    /// Asks the store whether a watch behind a proxy has missed something. It is asked once, and no answer means
    /// nothing.
    pub(in crate::watcher) fn ask_for_missed(
        &mut self,
        now: Instant,
        id: StreamId,
        watch: WatchKey,
        next_revision: i64,
    ) {
        let (Some(stream), Some(keys)) =
            (self.streams.get(id), self.watches.get(watch).map(|watch| watch.keys().to_range()))
        else {
            return;
        };
        let (stream, group) = (stream.key(), stream.group());
        let Some(options) = self.groups.get(group).map(|group| group.options().clone()) else { return };
        let range = self.next_range_key(Asker::Stream(stream));
        if let Some(stream) = self.streams.known_mut(id) {
            stream.hearing_mut().ask(now, range);
        }
        self.actions.push_back(Action::Range {
            range,
            request: RevisionRequest { keys, min_mod_revision: next_revision },
            options,
            endpoint: EndpointHint::Any,
            fresh_token: false,
        });
    }

    /// A read failed in a way that may pass. A token that is refused is replaced by a new one; where new ones
    /// are refused too, the watches end.
    pub(in crate::watcher) fn retry_read(
        &mut self,
        now: Instant,
        id: GroupId,
        purpose: Purpose,
        watches: Vec<WatchKey>,
        failure: &Failure,
    ) {
        let Some(group) = self.groups.known_mut(id) else { return };
        let read = group.read_mut(purpose);
        match read.failed(now, &self.config, &mut self.rng, failure, remedy(failure)) {
            Some(tokens) => {
                let reason = CloseReason::TokenRefused { tokens, message: message_of(failure) };
                self.close_asked(watches, purpose, &reason);
                self.close_in_line(id, purpose, &reason);
            }
            None => self.wait_again(id, purpose, watches),
        }
    }

    /// Puts watches that a read was for back in line, ahead of those that came later.
    pub(in crate::watcher) fn wait_again(
        &mut self,
        id: GroupId,
        purpose: Purpose,
        mut watches: Vec<WatchKey>,
    ) {
        watches.retain(|&key| {
            let watch = self.watches.get_mut(key).filter(|watch| watch.is_asked_for(purpose));
            watch.map(|watch| watch.set_asked(false)).is_some()
        });
        if let Some(group) = self.groups.get_mut(id) {
            group.read_mut(purpose).waiting().push_all_first(watches.into_iter());
        }
    }

    /// Ends the watches that a read was for.
    pub(in crate::watcher) fn close_asked(
        &mut self,
        watches: Vec<WatchKey>,
        purpose: Purpose,
        reason: &CloseReason,
    ) {
        for key in watches {
            if self.watches.get(key).is_some_and(|watch| watch.is_asked_for(purpose)) {
                self.close(key, reason.clone());
            }
        }
    }

    /// Ends the watches that wait for the next read.
    pub(in crate::watcher) fn close_in_line(&mut self, id: GroupId, purpose: Purpose, reason: &CloseReason) {
        loop {
            let watches = &self.watches;
            let waits = |key| watches.get(key).is_some_and(|watch| watch.is_in_line_for(purpose));
            let next = self.groups.get_mut(id).and_then(|group| group.read_mut(purpose).waiting().pop(waits));
            let Some(key) = next else { break };
            self.close(key, reason.clone());
        }
    }

    /// A read's deadlines.
    pub(in crate::watcher) fn read_timeout(&mut self, now: Instant, id: GroupId, purpose: Purpose) {
        let Some(group) = self.groups.known_mut(id) else { return };
        let read = group.read_mut(purpose);
        if !read.is_idle()
            && let Some(reason) = read.attempts().give_up(now, &self.config)
        {
            let asked = read.abandon().map(|asked| asked.watches).unwrap_or_default();
            self.close_asked(asked, purpose, &reason);
            self.close_in_line(id, purpose, &reason);
        } else if read.end_backoff(now) {
            self.reads_due.insert(id);
        }
    }

    /// A watch that was denied may not have its keys.
    pub(in crate::watcher) fn end_denied(&mut self, key: WatchKey) {
        let watch = self.watches.get(key).filter(|watch| watch.is_asked_for(Purpose::Denial));
        if let Some(message) = watch.and_then(|watch| watch.denial()).map(|denial| denial.message.clone()) {
            self.close(key, CloseReason::PermissionDenied { message });
        }
    }

    /// The denials of these watches were due to their connections' old tokens: those connections are replaced, and
    /// every watch that was denied on them is created anew.
    pub(in crate::watcher) fn tokens_expired(&mut self, now: Instant, id: GroupId, watches: Vec<WatchKey>) {
        let mut expired: BTreeMap<StreamId, String> = BTreeMap::new();
        for key in watches {
            let watch = self.watches.get_mut(key).filter(|watch| watch.is_asked_for(Purpose::Denial));
            let Some((stream, denial)) = watch.and_then(|watch| Some((watch.stream(), watch.take_denial()?)))
            else {
                continue;
            };
            let is_present = self.streams.get(stream).is_some_and(|stream| {
                stream.key().connection == denial.connection && stream.connection().is_some()
            });
            if is_present {
                expired.entry(stream).or_insert(denial.message);
            } else if !expired.contains_key(&stream) {
                self.line_up(stream, key);
            }
        }
        self.free_denied(id, &expired);
        for (stream, message) in expired {
            self.token_refused(now, stream, message, Some(StreamEnd::TokenExpired));
        }
    }

    /// Watches of these streams that wait for a read of their keys need none any more.
    fn free_denied(&mut self, id: GroupId, expired: &BTreeMap<StreamId, String>) {
        let watches = &self.watches;
        let waits = |key| watches.get(key).is_some_and(|watch| watch.is_in_line_for(Purpose::Denial));
        let Some(group) = self.groups.known_mut(id) else { return };
        let line = group.read_mut(Purpose::Denial).waiting();
        let waiting: Vec<WatchKey> = core::iter::from_fn(|| line.pop(waits)).collect();
        let is_freed =
            |key: &WatchKey| watches.get(*key).is_some_and(|watch| expired.contains_key(&watch.stream()));
        let (freed, kept): (Vec<_>, Vec<_>) = waiting.into_iter().partition(is_freed);
        line.push_all_first(kept.into_iter());
        for key in freed {
            let _ = self.watches.get_mut(key).and_then(|watch| watch.take_denial());
        }
    }
}

/// The watches that the next read is for. A read of the current revision is for all that wait; one of denied keys for
/// the first, and those behind it that were denied the same keys.
fn next_to_ask(group: &mut Group, purpose: Purpose, watches: &Watches) -> Vec<WatchKey> {
    let waits = |key| watches.get(key).is_some_and(|watch| watch.is_in_line_for(purpose));
    let line = group.read_mut(purpose).waiting();
    let Some(first) = line.pop(waits) else { return Vec::new() };
    let range = |key| watches.get(key).map(|watch| watch.keys());
    let mut next = Vec::from([first]);
    while let Some(key) = line.first(waits)
        && (purpose == Purpose::Now || range(key) == range(first))
    {
        next.extend(line.pop(waits));
    }
    next
}
