//! What it takes to test against etcd: a model of it, and a server around the model.
//!
//! - [`model`]: an etcd member as a synchronous machine, in memory.
//! - [`server`]: a gRPC server around the model, in the process.

pub mod model;
pub mod server;
