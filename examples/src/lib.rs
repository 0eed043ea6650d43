//! Programs of at most 25 lines of code, one for each thing that etcd-watch is used for.
//!
//! | program | what it shows |
//! |---|---|
//! | `checkpoint`, `checkpoint-smol` | a watch that goes on after a restart of the program, by a checkpoint in a file |
//! | `cached-lookup`, `cached-lookup-smol` | look-ups in a local copy of the keys |
//! | `leader-only` | a worker that works only while it is the leader |
//! | `transfer` | transactions that are code (`Stm`), in tasks that conflict |
//! | `config-reload` | settings that follow etcd |
//! | `readiness` | a service whose `/ready` tells whether its copy of the keys is new enough |
//! | `discovery-channel` | a tonic channel that follows the endpoints of a service |
//! | `sqlite-replica` (a crate of its own) | a copy of the keys in SQLite, with its checkpoint in the same transaction |
//! | `prometheus` (a crate of its own, without a demonstration) | metrics, served to Prometheus |
//!
//! `cargo run -p etcd-watch-examples --bin checkpoint` needs no etcd: it starts a demonstration with an embedded one, and
//! ends after a few seconds. With an endpoint as its first argument the program alone runs, until Ctrl-C.
//!
//! This library is the demonstration; nothing in it is needed to use etcd-watch.

mod demo;
mod steps;

pub use demo::{endpoint, file};

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
mod readme {}
