//! Every way to a member: proxies, connectors of the application's own, IPv6, unix sockets beside TLS, users by
//! certificate, versions of TLS, names of servers.
//!
//! | file | owns |
//! |---|---|
//! | `proxy` | HTTP proxies: tunnels, refusals, exceptions |
//! | `connector` | connectors that the application gives |
//! | `turmoil` | a simulated network, by way of a connector |
//! | `ipv6` | IPv6 addresses, and their zones |
//! | `certificate_users` | users that are known by the common name of their certificate |
//! | `tls` | TLS 1.3 only, and the name that a server is asked for |
//! | `unix` | unix sockets beside endpoints with TLS |

#![cfg(unix)]

mod certificate_users;
mod connector;
mod ipv6;
#[path = "../endpoints/log.rs"]
mod log;
mod proxy;
#[path = "../conformance/runtime.rs"]
mod runtime;
mod tls;
mod turmoil;
mod unix;

use std::time::Duration;

use etcd_watch_client::{Client, KeyRange, WatchRequest};
use etcd_watch_testkit::harness::EtcdVersion;
use tokio::time::timeout;

/// For any one thing that a test waits for: much longer than it takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A time limit of the client's that must not have to run out.
const LIMIT: Duration = Duration::from_secs(60);

/// A test of each for every runtime.
macro_rules! on_every_runtime {
    ($($name:ident)*) => {
        mod tokio_runtime {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::runtime::On::Tokio).await;
            })*
        }
        mod smol_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::runtime::On::Smol).await;
            })*
        }
        mod async_std_runtime {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::runtime::On::AsyncStd).await;
            })*
        }
    };
}
pub(crate) use on_every_runtime;

fn versions() -> Vec<EtcdVersion> {
    EtcdVersion::under_test().expect("the servers are on this machine")
}

/// Puts a key, and once more after each `disturb`; a watch from the first of these on receives each put once, in order.
async fn nothing_is_lost(client: &Client, rounds: usize, disturb: impl Fn()) {
    let put = async |round: usize| {
        let put = timeout(DEADLINE, client.put("ways", round.to_string())).await.expect("in time");
        put.expect("it is put").revision()
    };
    let mut written = vec![put(0).await];
    let request = WatchRequest::new(KeyRange::key("ways")).start_revision(written[0]);
    let mut watch = client.watch(request).expect("it is opened");
    let mut received = Vec::new();
    for round in 0..=rounds {
        while received.last() < written.last() {
            let next = timeout(DEADLINE, watch.next()).await.expect("it comes in time");
            let next = next.expect("it goes on").expect("it does not end");
            received.extend(next.events().map(|event| event.mod_revision()));
        }
        assert_eq!(received, written, "round {round}");
        if round < rounds {
            disturb();
            // A call finds out that its connection has broken; a read is made again.
            client.get("ways").await.expect("it is read");
            written.push(put(round + 1).await);
        }
    }
}
