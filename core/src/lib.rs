//! The sans-IO state machine of an etcd v3 watch client.
#![no_std]

extern crate alloc;

mod action;
mod backoff;
mod config;
mod decode;
mod error;
mod failure;
mod group;
mod key;
mod lane;
mod queue;
mod request;
mod response;
mod resume;
mod stats;
mod substream;
mod time;
mod version;
mod watcher;

pub use action::{Action, EndpointHint, Opened, RangeDone, TimeoutReason};
pub use config::Config;
pub use decode::{DecodeError, Header};
pub use error::{ApiMisuse, CloseReason, ConfigError, RequestError, ServerMisbehaved, StreamEnd};
pub use failure::{Code, Failure, Remedy, remedy};
pub use key::{RangeKey, StreamKey, WatchKey};
pub use request::{
    CreateRequest, Filters, KeyRange, Overflow, Request, StartAt, StreamOptions, WatchRequest,
};
pub use response::{Delivery, Event, EventKind, KeyValue, ResponseKind, WatchResponse};
pub use stats::Stats;
pub use time::Instant;
pub use version::{ParseVersionError, ServerVersion};
pub use watcher::Watcher;
