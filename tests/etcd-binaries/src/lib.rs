//! The real etcd servers that tests run against: which there are, where, and how to fetch the missing ones.
//!
//! There is to be a server of every release [`Line`] in [`Line::REQUIRED`], because they differ in what a client sees. For
//! each of them a server is looked for in this order, and the first one found is used:
//!
//! 1. `ETCD_BIN`, the path of an `etcd` executable, or several separated like `PATH`. A given server takes the
//!    place of its own line's, and never of another's. One of a line that isn't required (3.8, say) is tested in
//!    addition.
//! 2. Fetched and built servers, in `target/etcd/<version>/`, the newest of the line.
//! 3. An `etcd` on `PATH`, if it is of that line.
//!
//! What is missing then is an error that says what to do. [`Binaries::fetch`] provides it, without root; nothing is
//! installed. 3.4 and 3.5 are downloaded from Debian's archive (`apt-get`), and newer lines are built with Go from the
//! modules that `tests/go/etcd-<line>/go.mod` names. Tests never do that: `cargo xtask etcd` and `cargo xtask test` do.
//!
//! Most tests with a server of every kind are content with 3.5 and 3.7 ([`Line::ENDS`]) and whatever `ETCD_BIN`
//! names; with `ETCD_WATCH_SERVERS=all` they run on all.
//!
//! [`GoTools`] builds a program with etcd's own client, the one in Go, with which others have to get on.
//!
//! The `etcdctl` that goes with a server is the one beside it, or else the one on `PATH`.

#![allow(clippy::exhaustive_enums, reason = "only this project's tests and chores use them")]

mod debian;
mod error;
mod go;
mod go_client;
mod go_fetch;
mod go_servers;
mod locate;
mod pypi;
mod staging;
mod target_dir;
mod version;

pub use error::BinaryError;
pub use go_client::{GoClient, GoTools};
pub use locate::{Binaries, EtcdBinary, Origin};
pub use staging::Staging;
pub use target_dir::target_dir;
pub use version::{Line, Version};
