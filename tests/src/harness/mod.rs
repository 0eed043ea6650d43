//! Real etcd servers, started and driven by tests.
//!
//! [`EtcdServer`] starts a server of a wanted version on ports and a data directory of its own, waits until it
//! really serves, and can then stop, kill, freeze and restart it. [`Etcdctl`] runs the command-line client that
//! came with it, against any endpoint. Which servers are on this machine, and how to get the missing ones, is
//! [`binaries`]; tests never download, `cargo xtask etcd` does.
//!
//! ```no_run
//! # fn main() -> Result<(), etcd_watch_testkit::harness::HarnessError> {
//! use etcd_watch_testkit::harness::{EtcdServer, EtcdVersion};
//!
//! let mut server = EtcdServer::builder(EtcdVersion::V3_5).max_request_bytes(64 * 1024).start()?;
//! println!("serving at {}", server.endpoint());
//! server.kill();
//! server.restart()?; // the same ports, the same data
//! # Ok(())
//! # }
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `version` | which server a test asks for |
//! | `ports` | ports nobody else is on |
//! | `process` | the child process: signals, its end, its log |
//! | `server` | a member's configuration, and when it is ready |
//! | `http` | requests to its `/health`, `/metrics` and `/members` |
//! | `etcdctl` | the command-line client |
//! | `wait` | waiting for a condition, with a deadline |

mod error;
mod etcdctl;
mod http;
mod ports;
mod process;
mod server;
mod version;
mod wait;

pub use error::HarnessError;
pub use etcd_watch_binaries as binaries;
pub use etcdctl::{Etcdctl, EtcdctlOutput, EtcdctlProcess};
pub use server::{EtcdServer, EtcdServerBuilder};
pub use version::EtcdVersion;
pub use wait::{wait_until, wait_until_blocking};
