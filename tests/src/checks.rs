//! Whether what a watch received is what it had to receive: the nine rules of etcd's own robustness tests.
//!
//! [`check`] compares what a watch received, from its start and over all its reconnects, with the store's
//! history, and names every rule that was broken. It knows nothing of clients: both sides are events as etcd
//! sends them.
//!
//! | rule | what it demands |
//! |---|---|
//! | [`Filter`](Rule::Filter) | nothing outside the range, nothing filtered out |
//! | [`Ordered`](Rule::Ordered) | revisions never go down |
//! | [`Unique`](Rule::Unique) | no revision of a key twice |
//! | [`Atomic`](Rule::Atomic) | all matching events of a revision in one response |
//! | [`Bookmarkable`](Rule::Bookmarkable) | at a bookmark R everything up to R has come, and nothing of it comes later |
//! | [`Reliable`](Rule::Reliable) | no gap after the first event |
//! | [`Resumable`](Rule::Resumable) | nothing before the start, and no gap between it and the first event |
//! | [`PrevValue`](Rule::PrevValue) | the pair before the change is there if asked for, and the right one |
//! | [`IsCreate`](Rule::IsCreate) | a put that created its key says so, and no other |
//!
//! And, since nothing else would mean much without it, [`Content`](Rule::Content): every event is one of the
//! store's.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use etcd_watch_proto::mvccpb::{Event, KeyValue, event::EventType};

mod received;
#[cfg(test)]
mod tests;

/// What a watch asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The first key, as on the wire.
    pub key: Bytes,
    /// The end, as on the wire: empty for one key, `\0` for "from the key on".
    pub range_end: Bytes,
    /// The first revision it had to see.
    pub from: i64,
    /// Everything up to this revision had to arrive.
    pub through: i64,
    /// Puts were filtered out.
    pub no_put: bool,
    /// Deletes were filtered out.
    pub no_delete: bool,
    /// The pairs before the changes were asked for.
    pub prev_kv: bool,
}

impl Watched {
    fn contains(&self, key: &[u8]) -> bool {
        if self.range_end.is_empty() {
            return self.key == key;
        }
        key >= &self.key[..] && (self.range_end == b"\0"[..] || key < &self.range_end[..])
    }

    fn passes(&self, event: &Event) -> bool {
        let filtered = match event.r#type() {
            EventType::Put => self.no_put,
            EventType::Delete => self.no_delete,
        };
        !filtered && self.contains(&kv(event).key)
    }
}

/// One response, as it reached the application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Received {
    /// Its events, in order; none in a progress response.
    pub events: Vec<Event>,
    /// The revision up to which it claims that everything has been delivered, if it claims that.
    pub bookmark: Option<i64>,
}

/// What a watch must keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// An event that the watch did not ask for.
    Filter,
    /// A revision after a later one.
    Ordered,
    /// A revision of a key for the second time.
    Unique,
    /// A revision in more than one response, or in part.
    Atomic,
    /// A bookmark before its time.
    Bookmarkable,
    /// An event missing after others.
    Reliable,
    /// An event before the start, or missing right after it.
    Resumable,
    /// A wrong pair before the change, one not asked for, or none though there was one.
    PrevValue,
    /// A put that claims to have created its key and has not, or the other way.
    IsCreate,
    /// An event that is not one of the store's.
    Content,
}

/// A rule that was broken, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// The revision of the event or bookmark.
    pub revision: i64,
    /// The event's key.
    pub key: Bytes,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        write!(f, "{:?} was broken at revision {}, key {key:?}", self.rule, self.revision)
    }
}

/// Compares what a watch received with `history`: every change of the store since `watched.from`, in order,
/// with previous pairs.
///
/// # Errors
/// Every rule that was broken, each time it was.
pub fn check(history: &[Event], watched: &Watched, received: &[Received]) -> Result<(), Vec<Violation>> {
    let mut checker = Checker::new(history, watched);
    for response in received {
        checker.response(response);
    }
    checker.missing_through(watched.through, None);
    if checker.violations.is_empty() { Ok(()) } else { Err(checker.violations) }
}

