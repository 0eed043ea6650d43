//! The sans-IO state machine of an etcd v3 watch client.
//!
//! One synchronous machine, [`Watcher`], holds every watch of a client and every gRPC stream they travel
//! on. It takes what the application asks for and what the network did, and says what to do; it does no
//! I/O, reads no clock, starts no task. Put it into any event loop, or use a crate that has done so
//! (`etcd-watch-tokio`).
//!
//! What it keeps, for every watch, across any number of broken connections, failed members and
//! re-creations, whatever the consumer does:
//!
//! | promise | meaning |
//! |---|---|
//! | ordered | revisions never go down |
//! | unique | no event comes twice |
//! | reliable | no event between the first and the last delivered is missing |
//! | atomic | all events of a revision that match the watch come in one [`WatchResponse`] |
//! | resumable | after a break it goes on at exactly the next revision, or says that history is compacted |
//! | bookmarkable | a progress revision R means that everything up to R has been delivered |
//! | bounded | what waits for consumers has a limit, per watch and in all |
//! | isolated | one watch's error, slowness or end never disturbs another |
//! | live | a dead or silent stream is noticed within a configured time |
//!
//! Start with [`Watcher`]: its documentation is the contract between machine and driver. [`Mirror`] is a
//! second machine, beside it: it lists a key range and then watches it, as one consistent history of states.
//! [`wire`] has what a driver needs of gRPC and protobuf, without I/O too.
//!
//! The crate is `no_std` and needs `alloc`.
#![no_std]

extern crate alloc;

mod action;
mod attempts;
mod config;
mod deadlines;
mod error;
mod failure;
mod id_map;
mod into_bytes;
mod key;
mod mirror;
mod printable;
mod range;
mod reads;
mod stats;
mod stream;
mod time;
mod watch;
mod watcher;
pub mod wire;

pub use action::{Action, Creates, EndpointHint, Opened, RangeDone, TimeoutReason};
pub use config::WatchConfig;
pub use error::{ApiMisuse, CloseReason, ConfigError, RequestError, ServerMisbehaved, StreamEnd};
pub use failure::{Code, Failure, Refusal, Remedy, is_etcds_own, is_turned_away, refusal, remedy};
pub use into_bytes::IntoBytes;
pub use key::{RangeKey, StreamId, StreamKey, WatchKey};
pub use mirror::{
    ListKey, ListProgress, ListReason, ListRequest, Mirror, MirrorAction, MirrorEvent, MirrorRequest, Page,
    Pairs, PairsIter, SnapshotPart,
};
pub use printable::printable;
pub use range::KeyRange;
pub use stats::{Stats, WatchState, WatchStats};
pub use time::Instant;
pub use watch::checkpoint::{Checkpoint, ParseCheckpointError};
pub use watch::event::{Event, EventKind, KeyValue};
pub use watch::owned::{OwnedEvent, OwnedKeyValue};
pub use watch::request::{CreateRequest, Filters, Overflow, Request, StartAt, StreamOptions, WatchRequest};
pub use watch::response::{Delivery, ResponseKind, WatchResponse};
pub use watcher::Watcher;
pub use wire::decode::{DecodeError, Frame, Header};
pub use wire::version::{ParseVersionError, ServerVersion};
