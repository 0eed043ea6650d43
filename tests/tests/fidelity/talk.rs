//! One stream as both sides have it: what was asked of it, and what has to come of that.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use etcd_watch_proto::etcdserverpb::{WatchCreateRequest, watch_create_request::FilterType};
use etcd_watch_testkit::model::{EventKind, HistoryEvent};

use crate::script::{Id, Target};

/// From here on the script's own choices of new ids begin. No server gets that far by itself.
const NEW_IDS: i64 = 100;

/// A chosen id below zero. One less is "no watch in particular".
const NEGATIVE_ID: i64 = -7;

/// An id that no watch ever has.
const NOBODY: i64 = 9_999_999;

/// One stream as both sides have it.
#[derive(Debug, Default)]
pub(crate) struct Talk {
    pub(crate) closed: bool,
    /// Watches that were created, in order.
    pub(crate) watches: Vec<Watched>,
    /// Creates that weren't answered yet.
    pub(crate) asked: VecDeque<WatchCreateRequest>,
    /// Creates that were sent.
    pub(crate) creates: usize,
    /// Whether a request was sent whose handling isn't proven yet.
    pub(crate) unproven: bool,
    /// Replies to requests that were compared.
    pub(crate) control_seen: usize,
    pub(crate) outcomes_seen: usize,
    /// Progress replies that were compared, by side.
    pub(crate) progress_seen: [usize; 2],
    /// Revisions at which progress was asked for since.
    pub(crate) progress_asked: Vec<i64>,
    /// Whether one of these may go without answer, as watches may have been behind.
    pub(crate) progress_optional: bool,
    /// Whether a watch may be behind.
    pub(crate) behind: bool,
    /// Whether a cancel was sent that wasn't answered yet.
    pub(crate) cancelling: bool,
    /// Cancels that were sent when everything had come.
    pub(crate) clean_cancels: BTreeSet<i64>,
    /// Ids of watches that were cancelled while events were on their way. The next to have such an id may get
    /// those events, or not.
    burnt: BTreeSet<i64>,
    new_ids: i64,
    last_chosen: Option<i64>,
}

/// A watch that was created.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) id: i64,
    pub(crate) create: WatchCreateRequest,
    /// The first revision it is to see.
    pub(crate) since: i64,
    pub(crate) fate: Fate,
    /// The revisions of the events that it has to get.
    pub(crate) expected: Vec<i64>,
    /// Batches that were compared, by side.
    pub(crate) batches_seen: [usize; 2],
    /// Notifications that were looked at, by side.
    pub(crate) notifications_seen: [usize; 2],
    /// Whether it was compared how it ended.
    pub(crate) end_seen: bool,
    /// Whether everything had come at the last comparison: from then on, both sides make the same batches.
    pub(crate) settled: bool,
}

/// What is to become of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Live,
    /// It starts before the last compaction, and is told so.
    Compacted,
    /// It was cancelled when everything had come.
    Cancelled,
    /// It was cancelled while events may have been on their way: any part of these may come.
    Cut,
}

impl Fate {
    /// Whether the server still has it.
    pub(crate) fn is_held(self) -> bool {
        matches!(self, Self::Live | Self::Compacted)
    }
}

impl Talk {
    /// The id to ask for.
    pub(crate) fn choose(&mut self, id: Id) -> i64 {
        let chosen = match id {
            Id::Any => 0,
            Id::Small(id) => id,
            Id::New => self.new_id(),
            Id::Taken(index) => self.nth(index, true).unwrap_or(0),
            Id::Again(index) => self.nth(index, false).unwrap_or(0),
            Id::Negative => NEGATIVE_ID,
        };
        let chosen = if self.burnt.contains(&chosen) { self.new_id() } else { chosen };
        if chosen != 0 {
            self.last_chosen = Some(chosen);
        }
        chosen
    }

    pub(crate) fn new_id(&mut self) -> i64 {
        self.new_ids += 1;
        NEW_IDS + self.new_ids
    }

    /// The watch to cancel.
    pub(crate) fn aim(&self, target: Target) -> i64 {
        match target {
            Target::Known(index) => self.nth(index, true).unwrap_or(NOBODY),
            Target::LastChosen => self.last_chosen.unwrap_or(NOBODY),
            Target::Nobody => NOBODY,
        }
    }

    /// The id of one of the watches that the server has, or has no more.
    fn nth(&self, index: usize, is_held: bool) -> Option<i64> {
        let of_kind = || self.watches.iter().filter(|watch| watch.fate.is_held() == is_held);
        of_kind().nth(index % of_kind().count().max(1)).map(|watch| watch.id)
    }

    /// Whether a watch with this id may be cancelled before everything has come: nobody else will get the id.
    pub(crate) fn may_burn(id: i64) -> bool {
        id >= NEW_IDS
    }

    pub(crate) fn burn(&mut self, id: i64) {
        self.burnt.insert(id);
    }

    /// Watches that a change may have to be told to.
    pub(crate) fn live(&self) -> usize {
        self.watches.iter().filter(|watch| watch.fate == Fate::Live).count()
    }

    /// The watch that has the id.
    pub(crate) fn holder(&mut self, id: i64) -> Option<&mut Watched> {
        self.watches.iter_mut().find(|watch| watch.id == id && watch.fate.is_held())
    }
}

impl Watched {
    pub(crate) fn new(id: i64, create: WatchCreateRequest, revision: i64, compacted: i64) -> Self {
        let start = create.start_revision;
        Self {
            id,
            since: if start == 0 { revision + 1 } else { start },
            fate: if start != 0 && start < compacted { Fate::Compacted } else { Fate::Live },
            create,
            expected: Vec::new(),
            batches_seen: [0; 2],
            notifications_seen: [0; 2],
            end_seen: false,
            settled: false,
        }
    }

    /// Takes in what has happened, as far as it concerns the watch.
    pub(crate) fn expect(&mut self, history: &[Arc<HistoryEvent>]) {
        if self.fate == Fate::Live {
            let mine = history.iter().filter(|change| self.wants(change)).map(|change| change.revision);
            let mine: Vec<i64> = mine.collect();
            self.expected.extend(mine);
        }
    }

    /// No more expects what a compaction took too much of: the changes of keys that were deleted at its revision.
    pub(crate) fn forget_deletes(&mut self, history: &[Arc<HistoryEvent>], compacted: i64) {
        let at = || history.iter().filter(|change| change.revision == compacted);
        let deleted =
            |key| at().rfind(|change| change.key == key).is_some_and(|last| last.kind == EventKind::Delete);
        let lost = at().filter(|change| self.wants(change) && deleted(&change.key)).count();
        // They are the first there are.
        self.expected.drain(..lost.min(self.expected.len()));
    }

    fn wants(&self, change: &HistoryEvent) -> bool {
        let filter = match change.kind {
            EventKind::Put => FilterType::Noput,
            EventKind::Delete => FilterType::Nodelete,
        };
        change.revision >= self.since
            && self.contains(&change.key)
            && !self.create.filters().any(|unwanted| unwanted == filter)
    }

    fn contains(&self, key: &[u8]) -> bool {
        let first: &[u8] = if self.create.key.is_empty() { b"\0" } else { &self.create.key };
        match self.create.range_end.as_ref() {
            b"" => key == first,
            b"\0" => key >= first,
            end => key >= first && key < end,
        }
    }

    /// How many of its events are of a revision or before.
    pub(crate) fn expected_through(&self, revision: i64) -> usize {
        self.expected.partition_point(|expected| *expected <= revision)
    }
}