/// A revision and a key: what identifies an event.
type Id = (i64, Bytes);

struct Checker<'a> {
    watched: &'a Watched,
    history: BTreeMap<Id, &'a Event>,
    /// What had to come, in order, and how much of it has been accounted for.
    expected: Vec<Id>,
    accounted: usize,
    seen: BTreeSet<Id>,
    seen_revisions: BTreeSet<i64>,
    last: i64,
    bookmark: i64,
    violations: Vec<Violation>,
}

impl<'a> Checker<'a> {
    fn new(history: &'a [Event], watched: &'a Watched) -> Self {
        let wanted = |event: &&Event| kv(event).mod_revision >= watched.from && watched.passes(event);
        Self {
            watched,
            history: history.iter().map(|event| (id(event), event)).collect(),
            expected: history.iter().filter(wanted).map(id).collect(),
            accounted: 0,
            seen: BTreeSet::new(),
            seen_revisions: BTreeSet::new(),
            last: 0,
            bookmark: 0,
            violations: Vec::new(),
        }
    }

    fn broken(&mut self, rule: Rule, (revision, key): Id) {
        self.violations.push(Violation { rule, revision, key });
    }

    fn response(&mut self, response: &Received) {
        let before = self.last;
        for event in &response.events {
            self.event(event, before);
        }
        if let Some(bookmark) = response.bookmark {
            self.missing_through(bookmark, Some(Rule::Bookmarkable));
            self.bookmark = self.bookmark.max(bookmark);
        }
    }

    /// `before` is the last revision of the responses before this event's.
    fn event(&mut self, event: &Event, before: i64) {
        let id = id(event);
        let revision = id.0;
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
        if !self.seen.insert(id.clone()) {
            broken.push(Rule::Unique);
        } else if revision == before {
            broken.push(Rule::Atomic);
        }
        if revision <= self.bookmark {
            broken.push(Rule::Bookmarkable);
        }
        match self.history.get(&id) {
            Some(truth) if truth.kv == event.kv && truth.r#type == event.r#type => {
                let wanted = if self.watched.prev_kv { truth.prev_kv.as_ref() } else { None };
                if event.prev_kv.as_ref() != wanted {
                    broken.push(Rule::PrevValue);
                }
            }
            Some(truth) if truth.r#type == event.r#type && is_create(truth) != is_create(event) => {
                broken.push(Rule::IsCreate);
            }
            _ => broken.push(Rule::Content),
        }
        self.last = self.last.max(revision);
        self.seen_revisions.insert(revision);
        for rule in broken {
            self.broken(rule, id.clone());
        }
    }

    /// What should have come by a revision and has not; reported once. Without a rule, the one that its
    /// absence breaks.
    fn missing_through(&mut self, revision: i64, rule: Option<Rule>) {
        while let Some(id) = self.expected.get(self.accounted).filter(|id| id.0 <= revision).cloned() {
            self.accounted += 1;
            if self.seen.contains(&id) {
                continue;
            }
            let first = self.seen_revisions.first();
            let rule = match rule {
                Some(rule) => rule,
                None if self.seen_revisions.contains(&id.0) => Rule::Atomic,
                None if first.is_some_and(|first| *first < id.0) => Rule::Reliable,
                None => Rule::Resumable,
            };
            self.broken(rule, id);
        }
    }
}

/// An event without a pair is a change of the empty key at revision 0, which no store has.
fn kv(event: &Event) -> &KeyValue {
    static NONE: KeyValue = KeyValue {
        key: Bytes::new(),
        create_revision: 0,
        mod_revision: 0,
        version: 0,
        value: Bytes::new(),
        lease: 0,
    };
    event.kv.as_ref().unwrap_or(&NONE)
}

fn is_create(event: &Event) -> bool {
    event.r#type() == EventType::Put && kv(event).create_revision == kv(event).mod_revision
}

fn id(event: &Event) -> Id {
    let kv = kv(event);
    (kv.mod_revision, kv.key.clone())
}
