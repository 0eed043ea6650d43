//! Real etcd servers, started and driven by tests.
//!
//! [`EtcdServer`] starts a server of a wanted version on ports and a data directory of its own, waits until it
//! really serves, and can then stop, kill, freeze and restart it. [`EtcdCluster`] does so with several that are one
//! cluster, and cuts them off from each other. [`Etcdctl`] runs the command-line client that
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
//! | `cluster` | several members, and the network between them |
//! | `version` | which server a test asks for |
//! | `ports` | ports nobody else is on |
//! | `process` | the child process: signals, its end, its log |
//! | `builder` | what a member is to be like |
//! | `tls`, `tokens` | its certificates, and the key that signs its tokens |
//! | `server` | a member, running or not |
//! | `start` | a start under way, and when it is over |
//! | `auth` | its users, roles and permissions |
//! | `metrics` | what it counts |
//! | `flush` | what a restart finds on disk |
//! | `snapshot` | stores that go back |
//! | `http` | requests to its `/health`, `/metrics` and `/members` |
//! | `etcdctl` | the command-line client |
//! | `wait` | waiting for a condition, with a deadline |

mod auth;
mod builder;
mod cluster;
mod error;
mod etcdctl;
mod flush;
mod http;
mod metrics;
mod ports;
mod process;
mod server;
mod snapshot;
mod start;
mod tls;
mod tokens;
mod version;
mod wait;

pub use auth::{Access, Auth, Keys};
pub use builder::EtcdServerBuilder;
pub use cluster::{EtcdCluster, EtcdClusterBuilder};
pub use error::HarnessError;
pub use etcd_watch_binaries as binaries;
pub use etcdctl::{Etcdctl, EtcdctlOutput, EtcdctlProcess};
pub use server::EtcdServer;
pub use snapshot::RestoreAs;
pub use tls::ServerTls;
pub use version::EtcdVersion;
pub use wait::{wait_until, wait_until_blocking};
