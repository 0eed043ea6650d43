//! The client's recipes (`client/src/recipes`), compiled as another crate on top of the client.
//!
//! It has no code of its own. That it compiles proves that recipes use only the client's public API, so that they can
//! move to a crate of their own, and that anybody can write their like.

// The unit tests in these sources are the client's, and use its test code.
#![cfg(not(test))]
// They ask for the client's feature `fuzzing`, which is not to be had here.
#![allow(unexpected_cfgs)]
#![forbid(unsafe_code)]

// The recipes say `crate::` where another crate would say `etcd_watch_client::`. The modules below take the place of the
// client's own of these names.
pub use etcd_watch_client::*;

#[path = "../../../client/src/recipes/cache/mod.rs"]
pub mod cache;
#[path = "../../../client/src/recipes/concurrency/mod.rs"]
pub mod concurrency;
#[path = "../../../client/src/recipes/config/mod.rs"]
pub mod config;
#[path = "../../../client/src/recipes/discovery/mod.rs"]
pub mod discovery;
#[path = "../../../client/src/recipes/typed_mirror.rs"]
pub mod typed_mirror;
