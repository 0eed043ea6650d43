//! Listing the range, page by page at one revision.
//!
//! ```text
//!   Due --what was brought before is taken--> InFlight --answered--> Due
//!    ^                                           |
//!    +----------- time is up ---- Backoff <------+ failed, or behind what was seen
//! ```
//!
//! A page is refused because its revision was compacted meanwhile: the list begins again, at the present
//! revision. What the consumer already has of it is corrected by the new one.
//!
//! Once a page has come, the rest of the list may come by a stream (`stream.rs`).

use alloc::boxed::Box;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    ListKey, ListProgress, ListReason, ListRequest, Mirror, MirrorAction, MirrorEvent, Page, Pairs, Phase,
    merge::Merge,
    page_size::PageSize,
    stream::{Streaming, Streams},
};
use crate::{
    CloseReason, Failure, Header, Instant, KeyRange, Remedy, TimeoutReason, WatchConfig,
    attempts::Attempts,
    failure::{Oversize, final_reason, is_compacted, is_future_revision, message_of, oversize},
    remedy,
};

/// How far a list has come.
#[derive(Debug)]
pub(super) struct Position {
    /// Why it was begun, until that has been said.
    reason: Option<ListReason>,
    /// The revision it is at; 0 until the first page tells, unless one was asked for.
    pub(super) revision: i64,
    /// The last key listed.
    after: Option<Bytes>,
    /// How many keys have been listed.
    keys: u64,
    /// How many keys there are, by the first page.
    count: Option<u64>,
}

impl Position {
    pub(super) fn first(reason: ListReason) -> Self {
        Self { reason: Some(reason), revision: 0, after: None, keys: 0, count: None }
    }

    /// The first list of a mirror, at this revision if it is not 0.
    pub(super) fn at(revision: i64) -> Self {
        Self { revision, ..Self::first(ListReason::First) }
    }

    /// Whether the number of keys is another one than the first page has said, if so many more come, and those are the last.
    pub(super) fn contradicts(&self, more: usize, is_end: bool) -> bool {
        let keys = self.keys.saturating_add(more as u64);
        self.count.is_some_and(|count| keys > count || (is_end && keys < count))
    }
}

/// What is wrong with a list that has other keys than its first page has counted.
const MISCOUNTED: &str = "the endpoint lists more keys or fewer than it counts";

/// What is wrong with an answer whose header is of an earlier revision than its keys.
pub(super) const BEHIND: &str = "the endpoint lists keys at a revision that it has not come to";

/// Where the asking for pages stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask {
    /// The next page may be asked for, once the consumer has taken the one before.
    Due,
    /// The driver is at it.
    InFlight(ListKey),
    /// A stream brings it.
    Streaming(Streaming),
    /// It failed and is tried again.
    Backoff {
        /// When.
        until: Instant,
    },
}

/// How pages are asked for.
#[derive(Debug)]
pub(super) struct Lister {
    pub(super) ask: Ask,
    size: PageSize,
    pub(super) streams: Streams,
    pub(super) attempts: Attempts,
    /// Pages of a single key in a row that were over a limit.
    oversized: u8,
    /// Since when the answers have been behind what was shown before.
    behind_since: Option<Instant>,
    next_key: u64,
}

impl Lister {
    pub(super) fn new(page_bytes: usize) -> Self {
        Self {
            ask: Ask::Due,
            size: PageSize::new(page_bytes),
            streams: Streams::default(),
            attempts: Attempts::default(),
            oversized: 0,
            behind_since: None,
            next_key: 0,
        }
    }

    /// The size in bytes that pages are to have, and parts of them.
    pub(super) fn page_bytes(&self) -> usize {
        self.size.target()
    }

    /// The server has answered, whatever it said: it can be reached.
    pub(super) fn reached(&mut self) {
        self.attempts.stop_clock();
    }

    /// The server has answered, and took the token.
    pub(super) fn answered(&mut self) {
        self.reached();
        self.attempts.token_accepted();
    }

