//! What it takes to test against etcd: a model of it, and a server around the model.
//!
//! - [`model`]: an etcd member as a synchronous machine, in memory.

pub mod model;
