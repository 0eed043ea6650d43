//! A consumer with a classic bug, and the history that shows it: when a watch can't go on, it lists the keys and
//! puts them into its map; but what was deleted meanwhile is in no list, and nobody takes it out.
//!
//! `cargo run -p etcd-watch-testkit --example buggy_consumer`
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use std::collections::BTreeMap;
use std::process::ExitCode;

use bytes::Bytes;
use etcd_watch_core::{CloseReason, EventKind, KeyRange, WatchRequest, WatchResponse};
use etcd_watch_testkit::lawful::{self, Crash, Crashed, Settings, StoreAt, WatchConsumer};

#[derive(Default)]
struct Copy {
    pairs: BTreeMap<Bytes, Bytes>,
    /// The store's cluster and the revision to go on at.
    next: Option<(u64, i64)>,
}

impl WatchConsumer for Copy {
    fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
        let (cluster, next) = self.next?;
        Some(WatchRequest::new(range.clone()).start_revision(next).known_store(cluster, next - 1))
    }

    fn list(&mut self, listed: &StoreAt, _: &mut Crash) -> Result<(), Crashed> {
        // Here `self.pairs.clear()` is missing.
        self.pairs.extend(listed.pairs().values().map(|kv| (kv.key.clone(), kv.value.clone())));
        self.next = Some((listed.cluster_id(), listed.revision() + 1));
        Ok(())
    }

    fn handle(&mut self, response: &WatchResponse, _: &mut Crash) -> Result<(), Crashed> {
        for event in response.events() {
            match event.kind() {
                EventKind::Delete => drop(self.pairs.remove(event.key())),
                _ => drop(self.pairs.insert(event.kv().key_bytes(), event.kv().value_bytes())),
            }
        }
        self.next = self.next.map(|(cluster, _)| (cluster, response.resume_revision()));
        Ok(())
    }

    fn closed(&mut self, _: &CloseReason) {
        self.next = None;
    }

    fn check(&self, store: &StoreAt) -> Result<(), String> {
        store.expect_pairs(&self.pairs)
    }
}

fn main() -> ExitCode {
    // Without other clusters and backups: here it is about history that is compacted.
    let settings = Settings::default().other_stores(false);
    match lawful::check_watch(&settings, Copy::default) {
        Ok(coverage) => {
            println!("The bug was NOT found in {} histories.", coverage.histories());
            ExitCode::FAILURE
        }
        Err(failure) => {
            println!("{failure}\n");
            println!(
                "The bug was found, in {} steps: keys that a list lacks must go.",
                failure.history().steps().len()
            );
            ExitCode::SUCCESS
        }
    }
}