    /// A part of the list has come that something can be made of.
    pub(super) fn proven(&mut self) {
        self.attempts.reset();
        self.oversized = 0;
        self.behind_since = None;
    }

    /// Whether it waits for an endpoint. A stream is read as the consumer takes what it brings, so it has all the time
    /// that the driver gives it.
    fn is_asking(&self) -> bool {
        matches!(self.ask, Ask::InFlight(_) | Ask::Backoff { .. })
    }

    /// Everything it waits for.
    pub(super) fn timeouts(
        &self,
        config: &WatchConfig,
    ) -> impl Iterator<Item = (Instant, TimeoutReason)> + use<> {
        let retry = match self.ask {
            Ask::Backoff { until } => Some((until, TimeoutReason::RetryList)),
            Ask::Due | Ask::InFlight(_) | Ask::Streaming(_) => None,
        };
        let is_asking = self.is_asking();
        let give_up =
            self.attempts.give_up_at(config).filter(|_| is_asking).map(|at| (at, TimeoutReason::GiveUp));
        [retry, give_up].into_iter().flatten()
    }
}

impl Mirror {
    pub(super) fn may_ask(&self) -> bool {
        matches!((&self.phase, self.lister.ask), (Phase::Listing(_), Ask::Due)) && !self.has_events()
    }

    /// Asks for the next page, when it is time.
    pub(super) fn ask(&mut self) -> Option<MirrorAction> {
        if !self.may_ask() {
            return None;
        }
        let Phase::Listing(position) = &self.phase else { return None };
        let range = rest_of(&self.request.range, position.after.as_deref())?;
        let list = ListKey(self.lister.next_key);
        self.lister.next_key += 1;
        self.lister.ask = Ask::InFlight(list);
        let attempt = self.lister.attempts.begin(self.now);
        let limit = self.lister.size.keys();
        // Where values are so large that a page has one, etcd's messages of ten keys and more would be too large.
        let may_stream = limit > 1 && self.lister.streams.ask_for(list);
        let request = ListRequest {
            range,
            revision: position.revision,
            limit,
            max_bytes: self.lister.size.bound(),
            keys_only: self.request.keys_only,
            may_stream,
            options: self.request.stream.clone(),
            endpoint: attempt.endpoint,
            fresh_token: attempt.fresh_token,
        };
        Some(MirrorAction::List { list, request })
    }

    /// The answer to [`MirrorAction::List`] by a page. An answer nobody waits for is ignored.
    pub fn handle_page(&mut self, now: Instant, list: ListKey, result: Result<Page, Failure>) {
        let now = self.advance(now);
        let is_awaited = matches!(self.lister.ask, Ask::InFlight(asked) if asked == list);
        if !is_awaited || !matches!(self.phase, Phase::Listing(_)) {
            return;
        }
        self.lister.ask = Ask::Due;
        self.lister.streams.ended();
        match result {
            Ok(page) => self.page(now, page),
            Err(failure) => self.list_failed(now, &failure),
        }
    }

    fn page(&mut self, now: Instant, page: Page) {
        let Phase::Listing(position) = &mut self.phase else { return };
        if let Some(flaw) = flaw_of(&page, &self.request.range, position) {
            return self.list_flawed(now, flaw);
        }
        if position.after.is_none() {
            position.count = u64::try_from(page.count).ok().filter(|&count| count > 0);
        }
        let last = page.kvs.last().map(|kv| kv.key());
        let has_more = page.more && rest_of(&self.request.range, last).is_some();
        let is_miscounted = position.contradicts(page.kvs.len(), !has_more);
        let is_first = position.revision == 0;
        match self.changed_store(page.cluster_id) {
            Some(reason) if !is_first => {
                self.lister.answered();
                return self.list_elsewhere(now, reason);
            }
            _ if is_miscounted => return self.list_contradicted(now),
            Some(reason) => self.other_store(reason),
            None if is_first && page.revision < self.known => {
                self.lister.answered();
                if self.wait_for_others(now) {
                    return;
                }
                self.other_store(ListReason::StoreRegressed { known: self.known, revision: page.revision });
            }
            None => {}
        }
        self.lister.answered();
        self.lister.proven();
        self.take_page(page, has_more);
    }

