//! From an endpoint to an HTTP/2 connection, and what gRPC says on it.

mod addresses;
mod alert;
pub(crate) mod answer;
pub(crate) mod causes;
pub(crate) mod connection;
pub(crate) mod connector;
pub(crate) mod custom;
pub(crate) mod error;
pub(crate) mod exchange;
mod frames;
mod heard;
mod hyper_runtime;
pub(crate) mod messages;
pub(crate) mod options;
mod pings;
pub(crate) mod proxy;
pub(crate) mod race;
pub(crate) mod raw;
mod recorded;
pub(crate) mod rpc;
pub(crate) mod snapshot;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wire;
