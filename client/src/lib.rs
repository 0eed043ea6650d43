//! An etcd client whose watches survive every cut, for any async runtime.
//!
//! This crate is what all runtimes share; applications use it by way of a crate for theirs, such as
//! `etcd-watch-tokio`, which implements [`Runtime`] and names the [`Client`] on it.
//!
//! - [`Client`]: watches, keys, transactions, leases; made by a [`ClientBuilder`].
//! - [`Watch`]: a running watch, a stream of [`WatchResponse`]s.
//! - [`Get`], [`Put`], [`Delete`], [`Txn`]: calls, with failover.
//! - [`LeaseKeeper`]: keeps a lease alive.
//! - [`Runtime`], [`Transport`]: what it takes to run on another runtime.
//!
//! The guarantees of watches, and the machine that keeps them, are in [`etcd_watch_core`], whose types
//! for requests, responses and reasons are exported here; answers to calls are the messages of
//! [`proto`].
//!
//! # Logs
//!
//! By way of `tracing`, with the fields `endpoint`, `stream`, `range`, `lease`, `user` and `reason`: a warning
//! when an endpoint fails (at most one in 10 s for each), a stream is replaced because its server misbehaved, a
//! lease is lost, or (once) a password goes over the network in plain text; an info when an open stream is lost
//! and when an endpoint answers again. Passwords and auth tokens are in no log and no `Debug`, at any level.

mod auth;
mod builder;
mod calls;
mod client;
mod cluster;
mod codec;
mod connection;
mod dial;
mod driver;
mod endpoint;
mod endpoints;
mod error;
mod hub;
mod keeper;
mod kv;
mod lane;
mod lease;
#[cfg(feature = "metrics")]
mod metrics;
mod outbox;
mod pool;
mod rpc;
mod runtime;
mod sync;
mod telemetry;
#[cfg(test)]
mod testing;
#[cfg(feature = "tls")]
mod tls;
mod txn;
mod watch;
mod wire;

pub use builder::ClientBuilder;
pub use client::Client;
pub use cluster::SyncError;
pub use connection::Connection;
pub use dial::first_to_connect;
pub use endpoint::{Address, Endpoint, EndpointError, Scheme};
pub use error::{BuildError, CallError, StartError};
pub use keeper::{LeaseKeeper, LeaseLost};
pub use kv::{Delete, Get, Put, SortBy, SortOrder};
pub use runtime::{
    AmbientRuntime, BoxError, ConnectError, ConnectOptions, Keepalive, NoRuntime, NotSent, Runtime, Transport,
};
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError, TlsSession};
pub use txn::{Compare, Is, Txn, TxnOp};
pub use watch::{Watch, WatchError};

pub use etcd_watch_core::{
    ApiMisuse, CloseReason, Code, Config, ConfigError, Event, EventKind, Failure, Filters, Header, Instant,
    KeyRange, KeyValue, Overflow, RequestError, ResponseKind, ServerMisbehaved, ServerVersion, StartAt,
    Stats, StreamOptions, WatchKey, WatchRequest, WatchResponse, WatchState, WatchStats,
};
pub use etcd_watch_proto as proto;
