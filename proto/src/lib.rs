//! etcd's wire messages and gRPC stubs.
//!
//! The `.proto` files under `proto/` describe the part of etcd's API this project speaks, with the
//! names and numbers that are on the wire (up to etcd 3.7) and comments of its own. The Rust code is
//! generated from them ahead of time by `cargo xtask codegen` and checked in, so that nobody who
//! builds this crate needs `protoc`.
//!
//! - [`mvccpb`]: keys and events.
//! - [`etcdserverpb`]: requests, responses and services.
//! - [`authpb`]: what the auth service shares with the server's storage.
//!
//! Byte fields are [`prost::bytes::Bytes`]: a decoded message shares the buffer it came in.
//!
//! # Features
//!
//! - `client` (default): the services' client halves, generic over the transport.
//! - `server`: their server halves.

#![allow(clippy::exhaustive_enums, reason = "the enums are generated, and as prost makes them")]

/// Keys and events, as stored and as delivered by watches.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}

/// What the auth service shares with the server's storage.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod authpb {
    include!("generated/authpb.rs");
}

/// Requests, responses and services.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, clippy::pedantic)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}

pub use prost;
