//! An etcd client whose watches survive every cut, for any async runtime.
//!
//! This crate is what all runtimes share; applications use it by way of a crate for theirs, such as
//! `etcd-watch-tokio`, which implements [`Runtime`] and begins clients on it.
//!
//! - [`Client`]: watches, keys, transactions, leases; made by a [`ClientBuilder`].
//! - [`Watch`]: a running watch, a stream of [`WatchResponse`]s.
//! - [`Get`], [`Put`], [`Delete`], [`Txn`]: calls, with failover; [`Pages`], of ranges of any size; [`Conditional`], the
//!   answers of [`create`](Client::create), [`update_if`](Client::update_if) and [`delete_if`](Client::delete_if).
//! - [`Mirror`], [`TypedMirror`]: a key range, listed and then watched.
//! - [`Lease`], [`LeaseKeeper`]: leases, granted and kept alive.
//! - [`admin`]: users and roles, the members of the cluster, and their care.
//! - [`concurrency`]: locks, elections, and transactions that are code.
//! - [`cache`]: a local view of keys, kept current.
//! - [`Health`], [`Monitor`]: how each of them is doing, as a value and to wait for.
//! - `discovery`, with the feature of that name: services register their endpoints, clients follow them.
//! - [`Runtime`]: what it takes to run on another runtime.
//!
//! The guarantees of watches, and the machine that keeps them, are in [`etcd_watch_core`], whose types
//! for requests, responses and reasons are exported here; answers to calls are the messages of
//! [`proto`].
//!
//! # Logs
//!
//! By way of `tracing`. Every event has a stable name and stable fields; what happens to watches and their streams
//! happens in the span `etcd_watch.stream`:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `watch_slow` | warn | `watch`, `range`, `policy`, `queued_bytes`, `revision`; at most one per watch in [`warn_slow_every`](ClientBuilder::warn_slow_every) |
//! | `watch_slow_again` | debug | the same, in between |
//! | `watch_created`, `watch_resumed` | debug | `watch`, `stream`, `revision` |
//! | `watch_ended` | debug | `watch`, `reason` |
//! | `stream_opening` | debug | `stream`, `endpoint` |
//! | `stream_opened` | debug | `stream`, `endpoint`, `version` |
//! | `stream_lost` | info | `stream`, `endpoint`, `reason`, `backoff`, `failures` (in a row) |
//! | `stream_failed` | debug | the same, for one that could not be opened |
//! | `stream_failing` | warn | the same, after 8 failures in a row, 16, 32, ... |
//! | `stream_replaced` | warn | the same, for one whose server broke the protocol or lags, or on which a proxy has lost a watch; and `in_a_row`, how many there were at that endpoint without a minute between them. Reported for the first in a row, then for the 8th, the 16th, the 32nd, ... |
//! | `stream_replaced_again` | debug | the same, in between |
//! | `stream_closed` | debug | the same, for one that is not needed any more |
//! | `revision_not_read` | debug | `range`, `reason`; the current revision, for watches from now on, or whether a watch behind a proxy has missed something |
//! | `version_unknown` | debug | `endpoint`, `reason` |
//!
//! Beside them, of members, calls and users; passwords and tokens are in none of them:
//!
//! | event | level | fields |
//! |---|---|---|
//! | `endpoint_failed` | warn | `endpoint`, `reason`; at most one in 10 s for each |
//! | `endpoint_failed_again` | debug | the same, in between |
//! | `endpoint_answers` | info | `endpoint`; after it had failed |
//! | `endpoint_answers_again` | debug | the same, after an `endpoint_failed_again` |
//! | `endpoints_changed` | info | `endpoints`, all that are used from now on |
//! | `endpoints_not_synced` | warn | `reason`; the endpoints could not be taken from the member list; once for each reason |
//! | `endpoints_not_synced_again` | debug | the same, each time after that |
//! | `endpoints_not_looked_up` | warn | `reason`; the endpoints could not be taken from DNS SRV records; once for each reason |
//! | `endpoints_not_looked_up_again` | debug | the same, each time after that |
//! | `endpoint_left_out` | warn | `reason`; URLs in the member list that are not used, all in one line; once for each change |
//! | `calls_connected` | debug | `endpoint` |
//! | `pings_too_frequent` | warn | `endpoint`, `interval` from now on; once |
//! | `pings_too_frequent_again` | debug | the same, when the server wants still fewer |
//! | `lease_lost` | warn | `lease`, `reason` |
//! | `token_fetched`, `token_not_needed` | debug | `endpoint`, `user` |
//! | `token_not_fetched` | debug | `endpoint`, `user`, `reason` |
//! | `credentials_changed` | info | `user`; the client was given other credentials |
//! | `token_refused` | warn | none; etcd refuses the auth token that the client was given; once, until it is given another |
//! | `password_in_plain_text` | warn | `endpoint`; once |
//! | `tls_files_unusable` | warn | `reason`; certificates that changed can't be used, the last ones stay; once for each reason |
//! | `tls_files_unusable_again` | debug | the same, at each connection after that |
//! | `tls_keys_written` | warn | `path`; secrets are written there, see `Tls::key_log_from_env`; once |
//! | `waker_panicked` | error | none; a waker of an executor panicked, its task may never run again |
//! | `mirror_listing` | debug | `range`, `revision`, `reason`; the keys of a mirror are listed |
//! | `no_range_stream` | debug | `endpoint`, `reason`; the member has no `KV.RangeStream` (etcd before 3.7, or a proxy), so lists are read by pages |
//!
//! Caches, configurations, locks and discovery have events of their own; [`cache`], [`config`], [`concurrency`] and
//! `discovery` list them.
//!
//! # Spans
//!
//! With [`ClientBuilder::trace_calls`] each call has a span `etcd_watch.call` (info), whatever number of attempts it takes. Its
//! fields are the attributes of OpenTelemetry's conventions for clients of gRPC (semantic conventions 1.45.0, the first in
//! which those for RPC are stable) and, for `tracing-opentelemetry`, what it reads name, kind and status from:
//!
//! | field | value |
//! |---|---|
//! | `otel.name`, `rpc.method` | `etcdserverpb.KV/Range` and its like |
//! | `otel.kind`, `rpc.system.name` | `client`, `grpc` |
//! | `rpc.status_code` | the server's status, such as `OK`, or what stands for it where no answer came |
//! | `error.type`, `otel.status_code` | unless it went well: the server's status, or a word such as `timeout`; and `ERROR` |
//! | `server.address`, `server.port` | the endpoint of the last attempt, if one was reached |
//! | `etcd_watch.attempts` | how many attempts were made |
//!
//! Keys, values, names of users, passwords and tokens are in none of them. Which calls there are, and the words of
//! `error.type`, are in `docs/metrics.md`.
//!
//! # Statistics and metrics
//!
//! [`Client::stats`] counts for the client, [`Client::watch_stats`] and [`Watch::stats`] for each watch: where
//! it is, what waits for its consumer, how many revisions that lags. With the feature `metrics` the client
//! exports `etcd_watch_events_total` and its like once a second by the `metrics` facade, and measures calls, leases,
//! locks and caches as they go, with the label `client` (`ClientBuilder::name`); install the recorder before you build
//! the client. `docs/metrics.md` lists all metrics, and has a dashboard and alert rules beside it.

