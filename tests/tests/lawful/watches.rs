//! Consumers of a watch, with something on disk.

use std::collections::BTreeMap;

use bytes::Bytes;
use etcd_watch_core::{CloseReason, EventKind, KeyRange, WatchRequest, WatchResponse};
use etcd_watch_testkit::lawful::{
    Broken, Crash, Crashed, Failure, Settings, Sight, StoreAt, WatchConsumer, check_watch,
};

use crate::assert_small;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    None,
    IgnoresDeletes,
    KeepsWhatAListLacks,
    ResumesBehindTheHeader,
    ResumesAtTheRevision,
    StoresTheRevisionFirst,
    GoesOnAfterACrash,
    NeverLists,
    ForgetsTheStore,
    DropsOldRevisions,
    TakesOneEventOfARevision,
}

/// How often each key has been put since it was created: nothing may be counted twice, or not at all.
///
/// What it makes of a response and where to go on are stored together, unless it has a bug.
#[derive(Clone)]
struct Counter {
    bug: Bug,
    is_on_disk: bool,
    puts: BTreeMap<Bytes, i64>,
    next: Option<Next>,
    newest: i64,
}

#[derive(Clone, Copy)]
struct Next {
    cluster_id: u64,
    revision: i64,
}

impl Counter {
    fn with(bug: Bug) -> impl Fn() -> Self {
        move || Self { bug, is_on_disk: true, puts: BTreeMap::new(), next: None, newest: 0 }
    }

    fn events(&mut self, response: &WatchResponse) {
        let before = self.newest;
        for event in response.events() {
            let revision = event.mod_revision();
            let is_dropped = match self.bug {
                Bug::DropsOldRevisions => revision <= before,
                Bug::TakesOneEventOfARevision => revision == self.newest,
                _ => false,
            };
            self.newest = revision;
            if is_dropped {
                continue;
            }
            match event.kind() {
                EventKind::Delete if self.bug == Bug::IgnoresDeletes => {}
                EventKind::Delete => drop(self.puts.remove(event.key())),
                _ => *self.puts.entry(event.kv().key_bytes()).or_default() += 1,
            }
        }
    }

    fn next(&self, response: &WatchResponse) -> i64 {
        match self.bug {
            Bug::ResumesBehindTheHeader => response.header().revision + 1,
            Bug::ResumesAtTheRevision => response.revision(),
            _ => response.resume_revision(),
        }
    }
}

impl WatchConsumer for Counter {
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
        let Next { cluster_id, revision } = self.next?;
        let request = WatchRequest::new(range.clone()).start_revision(revision).progress_notify(true);
        match self.bug {
            Bug::ForgetsTheStore => Some(request),
            _ => Some(request.known_store(cluster_id, revision - 1)),
        }
    }

    fn list(&mut self, listed: &StoreAt, _: &mut Crash) -> Result<(), Crashed> {
        if self.bug != Bug::KeepsWhatAListLacks {
            self.puts.clear();
        }
        self.puts.extend(listed.pairs().values().map(|kv| (kv.key.clone(), kv.version)));
        self.newest = self.newest.max(listed.revision());
        self.next = Some(Next { cluster_id: listed.cluster_id(), revision: listed.revision() + 1 });
        Ok(())
    }

    fn handle(&mut self, response: &WatchResponse, crash: &mut Crash) -> Result<(), Crashed> {
        let revision = self.next(response);
        let next = self.next.map(|next| Next { revision, ..next });
        if self.bug == Bug::StoresTheRevisionFirst {
            self.next = next;
            crash.point()?;
        }
        if self.bug == Bug::GoesOnAfterACrash {
            let _ = crash.point();
        }
        self.events(response);
        self.next = next;
        Ok(())
    }

    fn closed(&mut self, _: &CloseReason) {
        if self.bug != Bug::NeverLists {
            self.next = None;
        }
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        let expected: BTreeMap<Bytes, i64> =
            store.pairs().values().map(|kv| (kv.key.clone(), kv.version)).collect();
        if self.puts == expected { Ok(()) } else { Err(format!("{:?}, not {expected:?}", self.puts)) }
    }

    fn restart(&mut self, fresh: Self) {
        if !self.is_on_disk {
            *self = fresh;
        }
    }
}

fn find(bug: Bug) -> Failure {
    check_watch(&Settings::default(), Counter::with(bug)).expect_err("the bug is found")
}

#[test]
fn a_correct_counter_passes() {
    let coverage = check_watch(&Settings::default(), Counter::with(Bug::None)).unwrap();
    assert_eq!(coverage.histories(), Settings::default().how_many());
}

