//! What operators do.

use crate::{
    Client,
    admin::{Auth, Cluster, Maintenance},
};

impl Client {
    /// Users and roles. Those of a client in a namespace are the same: they belong to the whole cluster.
    #[must_use]
    pub fn auth(&self) -> Auth {
        Auth::new(self.calls().clone())
    }

    /// Who is in the cluster.
    #[must_use]
    pub fn cluster(&self) -> Cluster {
        Cluster::new(self.calls().clone())
    }

    /// The care of members: how they are, alarms, snapshots, the leader.
    #[must_use]
    pub fn maintenance(&self) -> Maintenance {
        Maintenance::new(self.calls().clone())
    }
}
