//! Whether the default histories contain what a consumer has to cope with.

use bytes::Bytes;
use etcd_watch_core::{CloseReason, KeyRange, MirrorEvent, WatchRequest, WatchResponse};
use etcd_watch_testkit::lawful::{
    Coverage, Crash, Crashed, MirrorConsumer, Settings, Sight, StoreAt, WatchConsumer, check_mirror,
    check_watch,
};

struct Blind;

impl MirrorConsumer for Blind {
    fn handle(&mut self, _: MirrorEvent) {}

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        Ok(())
    }
}

/// It knows where it is, and nothing else.
#[derive(Default)]
struct Position {
    next: Option<(u64, i64)>,
    last: Bytes,
}

impl WatchConsumer for Position {
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
        let (cluster, next) = self.next?;
        let request = WatchRequest::new(range.clone()).start_revision(next).known_store(cluster, next - 1);
        Some(request.progress_notify(true))
    }

    fn list(&mut self, listed: &StoreAt, _: &mut Crash) -> Result<(), Crashed> {
        self.next = Some((listed.cluster_id(), listed.revision() + 1));
        Ok(())
    }

    fn handle(&mut self, response: &WatchResponse, crash: &mut Crash) -> Result<(), Crashed> {
        crash.point()?;
        self.last = response.events().last().map(|event| event.kv().key_bytes()).unwrap_or_default();
        self.next = self.next.map(|(cluster, _)| (cluster, response.resume_revision()));
        Ok(())
    }

    fn closed(&mut self, _: &CloseReason) {
        self.next = None;
    }

    fn check(&self, _: &StoreAt) -> Result<(), String> {
        Ok(())
    }

    fn restart(&mut self, _fresh: Self) {}
}

fn assert_seen(coverage: &Coverage, but_for: &[Sight]) {
    for sight in Sight::ALL.iter().filter(|sight| !but_for.contains(sight)) {
        assert!(coverage.count(*sight) > 0, "never: {sight}\n{coverage}");
    }
    for sight in but_for {
        assert_eq!(coverage.count(*sight), 0, "it is said to be impossible: {sight}\n{coverage}");
    }
}

#[test]
fn default_histories_have_everything_that_a_mirror_can_do() {
    let coverage = check_mirror(&Settings::default(), || Blind).unwrap();
    assert_seen(&coverage, &[Sight::Crashed, Sight::SeenAgain]);
}

#[test]
fn default_histories_have_everything_that_a_watch_can_do() {
    let coverage = check_watch(&Settings::default(), Position::default).unwrap();
    assert_seen(&coverage, &[Sight::ListInList]);
}

#[test]
fn what_is_switched_off_does_not_happen() {
    let settings = Settings::default().other_stores(false).restarts(false);
    let coverage = check_mirror(&settings, || Blind).unwrap();
    let off = [Sight::StoreChanged, Sight::StoreRegressed, Sight::RevisionsFell, Sight::Restarted];
    assert!(off.iter().all(|sight| coverage.count(*sight) == 0), "{coverage}");
}
