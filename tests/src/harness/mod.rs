//! Real etcd servers, started and driven by tests.
//!
//! [`EtcdServer`] starts a server of a wanted version on ports and a data directory of its own, waits until it
//! really serves, and can then stop, kill, freeze and restart it, or let its store go back to a snapshot.
//! [`EtcdCluster`] does so with several that are one cluster, and cuts them off from each other. [`ServerTls`] and
//! [`Auth`] say who is let in, and who may do what. [`Etcdctl`] runs the command-line client that came with a server,
//! against any endpoint; [`Go`] runs etcd's own client, with which ours has to get on. Which servers are on this
//! machine, and how to get the missing ones, is [`binaries`]; tests never download, `cargo xtask etcd` and
//! `cargo xtask go` do.
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
//! | `builder` | what a server is to be like |
//! | `tls`, `tokens` | its certificates, and the key that signs its tokens |
//! | `ports` | ports nobody else is on |
//! | `process` | the child process: signals, its end, its log |
//! | `server` | a server, running or not |
//! | `start` | a start under way, and when it is over |
//! | `cluster` | several servers that are one cluster, and the network between them |
//! | `auth` | users, roles and permissions |
//! | `flush`, `snapshot` | what a restart finds, and stores that go back |
//! | `http` | requests to a server's `/health`, `/metrics` and `/members` |
//! | `metrics` | what a server counts |
//! | `etcdctl` | the command-line client |
//! | `go` | etcd's own client, in Go, as a program |
//! | `grpc_proxy` | etcd's own proxy, in front of a server |
//! | `wait` | waiting for a condition, with a deadline |

mod auth;
mod builder;
mod cluster;
mod error;
mod etcdctl;
mod flush;
mod go;
mod grpc_proxy;
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
pub use go::{Go, GoProcess};
pub use grpc_proxy::GrpcProxy;
pub use server::EtcdServer;
pub use snapshot::RestoreAs;
pub use tls::ServerTls;
pub use version::EtcdVersion;
pub use wait::{wait_until, wait_until_blocking};