    /// A page is what was asked for.
    fn take_page(&mut self, page: Page, has_more: bool) {
        self.learn(page.cluster_id, page.revision);
        let Phase::Listing(position) = &mut self.phase else { return };
        if position.revision == 0 {
            position.revision = page.revision;
            self.progress = ListProgress::default();
        }
        let revision = position.revision;
        if let Some(reason) = position.reason.take() {
            self.events.push_back(MirrorEvent::Listing { revision, reason });
        }
        self.lister.size.came(page.kvs.len(), page.kvs.bytes());
        // What is left of the range, with this page, has so many keys.
        let left = u64::try_from(page.count).ok().filter(|&left| left > 0);
        self.progress.total =
            left.map(|left| self.progress.keys.saturating_add(left)).or(self.progress.total);
        if has_more {
            if page.cluster_id != 0 {
                self.lister.streams.open();
            }
            self.listed(page.kvs);
        } else {
            self.list_ends(revision, page.kvs);
        }
    }

    /// Pairs have been listed, and are not the last.
    pub(super) fn listed(&mut self, kvs: Pairs) {
        if !self.has_room(kvs.len()) {
            return;
        }
        let Phase::Listing(position) = &mut self.phase else { return };
        // A copy: a slice would keep the whole page alive.
        let Some(last) = kvs.last().map(|kv| Bytes::copy_from_slice(kv.key())) else { return };
        let before = position.after.replace(last.clone());
        self.merges.push_back(Merge::new(kvs, before, Some(last), None));
        self.fill();
    }

    /// The list's last pairs have been listed, if there were more.
    pub(super) fn list_ends(&mut self, revision: i64, kvs: Pairs) {
        if !self.has_room(kvs.len()) {
            return;
        }
        let Phase::Listing(position) = &mut self.phase else { return };
        self.merges.push_back(Merge::new(kvs, position.after.take(), None, Some(revision)));
        self.watch_from(revision);
        self.fill();
    }

    /// Counts keys that have been listed. False is the end: there are more than there may be.
    fn has_room(&mut self, keys: usize) -> bool {
        let Phase::Listing(position) = &mut self.phase else { return false };
        position.keys = position.keys.saturating_add(keys as u64);
        self.progress.keys = position.keys;
        let limit = self.request.max_keys;
        let has_room = position.keys <= limit;
        if !has_room {
            self.close(CloseReason::TooManyKeys { limit });
        }
        has_room
    }

    /// Whether it is another cluster that answers.
    pub(super) fn changed_store(&self, cluster_id: u64) -> Option<ListReason> {
        let (before, after) = (self.cluster_id, cluster_id);
        (!Header::may_be_same_cluster(before, after)).then_some(ListReason::StoreChanged { before, after })
    }

    /// What a header has shown of the store.
    pub(super) fn learn(&mut self, cluster_id: u64, revision: i64) {
        self.cluster_id = if cluster_id == 0 { self.cluster_id } else { cluster_id };
        self.known = self.known.max(revision);
    }

    pub(super) fn watch_from(&mut self, revision: i64) {
        self.phase = Phase::Watching;
        let watch = self.request.watch().start_revision(revision.saturating_add(1));
        self.actions.push_back(MirrorAction::Watch(watch.known_store(self.cluster_id, self.known)));
    }

