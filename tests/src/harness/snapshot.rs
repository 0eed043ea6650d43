//! Snapshots of a store, and stores that go back to one.

use std::{ffi::OsString, path::Path};

use super::{EtcdServer, Etcdctl, HarnessError, server::unique_name};

/// Whether a store that goes back to a snapshot keeps its identity.
///
/// etcd makes the ids of members, and of the cluster from those, out of the peer URLs and the cluster's token (names
/// have no part in it); a restore makes them anew from what it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreAs {
    /// With the same cluster id and member ids: only the revision tells that the store went back.
    SameCluster,
    /// With other ids, as if by an operator who heeds etcd's advice to change the token.
    AnotherCluster,
}

impl EtcdServer {
    /// Saves the store as it is to a file that must not exist.
    ///
    /// With authentication on that is for root only:
    /// `server.etcdctl()?.user("root", password).run(["snapshot", "save", path])`.
    ///
    /// # Errors
    /// If `etcdctl` can't.
    pub async fn snapshot(&self, path: &Path) -> Result<(), HarnessError> {
        let arguments = ["snapshot".into(), "save".into(), path.as_os_str().to_owned()];
        self.etcdctl()?.run(arguments).await.map(|_| ())
    }

    /// Kills it if it runs, throws its data away and starts it on the same ports with the store of a snapshot: the
    /// revision goes back to the snapshot's, and leases with it. Waits until it serves.
    ///
    /// All members of a cluster have to go back together:
    /// [`EtcdCluster::restore`](super::EtcdCluster::restore).
    ///
    /// # Errors
    /// If `etcdutl` (`etcdctl` before 3.6) can't read the snapshot, or the server doesn't start on it.
    pub async fn restore(&mut self, path: &Path, identity: RestoreAs) -> Result<(), HarnessError> {
        self.restore_data(path, identity.token(&self.token)).await?;
        self.restart_async().await
    }

    /// All of a restore but the start.
    pub(super) async fn restore_data(&mut self, path: &Path, token: String) -> Result<(), HarnessError> {
        self.kill();
        self.remove_data()?;
        let flag = |name: &str, value: &str| OsString::from(format!("--{name}={value}"));
        let arguments = [
            "snapshot".into(),
            "restore".into(),
            path.as_os_str().to_owned(),
            flag("name", &self.name),
            flag("data-dir", &self.data_directory().display().to_string()),
            flag("initial-advertise-peer-urls", &self.advertised_peer_url()),
            flag("initial-cluster", &self.initial_cluster()),
            flag("initial-cluster-token", &token),
        ];
        Etcdctl::restorer(self.binary())?.run(arguments).await?;
        self.token = token;
        Ok(())
    }
}

impl RestoreAs {
    pub(super) fn token(self, current: &str) -> String {
        match self {
            Self::SameCluster => current.to_owned(),
            Self::AnotherCluster => unique_name(),
        }
    }
}
