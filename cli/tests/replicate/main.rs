//! `etcd-watch mirror --to`, from a real etcd 3.5.30 to a real 3.4.23.
//!
//! | file | what is tested |
//! |---|---|
//! | `copies` | what is at the destination afterwards |
//! | `writers` | copies that are interrupted, replaced and refused |
//! | `opposite` | mirrors in both directions |
//! | `settings` | users, certificates and the terminal |

#![cfg(unix)]
#![allow(clippy::print_stdout, reason = "a test says what it has seen")]

#[path = "../common/mod.rs"]
mod common;
mod copies;
mod opposite;
mod settings;
mod world;
mod writers;
