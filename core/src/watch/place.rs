//! Where a watch is in history, and of which store. The one file that writes a resume revision.

use core::num::NonZeroI64;

use crate::{CloseReason, Header};

/// The place of one watch: its resume point, and what it knows of the store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// `None` while a watch from now doesn't know its start.
    point: Option<ResumePoint>,
    /// The highest revision that the store has shown to exist; 0 for none.
    shown: i64,
    /// The cluster whose history this is; 0 until one has told its id.
    cluster_id: u64,
}

impl Place {
    /// The place of a watch from now, before its start is known.
    pub(crate) fn unknown() -> Self {
        Self { point: None, shown: 0, cluster_id: 0 }
    }

    /// A start at `revision`, with what is known of the store from before; 0 for what is not.
    pub(crate) fn at(revision: i64, cluster_id: u64, shown: i64) -> Self {
        Self { point: Some(ResumePoint::at(revision)), shown, cluster_id }
    }

    /// The resume point; `None` while a watch from now doesn't know its start.
    pub(crate) fn point(&self) -> Option<ResumePoint> {
        self.point
    }

    /// The revision to go on at; 0 while a watch from now doesn't know its start.
    pub(crate) fn next_revision(&self) -> i64 {
        self.point.map_or(0, |point| point.resume())
    }

    /// The highest revision that the store has shown to exist.
    pub(crate) fn shown(&self) -> i64 {
        self.shown
    }

    /// Whether a cluster with this id may be the one whose history this is. An id of 0 says nothing.
    pub(crate) fn may_be_of(&self, cluster_id: u64) -> bool {
        Header::may_be_same_cluster(self.cluster_id, cluster_id)
    }

    /// Another cluster than before speaks: the reason to end the watch. An id of 0 says nothing.
    pub(crate) fn check_cluster(&mut self, header: Header) -> Option<CloseReason> {
        if header.cluster_id == 0 || header.cluster_id == self.cluster_id {
            return None;
        }
        if self.cluster_id == 0 {
            self.cluster_id = header.cluster_id;
            return None;
        }
        Some(CloseReason::StoreChanged { before: self.cluster_id, after: header.cluster_id })
    }

    /// All events of `revision` have been accepted.
    pub(crate) fn accept(&mut self, revision: i64) {
        if let Some(point) = &mut self.point {
            point.accept(revision);
        }
        self.shown = self.shown.max(revision);
    }

    /// The server vouches for everything up to `revision`. False, and nothing changes, when that says less than
    /// is known.
    pub(crate) fn progress(&mut self, revision: i64, manual: bool) -> bool {
        let moved = revision > 0 && self.point.as_mut().is_some_and(|point| point.progress(revision, manual));
        if moved {
            self.shown = self.shown.max(revision);
        }
        moved
    }

    /// The revision to go on at if the server vouched for everything up to `revision`.
    pub(crate) fn next_revision_after(&self, revision: i64) -> i64 {
        let mut point = self.point;
        if let Some(point) = &mut point {
            point.progress(revision, true);
        }
        point.map_or(0, |point| point.resume())
    }

    /// Manual progress replies have been proved false; with `all`, periodic progress of this watch, too.
    pub(crate) fn withdraw(&mut self, all: bool) {
        match &mut self.point {
            Some(point) if all => point.withdraw_all(),
            Some(point) => point.withdraw(),
            None => {}
        }
    }

    /// Events from `revision` on were accepted and then dropped, before the consumer had them.
    pub(crate) fn go_back(&mut self, revision: i64) {
        if let Some(point) = &mut self.point {
            point.go_back(revision);
        }
    }
}

/// The first revision there is.
const FIRST: NonZeroI64 = NonZeroI64::new(1).unwrap();

/// A watch's place in history.
///
/// `accepted` and `resume` are only ever raised, with two exceptions: progress that a later event proves
/// false is taken back ([`ResumePoint::withdraw`]), to what events and periodic notifications alone
/// support, and events that were accepted and then dropped unseen are asked for again
/// ([`ResumePoint::go_back`]). Going on at an earlier revision costs a few repeats, which `accepted`
/// recognises; going on at a later one would lose events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    /// The first revision wanted. No watch begins at 0, so a watch that has no place yet takes no more room.
    start: NonZeroI64,
    /// The last revision whose events were all accepted; before the first, the one before `start`.
    accepted: i64,
    /// The revision to ask for next.
    resume: i64,
    /// `resume` without what manual progress replies added.
    supported: i64,
}

/// What an event's revision means to a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is new.
    New,
    /// It is new, yet at or below a progress revision already believed.
    Overtaken,
    /// It has been delivered before, or lies before the watch's start.
    Stale,
}

