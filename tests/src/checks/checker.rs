//! The rules, response by response.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Change, History, Rule, Violation, Watched};

/// Holds what a watch receives against the store's history, as it comes.
///
/// A watch that breaks no rule costs a pair of numbers, however much it receives: what has come is a place in
/// the history. Only what is out of place is remembered one by one.
#[derive(Clone, Debug)]
pub struct Checker {
    watched: Watched,
    /// Everything before this place of the history is accounted for: it has come, or it is `outstanding`.
    accounted: usize,
    /// Places of what had to come and has not, though something later has; whether that was reported.
    outstanding: BTreeMap<usize, bool>,
    /// What came and had no business to, by revision and key.
    strangers: BTreeSet<(i64, Bytes)>,
    first: Option<i64>,
    last: i64,
    bookmark: i64,
    /// Pairs before this revision may be gone.
    compacted: i64,
    violations: Vec<Violation>,
}

impl Checker {
    /// For a watch that has received nothing yet.
    #[must_use]
    pub fn new(watched: Watched) -> Self {
        Self {
            watched,
            accounted: 0,
            outstanding: BTreeMap::new(),
            strangers: BTreeSet::new(),
            first: None,
            last: 0,
            bookmark: 0,
            compacted: 0,
            violations: Vec::new(),
        }
    }

    /// What the watch asked for.
    #[must_use]
    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The rules broken so far, each time they were. What has not come yet may still come, out of order:
    /// [`is_in_order`](Self::is_in_order) tells whether something is out of place already.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Whether what has come is exactly the beginning of what has to come.
    #[must_use]
    pub fn is_in_order(&self) -> bool {
        self.violations.is_empty() && self.outstanding.is_empty()
    }

    /// The last revision of which something has come, or which a bookmark has passed.
    #[must_use]
    pub fn reached(&self) -> i64 {
        self.last.max(self.bookmark)
    }

    /// The store has been compacted at a revision. From now on a pair before a change may be missing if it was of an
    /// earlier one: etcd looks it up when it sends the event.
    pub fn compacted(&mut self, revision: i64) {
        self.compacted = self.compacted.max(revision);
    }

