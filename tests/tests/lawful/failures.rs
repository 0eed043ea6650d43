//! What a failure tells.

use bytes::Bytes;
use etcd_watch_core::{CloseReason, KeyRange, MirrorEvent, MirrorRequest, WatchRequest, WatchResponse};
use etcd_watch_testkit::lawful::{
    Broken, Change, Crash, Crashed, Failure, History, MirrorConsumer, Plan, Settings, Step, StoreAt,
    WatchConsumer, check_mirror, check_watch, histories,
};
use proptest::test_runner::{Config as ProptestConfig, TestError, TestRunner};

/// It breaks as soon as it is told of a delete.
#[derive(Default)]
struct Fragile {
    deleted: Option<Bytes>,
}

impl MirrorConsumer for Fragile {
    fn handle(&mut self, event: MirrorEvent) {
        match event {
            MirrorEvent::Snapshot(part) => self.deleted = part.deletes().first().cloned(),
            MirrorEvent::Changes(response) => {
                let gone = response.events().find(|event| event.value().is_empty());
                self.deleted = gone.map(|event| event.kv().key_bytes());
            }
            _ => {}
        }
    }

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        self.deleted.as_ref().map_or(Ok(()), |key| Err(format!("{key:?} was deleted")))
    }
}

fn failure() -> Failure {
    check_mirror(&Settings::default(), Fragile::default).expect_err("keys are deleted")
}

#[test]
fn a_failure_tells_what_happened_in_lines_that_can_be_read() {
    let settings = Settings::default();
    let put = Step::Write(vec![Change::Put { key: 0, value: 3 }]);
    let steps = [put, Step::Flow, Step::DeleteAll, Step::Flow];
    let history = History::new(&settings, Plan::default(), steps);
    let failure = history.feed_mirror(Fragile::default).expect_err("a key is deleted");
    let expected = "\
at revision 3: b\"k0\" was deleted

   store  put \"k0\" = \"3\" (revision 2)
consumer  Listing at revision 2: the first list
consumer  Snapshot: put \"k0\" = \"3\" @2
consumer  Synced at revision 2
   store  delete all keys (revision 3)
consumer  Changes: delete \"k0\" @3 (up to revision 3)
  broken  at revision 3: b\"k0\" was deleted

History::new(&settings, Plan::default(), [
    Step::Write(vec![Change::Put { key: 0, value: 3 }]),
    Step::Flow,
    Step::DeleteAll,
    Step::Flow,
])";
    assert_eq!(failure.to_string(), expected);
    assert_eq!(format!("{failure:?}"), expected);
}

#[test]
fn the_same_search_finds_the_same_history() {
    assert_eq!(failure().to_string(), failure().to_string());
}

#[test]
fn the_seed_alone_finds_it_again() {
    let failure = failure();
    let (seed, _) = failure.found_by().expect("it was searched for");
    let again = check_mirror(&Settings::default().seed(seed).cases(1), Fragile::default);
    assert_eq!(again.expect_err("the same history").transcript(), failure.transcript());
}

#[test]
fn a_small_history_is_a_regression_test() {
    let found = failure();
    let history =
        History::new(&Settings::default(), *found.history().plan(), found.history().steps().to_vec());
    let again = history.feed_mirror(Fragile::default).expect_err("it fails by itself");
    assert_eq!((again.broken(), again.transcript()), (found.broken(), found.transcript()));
}

#[test]
fn nothing_can_be_left_out_of_a_small_history() {
    let found = failure();
    for left_out in 0..found.history().steps().len() {
        let mut steps = found.history().steps().to_vec();
        steps.remove(left_out);
        let shorter = History::new(&Settings::default(), *found.history().plan(), steps);
        assert!(shorter.feed_mirror(Fragile::default).is_ok(), "without step {left_out}:\n{found}");
    }
}

#[test]
fn proptest_shrinks_to_a_small_history_too() {
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    let strategy = histories(&Settings::default());
    let found = TestRunner::new(config).run(&strategy, |history| {
        history.feed_mirror(Fragile::default)?;
        Ok(())
    });
    let Err(TestError::Fail(reason, history)) = found else { panic!("{found:?}") };
    assert!(history.steps().len() <= 3, "{history:?}");
    assert!(reason.message().contains("was deleted") && reason.message().contains("Listing"), "{reason}");
}

struct Panics;

impl MirrorConsumer for Panics {
    fn handle(&mut self, event: MirrorEvent) {
        let MirrorEvent::Changes(changes) = event else { return };
        panic!("no room for {} events", changes.len());
    }

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_panic_is_a_failure_and_told_in_its_words() {
    let failure = check_mirror(&Settings::default().cases(20), || Panics).expect_err("it panics");
    let Broken::Panicked { message } = failure.broken() else { panic!("{failure}") };
    assert_eq!(message, "no room for 1 events");
}

struct Elsewhere;

impl MirrorConsumer for Elsewhere {
    fn request(&self, _: &KeyRange) -> MirrorRequest {
        MirrorRequest::new(KeyRange::key("elsewhere"))
    }

    fn handle(&mut self, _: MirrorEvent) {}

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn a_request_for_another_range_is_refused() {
    let failure = check_mirror(&Settings::default(), || Elsewhere).expect_err("it looks elsewhere");
    assert!(matches!(failure.broken(), Broken::Request { .. }), "{failure}");
}

/// Asks for the same watch, whatever happens.
#[derive(Default)]
struct Stubborn(Option<i64>);

impl WatchConsumer for Stubborn {
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
        self.0.map(|revision| WatchRequest::new(range.clone()).start_revision(revision))
    }

    fn list(&mut self, _: &StoreAt, _: &mut Crash) -> Result<(), Crashed> {
        Ok(())
    }

    fn handle(&mut self, _: &WatchResponse, _: &mut Crash) -> Result<(), Crashed> {
        Ok(())
    }

    fn closed(&mut self, _: &CloseReason) {}

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn watches_that_make_no_sense_are_refused() {
    for (start, expected) in
        [(None, "behind it"), (Some(0), "from now on"), (Some(-1), "start_revision is -1")]
    {
        let failure = check_watch(&Settings::default(), || Stubborn(start)).expect_err("no such watch");
        assert!(matches!(failure.broken(), Broken::Request { .. }), "{failure}");
        assert!(failure.broken().to_string().contains(expected), "{failure}");
    }
}