impl ResumePoint {
    fn at(start: i64) -> Self {
        // 0 would mean "now", and there is nothing below 1.
        let start = NonZeroI64::new(start).unwrap_or(FIRST);
        let first = start.get();
        Self { start, accepted: first.saturating_sub(1), resume: first, supported: first }
    }

    /// The revision to ask for next.
    pub(crate) fn resume(&self) -> i64 {
        self.resume
    }

    /// The last revision whose events were all accepted; before the first, the one before the start.
    pub(crate) fn accepted(&self) -> i64 {
        self.accepted
    }

    /// The first revision wanted.
    pub(crate) fn start(&self) -> i64 {
        self.start.get()
    }

    pub(crate) fn arrival(&self, revision: i64) -> Arrival {
        if revision <= self.accepted {
            Arrival::Stale
        } else if revision < self.resume {
            Arrival::Overtaken
        } else {
            Arrival::New
        }
    }

    /// All events of `revision` have been accepted.
    fn accept(&mut self, revision: i64) {
        self.accepted = self.accepted.max(revision);
        self.resume = self.resume.max(revision.saturating_add(1));
        self.supported = self.supported.max(revision.saturating_add(1));
    }

    /// The server vouches for everything up to `revision`. False, and nothing changes, when that says
    /// less than is known.
    fn progress(&mut self, revision: i64, manual: bool) -> bool {
        let next = revision.saturating_add(1);
        if revision < self.start().saturating_sub(1) || next < self.resume {
            return false;
        }
        self.resume = next;
        if !manual {
            self.supported = next;
        }
        true
    }

    /// Manual progress replies of this watch's stream have been proved false.
    fn withdraw(&mut self) {
        self.resume = self.supported;
    }

    /// Events from `revision` on were accepted and then dropped, before the consumer had them.
    fn go_back(&mut self, revision: i64) {
        self.accepted = self.accepted.min(revision.saturating_sub(1));
        self.resume = self.resume.min(revision);
        self.supported = self.supported.min(revision);
    }

    /// An event came below what even periodic progress supports: go by events alone.
    fn withdraw_all(&mut self) {
        self.supported = self.accepted.saturating_add(1);
        self.resume = self.supported;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_and_progress_at_or_past_the_start_move_it() {
        let mut point = ResumePoint::at(10);
        assert_eq!((point.resume(), point.accepted), (10, 9));
        assert!(!point.progress(8, false), "progress below the start is ignored");
        assert!(point.progress(9, false), "progress just below the start says nothing new, lawfully");
        assert_eq!(point.resume(), 10);
        point.accept(12);
        assert_eq!((point.resume(), point.accepted), (13, 12));
        assert!(!point.progress(11, false), "progress never goes back");
        assert!(point.progress(20, false));
        assert_eq!((point.resume(), point.accepted), (21, 12));
    }

    #[test]
    fn arrivals_are_told_apart() {
        let mut point = ResumePoint::at(10);
        assert_eq!(point.arrival(9), Arrival::Stale);
        assert_eq!(point.arrival(10), Arrival::New);
        point.accept(10);
        assert_eq!(point.arrival(10), Arrival::Stale);
        point.progress(15, true);
        assert_eq!(point.arrival(15), Arrival::Overtaken);
        assert_eq!(point.arrival(16), Arrival::New);
    }

    #[test]
    fn events_that_were_dropped_unseen_are_asked_for_again() {
        let mut point = ResumePoint::at(1);
        point.accept(5);
        point.progress(20, false);
        point.accept(25);
        point.go_back(21);
        assert_eq!((point.resume(), point.accepted), (21, 20));
        assert_eq!([20, 21].map(|revision| point.arrival(revision)), [Arrival::Stale, Arrival::New]);
        point.go_back(30);
        assert_eq!((point.resume(), point.accepted), (21, 20), "it never goes forward by that");
    }

    #[test]
    fn a_place_is_of_one_cluster_and_an_id_of_0_says_nothing() {
        let of = |cluster_id| Header { cluster_id, ..Header::default() };
        let mut place = Place::at(1, 0, 0);
        assert_eq!([0, 7, 0, 7].map(|id| place.check_cluster(of(id))), [const { None }; 4]);
        let reason = CloseReason::StoreChanged { before: 7, after: 8 };
        assert_eq!(place.check_cluster(of(8)), Some(reason));
    }

    #[test]
    fn false_progress_is_taken_back_to_what_is_supported() {
        let mut point = ResumePoint::at(1);
        point.accept(5);
        point.progress(8, false);
        point.progress(20, true);
        point.withdraw();
        assert_eq!(point.resume(), 9);
        point.withdraw_all();
        assert_eq!(point.resume(), 6);
    }
}
