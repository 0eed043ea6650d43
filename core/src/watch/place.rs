//! Where a watch goes on after a break. The one file that writes a resume revision.

/// A watch's place in history.
///
/// `accepted` and `resume` are only ever raised, with one exception: progress that a later event proves
/// false is taken back ([`ResumePoint::withdraw`]), to what events and periodic notifications alone
/// support. Going on at an earlier revision costs a few repeats, which `accepted` recognises; going on
/// at a later one would lose events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResumePoint {
    /// The first revision wanted.
    start: i64,
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
    pub(crate) fn at(start: i64) -> Self {
        Self { start, accepted: start.saturating_sub(1), resume: start, supported: start }
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
        self.start
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
    pub(crate) fn accept(&mut self, revision: i64) {
        self.accepted = self.accepted.max(revision);
        self.resume = self.resume.max(revision.saturating_add(1));
        self.supported = self.supported.max(revision.saturating_add(1));
    }

    /// The server vouches for everything up to `revision`. False, and nothing changes, when that says
    /// less than is known.
    pub(crate) fn progress(&mut self, revision: i64, manual: bool) -> bool {
        let next = revision.saturating_add(1);
        if revision < self.start.saturating_sub(1) || next < self.resume {
            return false;
        }
        self.resume = next;
        if !manual {
            self.supported = next;
        }
        true
    }

    /// Manual progress replies of this watch's stream have been proved false.
    pub(crate) fn withdraw(&mut self) {
        self.resume = self.supported;
    }

    /// An event came below what even periodic progress supports: go by events alone.
    pub(crate) fn withdraw_all(&mut self) {
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
