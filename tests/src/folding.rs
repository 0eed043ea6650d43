//! A consumer of a mirror that holds what it has been handed.

use std::collections::BTreeMap;
use std::time::Duration;

use etcd_watch_client::{Client, Mirror};
use etcd_watch_core::{EventKind, ListReason, MirrorEvent, MirrorRequest};
use tokio::time::timeout;

/// Keys with their values and the revisions they are of.
pub type Held = BTreeMap<Box<[u8]>, (Box<[u8]>, i64)>;

/// A mirror and what its consumer holds, folded as [`MirrorEvent`] says.
#[derive(Debug)]
pub struct Folding {
    /// Where it comes from.
    pub mirror: Mirror,
    /// What it has come to.
    pub held: Held,
    /// Why keys were listed, each time they were.
    pub reasons: Vec<ListReason>,
    /// Parts that lists have come in.
    pub parts: usize,
    /// Keys that lists have deleted.
    pub deletes: usize,
    deadline: Duration,
}

impl Folding {
    /// Opens a mirror with an index, of which each event has to come within a deadline.
    ///
    /// # Panics
    ///
    /// When the client is closed or the request can't be served.
    #[must_use]
    pub fn open(client: &Client, request: MirrorRequest, deadline: Duration) -> Self {
        let mirror = client.mirror(request).expect("it is opened");
        Self { mirror, held: Held::new(), reasons: Vec::new(), parts: 0, deletes: 0, deadline }
    }

    /// Folds the next event in; the revision that what it holds is at then, if it is at one.
    ///
    /// # Panics
    ///
    /// When nothing comes in time, when the mirror ends, and when a list deletes a key that isn't there.
    pub async fn step(&mut self) -> Option<i64> {
        let event = timeout(self.deadline, self.mirror.try_next()).await.expect("in time");
        let event = event.expect("it goes on").expect("it does not end");
        match &event {
            MirrorEvent::Listing { reason, .. } => self.reasons.push(reason.clone()),
            MirrorEvent::Snapshot(part) => {
                self.parts += 1;
                for key in part.deletes() {
                    assert!(self.held.remove(&key[..]).is_some(), "what is deleted was there");
                    self.deletes += 1;
                }
                for kv in part.puts() {
                    self.held.insert(kv.key().into(), (kv.value().into(), kv.mod_revision()));
                }
            }
            MirrorEvent::Changes(response) => {
                for event in response.events() {
                    match event.kind() {
                        EventKind::Delete => self.held.remove(event.key()),
                        _ => {
                            self.held.insert(event.key().into(), (event.value().into(), event.mod_revision()))
                        }
                    };
                }
            }
            MirrorEvent::Synced { .. } => {}
            other => panic!("{other:?}"),
        }
        event.synced_revision()
    }

    /// Folds until everything up to a revision is in; the revision it is at then.
    pub async fn through(&mut self, revision: i64) -> i64 {
        loop {
            if let Some(at) = self.step().await.filter(|at| *at >= revision) {
                return at;
            }
        }
    }
}