pub mod admin;
mod attempt_error;
mod auth;
mod builder;
mod calls;
mod client;
mod cluster;
mod endpoint;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
#[cfg(feature = "metrics")]
mod metrics;
mod mirror;
mod namespace;
mod pages;
mod recipes;
mod runtime;
#[cfg(feature = "dns-srv")]
mod srv;
mod start;
mod sync;
#[cfg(test)]
mod testing;
pub mod toolkit;
mod transport;
mod upkeep;
mod watch;

pub use attempt_error::AttemptError;
pub use auth::Credentials;
pub use builder::ClientBuilder;
pub use calls::{
    answers::{DeleteResponse, GetResponse, PutResponse, TxnResponse, TxnResult},
    compare::{Compare, CompareNumber, CompareValue},
    conditional::{Conditional, Conflict},
    keeper::{LeaseKeeper, LeaseLost},
    kv::{Compact, Delete, Get, Put, SortBy, SortOrder},
    lease::{Lease, LeaseGrant, LeaseStatus, LeaseTimeToLive},
    options::{CallOptions, CallOptionsError},
    txn::{Txn, TxnOp},
};
pub use client::Client;
pub use cluster::advertised::Advertised;
pub use endpoint::{Address, Endpoint, EndpointError, Scheme};
pub use error::{BoxError, BuildError, CallError, EndpointFailure, OpenError, StartError};
pub use health::{Health, Monitor, NeverReady, Verdict};
pub use mirror::Mirror;
pub use namespace::EmptyNamespace;
pub use pages::{GetAll, Pages, PagesError};
#[cfg(feature = "discovery")]
pub use recipes::discovery;
pub use recipes::{
    cache, concurrency, config,
    typed_mirror::{TypedMirror, TypedMirrorEvent, TypedUpdate},
};
pub use runtime::{BoxFuture, Io, NoRuntime, Peer, Runtime, socket};
#[cfg(feature = "dns-srv")]
pub use srv::{SrvError, SrvLookup};
#[cfg(feature = "tls")]
pub use transport::tls::{Tls, TlsError};
pub use transport::{
    options::Keepalive,
    proxy::{Proxy, ProxyError},
};
pub use upkeep::sync::SyncError;
#[cfg(etcd_watch_lock_times)]
#[doc(hidden)]
pub use watch::lock_times;
pub use watch::{
    error::{Recovery, WatchError},
    handle::Watch,
};

pub use etcd_watch_core::{
    ApiMisuse, Checkpoint, CloseReason, Code, ConfigError, Event, EventKind, Failure, Filters, Header,
    Instant, IntoBytes, KeyRange, KeyValue, ListProgress, ListReason, MirrorEvent, MirrorRequest, Overflow,
    OwnedEvent, OwnedKeyValue, Pairs, PairsIter, ParseCheckpointError, Refusal, RequestError, ResponseKind,
    ServerMisbehaved, ServerVersion, SnapshotPart, StartAt, Stats, StreamOptions, WatchConfig, WatchKey,
    WatchRequest, WatchResponse, WatchState, WatchStats,
};
pub use etcd_watch_proto as proto;
