//! A member without a vote.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
    time::Instant,
};

use etcd_watch_testkit::harness::{EtcdCluster, Etcdctl};
use tempfile::TempDir;

use crate::world::DEADLINE;

/// A fourth member of a cluster, that has no vote. It ends when it is dropped, before its data is removed.
pub(crate) struct Learner {
    process: Child,
    /// Where clients would reach it.
    pub(crate) endpoint: String,
    _directory: TempDir,
}

impl Learner {
    /// Adds it, starts it, and waits until the others know where clients reach it.
    pub(crate) async fn start(cluster: &EtcdCluster) -> Self {
        let etcdctl = cluster.etcdctl().expect("it has an etcdctl");
        // Both at once, so that they differ.
        let listeners =
            [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"));
        let [peer, endpoint] = listeners
            .each_ref()
            .map(|listener| format!("http://{}", listener.local_addr().expect("it has an address")));
        let initial_cluster = add(&etcdctl, &peer).await;
        let directory = tempfile::tempdir().expect("a directory can be made");
        drop(listeners);
        let process = Command::new(&cluster.member(0).binary().server)
            .arg("--name=learner")
            .arg(format!("--data-dir={}", directory.path().display()))
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"))
            .arg(format!("--listen-client-urls={endpoint}"))
            .arg(format!("--advertise-client-urls={endpoint}"))
            .arg(format!("--initial-cluster={initial_cluster}"))
            .arg("--initial-cluster-state=existing")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the learner starts");
        let mut learner = Self { process, endpoint, _directory: directory };
        let end = Instant::now() + DEADLINE;
        loop {
            let members = etcdctl.run(["member", "list"]).await.expect("the members are listed");
            if members.contains(&learner.endpoint) {
                return learner;
            }
            let ended = learner.process.try_wait().expect("it is a child");
            assert!(ended.is_none() && Instant::now() < end, "{ended:?}, among {members}");
        }
    }
}

/// Makes it a member; all members, as it has to be told of them.
async fn add(etcdctl: &Etcdctl, peer: &str) -> String {
    let url = format!("--peer-urls={peer}");
    let end = Instant::now() + DEADLINE;
    // A cluster doesn't take members before all of it has been well for 5 s.
    let added = loop {
        match etcdctl.run(["member", "add", "learner", "--learner", &url]).await {
            Ok(added) => break added,
            Err(error) if error.to_string().contains("unhealthy cluster") => assert!(Instant::now() < end),
            Err(error) => panic!("the learner is not added: {error}"),
        }
    };
    let initial = added.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER="));
    initial.expect("it says how to start it").trim_matches('"').to_owned()
}

impl Drop for Learner {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
