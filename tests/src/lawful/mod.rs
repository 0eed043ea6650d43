//! Property tests for whatever consumes watches and mirrors: random but lawful histories.
//!
//! Bring a consumer, and it gets what `etcd-watch` can hand out, and nothing else: the real
//! [`Watcher`](etcd_watch_core::Watcher) and [`Mirror`](etcd_watch_core::Mirror) run against a
//! [model of etcd](crate::model) under a random script of writes, leases, cuts, compactions, slow consumers,
//! replaced and restored stores, restarts and crashes. It is compared with the store at each revision it was told
//! of. A history that it doesn't cope with is made as short as it can be, and told step by step.
//!
//! - [`check_mirror`] is for a [`MirrorConsumer`], which folds [`MirrorEvent`](etcd_watch_core::MirrorEvent)s.
//! - [`check_watch`] is for a [`WatchConsumer`], which folds
//!   [`WatchResponse`](etcd_watch_core::WatchResponse)s, lists the keys itself where it must, and goes on after
//!   restarts from what it has stored.
//! - [`histories`] is the strategy, for use in `proptest!`.
//! - [`History`] is one of them, written by hand or pasted from a failure, as a regression test.
//!
//! It takes three lines of `Cargo.toml`, with the versions of the client that is used:
//!
//! ```toml
//! [dev-dependencies]
//! etcd-watch-testkit = "0.1"
//! etcd-watch-core = "0.1"
//! bytes = "1"
//! ```
//!
//! A consumer of a mirror, as a test would have it:
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bytes::Bytes;
//! use etcd_watch_core::{EventKind, MirrorEvent};
//! use etcd_watch_testkit::lawful::{self, MirrorConsumer, Settings, StoreAt};
//!
//! #[derive(Default)]
//! struct Pairs(BTreeMap<Bytes, Bytes>);
//!
//! impl MirrorConsumer for Pairs {
//!     fn handle(&mut self, event: MirrorEvent) {
//!         match event {
//!             MirrorEvent::Snapshot(part) => {
//!                 part.deletes().iter().for_each(|key| drop(self.0.remove(key)));
//!                 self.0.extend(part.into_puts().map(|kv| (kv.key, kv.value)));
//!             }
//!             MirrorEvent::Changes(response) => response.events().for_each(|event| match event.kind() {
//!                 EventKind::Delete => drop(self.0.remove(event.key())),
//!                 _ => drop(self.0.insert(event.kv().key_bytes(), event.kv().value_bytes())),
//!             }),
//!             _ => {}
//!         }
//!     }
//!
//!     fn check(&self, store: &StoreAt) -> Result<(), String> {
//!         store.expect_pairs(&self.0)
//!     }
//! }
//!
//! lawful::check_mirror(&Settings::default(), Pairs::default)?;
//! # Ok::<(), lawful::Failure>(())
//! ```
//!
//! A consumer of a watch, with a disk: what it has, and where to go on from, of which store. It stores the data first,
//! so that it sees the last response again after a crash in between, which does a map no harm.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use bytes::Bytes;
//! use etcd_watch_core::{CloseReason, EventKind, KeyRange, WatchRequest, WatchResponse};
//! use etcd_watch_testkit::lawful::{self, Crash, Crashed, Settings, StoreAt, WatchConsumer};
//!
//! #[derive(Default)]
//! struct Disk {
//!     pairs: BTreeMap<Bytes, Bytes>,
//!     /// The cluster id, and the revision that is next.
//!     next: Option<(u64, i64)>,
//! }
//!
//! impl WatchConsumer for Disk {
//!     fn watch(&self, range: &KeyRange) -> Option<WatchRequest> {
//!         let (cluster_id, revision) = self.next?;
//!         let request = WatchRequest::new(range.clone()).start_revision(revision);
//!         Some(request.known_store(cluster_id, revision - 1))
//!     }
//!
//!     fn list(&mut self, listed: &StoreAt, crash: &mut Crash) -> Result<(), Crashed> {
//!         // Half of a list is nothing to go on from.
//!         self.next = None;
//!         crash.point()?;
//!         self.pairs = listed.pairs().values().map(|kv| (kv.key.clone(), kv.value.clone())).collect();
//!         crash.point()?;
//!         self.next = Some((listed.cluster_id(), listed.revision() + 1));
//!         Ok(())
//!     }
//!
//!     fn handle(&mut self, response: &WatchResponse, crash: &mut Crash) -> Result<(), Crashed> {
//!         for event in response.events() {
//!             match event.kind() {
//!                 EventKind::Delete => drop(self.pairs.remove(event.key())),
//!                 _ => drop(self.pairs.insert(event.kv().key_bytes(), event.kv().value_bytes())),
//!             }
//!             crash.point()?;
//!         }
//!         self.next = self.next.map(|(cluster_id, _)| (cluster_id, response.resume_revision()));
//!         Ok(())
//!     }
//!
//!     fn closed(&mut self, _: &CloseReason) {
//!         self.next = None;
//!     }
//!
//!     fn check(&self, store: &StoreAt) -> Result<(), String> {
//!         store.expect_pairs(&self.pairs)
//!     }
//!
//!     /// All of it is on the disk.
//!     fn restart(&mut self, _: Self) {}
//! }
//!
//! lawful::check_watch(&Settings::default(), Disk::default)?;
//! # Ok::<(), lawful::Failure>(())
//! ```
//!
//! Two longer ones: `cargo run -p etcd-watch-testkit --example correct_consumer`, and `buggy_consumer`.
//!
//! What isn't in these histories: watches that end for good (denied, refused, unreachable), and servers that
//! break their own rules.
//!
//! | file | owns |
//! |---|---|
//! | `consumer` | what the user brings |
//! | `history`, `strategy`, `shrink` | what happens; at random; and less of it |
//! | `world` | one run |
//! | `mirror`, `watch` | the consumer's side of a run, for either kind |
//! | `stores`, `store_at`, `link` | the stores, one of them at a revision, the network |
//! | `record`, `failure`, `code` | the transcript, and a history as Rust code |
//! | `coverage`, `sights` | what histories contained |

mod check;
mod code;
mod consumer;
mod coverage;
mod failure;
mod history;
mod link;
mod mirror;
mod record;
mod settings;
mod shrink;
mod sights;
mod store_at;
mod stores;
mod strategy;
mod watch;
mod world;

pub use check::{check_mirror, check_watch};
pub use consumer::{Crash, Crashed, MirrorConsumer, WatchConsumer};
pub use coverage::{Coverage, Sight};
pub use failure::{Broken, Failure};
pub use history::{Change, History, Plan, Step};
pub use settings::Settings;
pub use shrink::Shrinker;
pub use store_at::StoreAt;
pub use strategy::{Histories, histories};
