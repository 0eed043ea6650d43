//! How long the loops wait for the network. The machine's own timeouts are in its `WatchConfig`.

use std::time::Duration;

/// How long a connection may take.
pub const CONNECT: Duration = Duration::from_secs(5);
/// How long the member may take to tell its version; without it, less of what it says is believed.
pub const VERSION: Duration = Duration::from_secs(2);
/// How long a read may take.
pub const READ: Duration = Duration::from_secs(10);
/// How often a stream's connection is pinged: etcd closes those that ping more often than every 5 s.
pub const PING_EVERY: Duration = Duration::from_secs(10);
/// How long the answer may take.
pub const PONG: Duration = Duration::from_secs(5);
