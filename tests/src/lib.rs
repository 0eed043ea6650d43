//! What it takes to test against etcd: a model of it, real servers, and a network that fails on command.
//!
//! - [`certificates`]: certificate authorities, and certificates that are good or bad in a known way.
//! - [`checks`]: whether what a watch received is what it had to receive.
//! - [`connect_proxy`]: an HTTP proxy that makes tunnels.
//! - [`differences`]: what a client can see of a server's version.
//! - [`explore`]: every interleaving of a small world around the real machine.
//! - [`folding`]: a consumer of a mirror that holds what it has been handed.
//! - [`fuzz`]: what fuzzers run.
//! - [`harness`]: real etcd servers, found on this machine, started and driven.
//! - [`lawful`]: property tests for whatever consumes watches: random histories of what they may be handed.
//! - [`linearizable`]: whether calls, as clients saw them, are what one store can have answered.
//! - [`machines`]: the core's machines and whole clusters in virtual time, from one seed.
//! - [`model`]: an etcd member as a synchronous machine, in memory.
//! - [`proxy`]: a TCP proxy that cuts, delays, holds and swallows, on command.
//! - [`server`]: a gRPC server around the model, in the process.
//! - `sim` (a feature): a service with the whole client in it, and a hostile etcd, in virtual time, from one seed.

#![allow(clippy::exhaustive_enums, reason = "a test that misses a case must not compile")]

#[cfg(feature = "certificates")]
pub mod certificates;
pub mod checks;
pub mod connect_proxy;
pub mod differences;
#[cfg(feature = "machines")]
pub mod explore;
#[cfg(feature = "machines")]
pub mod folding;
#[cfg(feature = "machines")]
pub mod fuzz;
#[cfg(all(unix, feature = "harness"))]
pub mod harness;
#[cfg(feature = "lawful")]
pub mod lawful;
#[cfg(feature = "linearizable")]
pub mod linearizable;
#[cfg(feature = "machines")]
pub mod machines;
pub mod model;
pub mod proxy;
pub mod server;
#[cfg(any(feature = "machines", feature = "sim"))]
mod shrinking;
#[cfg(feature = "sim")]
pub mod sim;

#[cfg(all(doctest, feature = "sim"))]
#[doc = include_str!("../../docs/simulation.md")]
mod simulation {}