    /// One response: its events, in order, and the revision up to which it claims that everything has come, if
    /// it claims that. `history` has to have every change up to what it tells of, with previous pairs, and is
    /// given anew each time: it grows.
    pub fn response<'a>(
        &mut self,
        history: &(impl History + ?Sized),
        events: impl IntoIterator<Item = Change<'a>>,
        bookmark: Option<i64>,
    ) {
        let before = self.last;
        for event in events {
            self.event(history, &event, before);
        }
        if let Some(bookmark) = bookmark {
            self.missing_through(history, bookmark, Some(Rule::Bookmarkable));
            self.bookmark = self.bookmark.max(bookmark);
        }
    }

    /// The end: what had to come up to [`Watched::through`] and has not is missing.
    ///
    /// # Errors
    /// Every rule that was broken, each time it was.
    pub fn finish(mut self, history: &(impl History + ?Sized)) -> Result<(), Vec<Violation>> {
        self.missing_through(history, self.watched.through, None);
        if self.violations.is_empty() { Ok(()) } else { Err(self.violations) }
    }

    /// The end, if everything up to a revision had to come.
    ///
    /// # Errors
    /// Every rule that was broken, each time it was.
    pub fn finish_through(
        mut self,
        history: &(impl History + ?Sized),
        through: i64,
    ) -> Result<(), Vec<Violation>> {
        self.watched.through = through;
        self.finish(history)
    }

    /// As if it ended now: what is out of place is missing.
    ///
    /// # Errors
    /// Every rule that was broken, each time it was.
    pub fn finish_now(self, history: &(impl History + ?Sized)) -> Result<(), Vec<Violation>> {
        let last = self.last;
        self.finish_through(history, last)
    }

    fn broken(&mut self, rule: Rule, revision: i64, key: &[u8]) {
        self.violations.push(Violation { rule, revision, key: Bytes::copy_from_slice(key) });
    }

    /// `before` is the last revision of the responses before this event's.
    fn event(&mut self, history: &(impl History + ?Sized), event: &Change<'_>, before: i64) {
        let revision = event.revision();
        let mut broken = Vec::new();
        if !self.watched.passes(event) {
            broken.push(Rule::Filter);
        }
        if revision < self.watched.from {
            broken.push(Rule::Resumable);
        }
        if revision < self.last {
            broken.push(Rule::Ordered);
        }
        let place = self.place(history, event);
        if !self.account(history, event, place) {
            broken.push(Rule::Unique);
        } else if revision == before {
            broken.push(Rule::Atomic);
        }
        if revision <= self.bookmark {
            broken.push(Rule::Bookmarkable);
        }
        broken.extend(self.compare(event, place.map(|place| history.change(place))));
        self.last = self.last.max(revision);
        self.first = Some(self.first.map_or(revision, |first| first.min(revision)));
        for rule in broken {
            self.broken(rule, revision, event.kv.key);
        }
    }

    /// Where in the history an event is: the next that is expected, in all likelihood.
    fn place(&self, history: &(impl History + ?Sized), event: &Change<'_>) -> Option<usize> {
        let is_it = |at: &usize| {
            let change = history.change(*at);
            change.revision() == event.revision() && change.kv.key == event.kv.key
        };
        let of_revision = |from: usize| {
            (from..history.count()).take_while(|&at| history.change(at).revision() == event.revision())
        };
        let ahead = (self.accounted.min(history.count())..history.count())
            .find(|&at| self.watched.expects(&history.change(at)));
        if let Some(at) = ahead.filter(is_it) {
            return Some(at);
        }
        let first = history.place_of(event.revision());
        let is_due = |at: &usize| *at >= self.accounted || self.outstanding.contains_key(at);
        of_revision(first).filter(is_it).find(is_due).or_else(|| of_revision(first).find(is_it))
    }

    /// Notes that an event has come. False if it had come before.
    fn account(
        &mut self,
        history: &(impl History + ?Sized),
        event: &Change<'_>,
        place: Option<usize>,
    ) -> bool {
        let Some(place) = place.filter(|&place| self.watched.expects(&history.change(place))) else {
            return self.strangers.insert((event.revision(), Bytes::copy_from_slice(event.kv.key)));
        };
        if place < self.accounted {
            return self.outstanding.remove(&place).is_some();
        }
        for skipped in self.accounted..place {
            if self.watched.expects(&history.change(skipped)) {
                self.outstanding.insert(skipped, false);
            }
        }
        self.accounted = place + 1;
        true
    }

    fn compare(&self, event: &Change<'_>, truth: Option<Change<'_>>) -> Option<Rule> {
        let Some(truth) = truth.filter(|truth| truth.is_delete == event.is_delete) else {
            return Some(Rule::Content);
        };
        if truth.kv == event.kv {
            let wanted = truth.prev.filter(|_| self.watched.prev_kv);
            let may_be_gone = event.prev.is_none() && event.revision() - 1 < self.compacted;
            return (event.prev != wanted && !may_be_gone).then_some(Rule::PrevValue);
        }
        let is_create_wrong = truth.is_create() != event.is_create();
        Some(if is_create_wrong { Rule::IsCreate } else { Rule::Content })
    }

    /// What should have come by a revision and has not; reported once. Without a rule, the one that its
    /// absence breaks.
    fn missing_through(&mut self, history: &(impl History + ?Sized), revision: i64, rule: Option<Rule>) {
        let mut missing: Vec<usize> = self
            .outstanding
            .iter_mut()
            .filter(|(place, _)| history.change(**place).revision() <= revision)
            .filter_map(|(place, reported)| (!std::mem::replace(reported, true)).then_some(*place))
            .collect();
        while self.accounted < history.count() {
            let change = history.change(self.accounted);
            if change.revision() > revision {
                break;
            }
            if self.watched.expects(&change) {
                self.outstanding.insert(self.accounted, true);
                missing.push(self.accounted);
            }
            self.accounted += 1;
        }
        for place in missing {
            let change = history.change(place);
            let rule = rule.unwrap_or_else(|| self.absence_of(history, &change));
            self.broken(rule, change.revision(), change.kv.key);
        }
    }

    fn absence_of(&self, history: &(impl History + ?Sized), change: &Change<'_>) -> Rule {
        let revision = change.revision();
        let first = history.place_of(revision);
        let of_revision = (first..self.accounted).take_while(|&at| history.change(at).revision() == revision);
        let has_come =
            |at: usize| self.watched.expects(&history.change(at)) && !self.outstanding.contains_key(&at);
        let is_stranger = self.strangers.range((revision, Bytes::new())..).next();
        if of_revision.into_iter().any(has_come) || is_stranger.is_some_and(|(other, _)| *other == revision) {
            Rule::Atomic
        } else if self.first.is_some_and(|first| first < revision) {
            Rule::Reliable
        } else {
            Rule::Resumable
        }
    }
}
