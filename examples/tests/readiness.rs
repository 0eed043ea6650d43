//! The service of `readiness` beside a real cluster that is frozen, parted and restored: what it says of itself.

#![allow(clippy::print_stdout, reason = "how long each step took is worth knowing")]

mod common;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use common::Program;
use etcd_watch_testkit::harness::{EtcdCluster, EtcdVersion, RestoreAs};
use etcd_watch_tokio::Client;

const READINESS: &str = env!("CARGO_BIN_EXE_readiness");

/// What the program takes for too old, and for how long it waits for something newer.
const LIMIT: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_millis(500);

/// How much longer than on an idle machine something may take before that is a failure.
const SLACK: Duration = Duration::from_secs(3);

/// For what has no limit of its own.
const DEADLINE: Duration = Duration::from_secs(90);

/// The service.
struct Service {
    address: SocketAddr,
    _program: Program,
}

impl Service {
    async fn start(endpoints: &[String]) -> Self {
        let mut program = Program::start(READINESS, &endpoints.join(","), "".as_ref());
        let address = program.next_line().await;
        let address = address.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/ready"));
        let address = address.expect("it tells its address").parse().expect("an address");
        Self { address, _program: program }
    }

    /// Whether it is ready, and what it says.
    async fn probe(&self) -> (bool, String) {
        let address = self.address;
        let answer = tokio::task::spawn_blocking(move || get(address)).await.expect("it runs");
        let answer = answer.expect("it answers");
        let is_ready = answer.starts_with("HTTP/1.0 200 ");
        assert!(is_ready || answer.starts_with("HTTP/1.0 503 "), "{answer}");
        (is_ready, answer)
    }

    /// Waits until it is ready, or isn't; how long that took.
    async fn until(&self, what: &str, is_ready: bool) -> Duration {
        let began = Instant::now();
        loop {
            let (is, answer) = self.probe().await;
            if is == is_ready {
                println!("  {what}: after {:.1} s: {answer:?}", began.elapsed().as_secs_f64());
                return began.elapsed();
            }
            assert!(began.elapsed() < DEADLINE, "{what}: {answer}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn get(address: SocketAddr) -> io::Result<String> {
    let mut socket = TcpStream::connect(address)?;
    socket.write_all(b"GET /ready HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    Ok(answer)
}

async fn cluster() -> (EtcdCluster, Client) {
    let cluster = EtcdCluster::builder(EtcdVersion::V3_6).start_async().await.expect("it starts");
    let client = etcd_watch_tokio::builder().endpoints(cluster.endpoints()).connect_lazy().expect("valid");
    client.put("users/ann", "admin").await.expect("it is put");
    (cluster, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_not_ready_while_its_cluster_is_frozen() {
    let (cluster, client) = cluster().await;
    let service = Service::start(&cluster.endpoints()).await;
    service.until("started", true).await;
    for _ in 0..2 {
        cluster.members().for_each(|member| member.pause().expect("it is frozen"));
        let took = service.until("frozen", false).await;
        assert!(took < LIMIT + PATIENCE + SLACK, "{took:?}");
        for _ in 0..5 {
            assert!(!service.probe().await.0, "it stays so");
        }
        cluster.members().for_each(|member| member.resume().expect("it goes on"));
        service.until("thawed", true).await;
        client.put("users/ben", "guest").await.expect("it is put");
    }
    // What is ready has what was written: not at once, but within the limit.
    tokio::time::sleep(LIMIT).await;
    let (is_ready, answer) = service.probe().await;
    assert!(is_ready && answer.contains("2 users at revision 4"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_not_ready_while_its_members_have_no_majority() {
    let (cluster, _client) = cluster().await;
    let leader = cluster.wait_for_leader().await.expect("there is a leader");
    let of_all = Service::start(&cluster.endpoints()).await;
    let of_one = Service::start(&[cluster.member(leader).endpoint()]).await;
    of_all.until("all members", true).await;
    of_one.until("one member", true).await;
    cluster.partition(&[leader]);
    let took = of_one.until("parted", false).await;
    assert!(took < LIMIT + PATIENCE + SLACK, "{took:?}");
    // The others have elected a leader, and whoever knows them goes on.
    let others = cluster.all_but(leader);
    cluster.wait_for_leader_among(&others).await.expect("they have a leader");
    of_all.until("parted from one of three", true).await;
    assert!(!of_one.probe().await.0, "it stays so");
    cluster.heal();
    of_one.until("healed", true).await;
    of_all.until("healed", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_ready_again_once_it_has_listed_a_restored_store() {
    let (mut cluster, client) = cluster().await;
    let directory = tempfile::tempdir().expect("a directory");
    let snapshot = directory.path().join("snapshot.db");
    cluster.member(0).snapshot(&snapshot).await.expect("the store is saved");
    for name in ["users/ben", "users/cleo"] {
        client.put(name, "guest").await.expect("it is put");
    }
    let service = Service::start(&cluster.endpoints()).await;
    service.until("started", true).await;
    let (_, answer) = service.probe().await;
    assert!(answer.contains("3 users at revision 4"), "{answer}");
    cluster.restore(&snapshot, RestoreAs::SameCluster).await.expect("it starts again");
    // The service may not have been asked while the members were down, and takes what it knows for new enough.
    tokio::time::sleep(LIMIT).await;
    let (is_ready, answer) = service.probe().await;
    assert!(!is_ready || answer.contains("1 users at revision 2"), "a state of the lost store: {answer}");
    service.until("restored", true).await;
    let (_, answer) = service.probe().await;
    assert!(answer.contains("1 users at revision 2"), "{answer}");
}