    /// An answer is behind what was seen. Another member is asked, until the deadline for members that lag;
    /// false after that: then it was the store that went back.
    fn wait_for_others(&mut self, now: Instant) -> bool {
        let deadline = *self.lister.behind_since.get_or_insert(now) + self.config.lag_deadline;
        if now >= deadline {
            return false;
        }
        let attempts = &mut self.lister.attempts;
        attempts.go_elsewhere();
        let until = attempts.try_again_at(now, &self.config, &mut self.rng).min(deadline);
        self.lister.ask = Ask::Backoff { until };
        true
    }

    /// What is known of revisions is known of another store.
    fn other_store(&mut self, reason: ListReason) {
        if let Some(index) = &mut self.index {
            index.forget_revisions();
        }
        (self.cluster_id, self.known, self.synced) = (0, 0, 0);
        if let Phase::Listing(position) = &mut self.phase {
            position.reason = Some(reason);
        }
    }

    /// Begins the list from its first page: at once, but not time and again without a watch that works.
    pub(super) fn list_again(&mut self, now: Instant, reason: ListReason) {
        self.phase = Phase::Listing(Position::first(reason.clone()));
        if reason.is_other_store() {
            self.other_store(reason);
        }
        self.close_stream();
        // What waits of the list before is corrected by this one, or of another store.
        self.merges.clear();
        (self.lister.size, self.lister.streams) =
            (PageSize::new(self.lister.page_bytes()), Streams::default());
        self.lister.ask = if self.restarts.failures() == 0 {
            self.restarts.at_least(1);
            Ask::Due
        } else {
            Ask::Backoff { until: now + self.restarts.next(&self.config, &mut self.rng) }
        };
    }

    /// Begins the list again, at another endpoint.
    pub(super) fn list_elsewhere(&mut self, now: Instant, reason: ListReason) {
        self.list_again(now, reason);
        self.lister.attempts.go_elsewhere();
    }

    /// The list has other keys than were counted. Which of the answers is wrong is not known, so it begins again.
    pub(super) fn list_contradicted(&mut self, now: Instant) {
        let Phase::Listing(position) = &self.phase else { return };
        if position.after.is_none() {
            return self.list_flawed(now, MISCOUNTED);
        }
        self.lister.answered();
        self.list_elsewhere(now, ListReason::Interrupted);
        self.lister.streams.avoid();
    }

    pub(super) fn list_failed(&mut self, now: Instant, failure: &Failure) {
        let Phase::Listing(position) = &self.phase else { return };
        let is_pinned = position.revision != 0;
        if is_pinned && is_compacted(failure) {
            let has_begun = position.reason.is_none();
            let reason = if has_begun { ListReason::Interrupted } else { ListReason::Compacted };
            self.lister.answered();
            // A member that says so of each list must not keep the others from being asked.
            return if self.restarts.failures() > 0 {
                self.list_elsewhere(now, reason)
            } else {
                self.list_again(now, reason)
            };
        }
        if is_pinned && is_future_revision(failure) {
            self.lister.answered();
            if !self.wait_for_others(now) {
                // The first page will show how far back the store went.
                self.list_again(now, ListReason::Interrupted);
            }
            return;
        }
        let remedy = remedy(failure);
        if let Some(oversize) = oversize(failure) {
            return self.page_too_large(now, failure, oversize);
        }
        match final_reason(remedy, failure) {
            Some(reason) => self.close(reason),
            None => self.retry_list(now, failure, remedy),
        }
    }

    /// A page was over a limit: the next has fewer keys. One with a single key can't be made smaller, and asking again
    /// would come to the same; but where not the driver set the limit, a proxy may have, and others not.
    fn page_too_large(&mut self, now: Instant, failure: &Failure, oversize: Oversize) {
        /// How many endpoints are asked for a key that is over a limit of theirs.
        const ENDPOINTS: u8 = 3;
        let lister = &mut self.lister;
        if lister.size.refused(oversize) {
            lister.answered();
            return;
        }
        lister.oversized += 1;
        if matches!(failure, Failure::Status { .. }) && lister.oversized < ENDPOINTS {
            return self.retry_list(now, failure, Remedy::RetryElsewhere);
        }
        let Phase::Listing(position) = &self.phase else { return };
        let rest = rest_of(&self.request.range, position.after.as_deref());
        let range = Box::new(rest.unwrap_or_else(|| self.request.range.clone()));
        let Oversize { bytes, limit } = oversize;
        self.close(CloseReason::KeyTooLarge { range, bytes, limit });
    }