#[test]
fn a_correct_counter_without_a_disk_passes() {
    let make = || Counter { is_on_disk: false, ..Counter::with(Bug::None)() };
    let coverage = check_watch(&Settings::default(), make).unwrap();
    assert!(coverage.count(Sight::Restarted) > 0 && coverage.count(Sight::SeenAgain) == 0, "{coverage}");
}

#[test]
fn ignoring_deletes_is_found() {
    assert_small(&find(Bug::IgnoresDeletes), 4);
}

#[test]
fn keeping_what_a_list_lacks_is_found() {
    assert_small(&find(Bug::KeepsWhatAListLacks), 7);
}

#[test]
fn resuming_behind_the_header_is_found() {
    let failure = find(Bug::ResumesBehindTheHeader);
    assert_small(&failure, 10);
    assert!(failure.transcript().iter().any(|line| line.contains("header at")), "{failure}");
}

#[test]
fn resuming_at_the_revision_counts_twice_and_is_found() {
    assert_small(&find(Bug::ResumesAtTheRevision), 5);
}

#[test]
fn storing_the_revision_before_the_data_is_found() {
    let failure = find(Bug::StoresTheRevisionFirst);
    assert_small(&failure, 5);
    assert!(failure.transcript().iter().any(|line| line.contains("the process crashed")), "{failure}");
}

#[test]
fn going_on_after_a_crash_is_found() {
    let failure = find(Bug::GoesOnAfterACrash);
    assert!(failure.history().steps().len() <= 4, "{failure}");
    assert_eq!(*failure.broken(), Broken::OutlivedACrash);
}

#[test]
fn dropping_old_revisions_is_found() {
    let failure = find(Bug::DropsOldRevisions);
    assert_small(&failure, 5);
    assert!(failure.transcript().iter().any(|line| line.contains("replaced") || line.contains("restored")));
}

#[test]
fn taking_one_event_of_a_revision_is_found() {
    assert_small(&find(Bug::TakesOneEventOfARevision), 3);
}

#[test]
fn never_listing_again_is_found() {
    let failure = find(Bug::NeverLists);
    let is_stalled = matches!(failure.broken(), Broken::Stalled { .. });
    assert!(is_stalled && failure.history().steps().len() <= 5, "{failure}");
}

#[test]
fn forgetting_which_store_it_was_is_found() {
    let failure = find(Bug::ForgetsTheStore);
    assert!(failure.history().steps().len() <= 6, "{failure}");
    assert!(failure.broken().to_string().contains("known_store"), "{failure}");
}

#[test]
fn forgetting_which_store_it_was_is_right_where_there_is_only_one() {
    let settings = Settings::default().other_stores(false);
    let coverage = check_watch(&settings, Counter::with(Bug::ForgetsTheStore)).unwrap();
    assert_eq!(coverage.count(Sight::StoreChanged) + coverage.count(Sight::StoreRegressed), 0);
}

/// A copy that stores its data first and the revision behind it, so that it sees some of it again after a
/// crash, which for a copy is all the same.
#[derive(Default)]
struct AtLeastOnce {
    pairs: BTreeMap<Bytes, Bytes>,
    next: Option<Next>,
}

impl WatchConsumer for AtLeastOnce {
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
        let Next { cluster_id, revision } = self.next?;
        Some(WatchRequest::new(range.clone()).start_revision(revision).known_store(cluster_id, revision - 1))
    }

    fn list(&mut self, listed: &StoreAt, crash: &mut Crash) -> Result<(), Crashed> {
        // What there was can't be gone on from once it is overwritten.
        self.next = None;
        crash.point()?;
        self.pairs = listed.pairs().values().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
        crash.point()?;
        self.next = Some(Next { cluster_id: listed.cluster_id(), revision: listed.revision() + 1 });
        Ok(())
    }

    fn handle(&mut self, response: &WatchResponse, crash: &mut Crash) -> Result<(), Crashed> {
        for event in response.events() {
            match event.kind() {
                EventKind::Delete => drop(self.pairs.remove(event.key())),
                _ => drop(self.pairs.insert(event.kv().key_bytes(), event.kv().value_bytes())),
            }
            crash.point()?;
        }
        self.next = self.next.map(|next| Next { revision: response.resume_revision(), ..next });
        Ok(())
    }

    fn closed(&mut self, reason: &CloseReason) {
        self.next = match *reason {
            CloseReason::Lagged { .. } => self.next,
            _ => None,
        };
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        store.expect_pairs(&self.pairs)
    }

    fn restart(&mut self, _fresh: Self) {}
}

#[test]
fn a_copy_that_sees_some_of_it_again_passes() {
    let coverage = check_watch(&Settings::default(), AtLeastOnce::default).unwrap();
    assert!(coverage.count(Sight::Crashed) > 0 && coverage.count(Sight::SeenAgain) > 0, "{coverage}");
}
