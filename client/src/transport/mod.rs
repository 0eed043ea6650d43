//! From an endpoint to an HTTP/2 connection, and what gRPC says on it.

pub(crate) mod connection;
pub(crate) mod dialer;
pub(crate) mod error;
mod happy_eyeballs;
pub(crate) mod options;
pub(crate) mod pool;
#[cfg(feature = "tls")]
pub(crate) mod tls;
pub(crate) mod wire;