    /// Nothing can be made of what an endpoint has answered.
    pub(super) fn list_flawed(&mut self, now: Instant, flaw: &'static str) {
        self.retry_list(now, &Failure::connection(flaw), Remedy::RetryElsewhere);
    }

    /// A page failed in a way that may pass. A token that is refused is replaced by a new one; where new ones
    /// are refused too, that ends.
    fn retry_list(&mut self, now: Instant, failure: &Failure, remedy: Remedy) {
        let attempts = &mut self.lister.attempts;
        if remedy == Remedy::Reauthenticate
            && let Some(tokens) = attempts.token_refused()
        {
            return self.close(CloseReason::TokenRefused { tokens, message: message_of(failure) });
        }
        attempts.failed(now, failure, remedy);
        let until = attempts.try_again_at(now, &self.config, &mut self.rng);
        self.lister.ask = Ask::Backoff { until };
        self.give_up_if_due(now);
    }

    /// Does what is due at `now`; nothing, if it is early.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        if !matches!(self.phase, Phase::Listing(_)) {
            return;
        }
        if self.lister.is_asking() {
            self.give_up_if_due(now);
        }
        if let Ask::Backoff { until } = self.lister.ask
            && now >= until
        {
            self.lister.ask = Ask::Due;
        }
    }

    fn give_up_if_due(&mut self, now: Instant) {
        if let Some(reason) = self.lister.attempts.give_up(now, &self.config) {
            self.close(reason);
        }
    }
}

/// What of the range lies behind a key; `None` if nothing does.
fn rest_of(range: &KeyRange, after: Option<&[u8]>) -> Option<KeyRange> {
    let Some(after) = after else { return Some(range.clone()) };
    // The next key there could be.
    let mut start = BytesMut::with_capacity(after.len() + 1);
    start.put_slice(after);
    start.put_u8(0);
    KeyRange::range(start.freeze(), range.end().clone()).ok()
}

/// What is wrong with a page, so that nothing can be made of it.
fn flaw_of(page: &Page, range: &KeyRange, position: &Position) -> Option<&'static str> {
    if page.revision == 0 {
        return Some("the endpoint leaves the revision out of its responses");
    }
    if let Some(flaw) = flaw_of_revision(page.revision) {
        return Some(flaw);
    }
    if page.revision < position.revision {
        return Some(BEHIND);
    }
    if page.more && page.kvs.is_empty() {
        return Some("the endpoint says that there are more keys, and returns none");
    }
    let revision = if position.revision == 0 { page.revision } else { position.revision };
    flaw_of_pairs(&page.kvs, range, position, revision)
}

/// What is wrong with the revision in a header, where there is one.
pub(super) fn flaw_of_revision(revision: i64) -> Option<&'static str> {
    (!Header::may_be_revision(revision)).then_some("the endpoint answers at a revision that no store has")
}

/// What is wrong with pairs that are listed at a revision.
pub(super) fn flaw_of_pairs(
    kvs: &Pairs,
    range: &KeyRange,
    position: &Position,
    revision: i64,
) -> Option<&'static str> {
    let mut last = position.after.as_deref();
    for kv in kvs {
        let key = kv.key();
        if last.is_some_and(|last| last >= key) {
            return Some("the endpoint does not list keys in ascending order");
        }
        if key.is_empty() || !range.contains(key) {
            return Some("the endpoint lists a key outside of the range");
        }
        if !(1..=revision).contains(&kv.mod_revision()) {
            return Some("the endpoint lists a key at another revision than asked for");
        }
        last = Some(key);
    }
    None
}
