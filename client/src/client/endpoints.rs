//! The client's endpoints, and what it does with the member list.

use crate::{
    BuildError, Client, Endpoint, SyncError,
    upkeep::{spread::spread, sync::sync},
};

impl Client {
    /// The endpoints that are used, best first: those given, or those of the member list once it was read with success
    /// ([`sync_endpoints`](Self::sync_endpoints)). While none of the latter answers, those given are among them again.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.calls().pool.dialer.endpoints.tried().iter().map(|endpoint| Endpoint::clone(endpoint)).collect()
    }

    /// Uses these endpoints from now on, and no others. Streams on others move, and their watches resume at exactly the
    /// next revision. They take the place of those that the client was built with: they decide which addresses of the
    /// member list are accepted, see [`Advertised`](crate::Advertised), and are the last resort.
    ///
    /// # Errors
    /// An empty list, or an endpoint that can't be used: nothing has changed then.
    pub fn set_endpoints<E: Into<String>>(
        &self,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<(), BuildError> {
        let dialer = &self.calls().pool.dialer;
        let parsed = endpoints.into_iter().map(|text| dialer.accepted.parse(&text.into()));
        let parsed: Vec<Endpoint> = parsed.collect::<Result<_, _>>()?;
        if parsed.is_empty() {
            return Err(BuildError::NoEndpoints);
        }
        parsed.iter().try_for_each(|endpoint| dialer.connector.check(endpoint))?;
        if dialer.endpoints.give(parsed) {
            self.hub().spread();
        }
        Ok(())
    }

    /// Reads the member list from the cluster and uses the members' client URLs from now on, learners left
    /// out. Returns the endpoints in use.
    ///
    /// The URLs are what the members advertise. One is used if it is like the endpoints that were given (see
    /// [`Advertised`](crate::Advertised)), and once a member of the same cluster has answered there; until then those in
    /// use stay. Of a list the first 1,024 URLs are looked at, and 128 endpoints are used at most. What is left out is
    /// logged, in one line for each change.
    ///
    /// The endpoints that were given stay the last resort: they are tried while none of the others answers.
    ///
    /// # Errors
    /// When the list can't be read, or has no URL that this client can use, or nobody answers at any of them. Nothing
    /// has changed then.
    pub async fn sync_endpoints(&self) -> Result<Vec<Endpoint>, SyncError> {
        sync(self.calls(), self.hub()).await?;
        Ok(self.endpoints())
    }

    /// Spreads the watch streams evenly over the members that serve: for when they have all ended up on
    /// one, after others were restarted. Every endpoint in use is asked how it is first; those of last resort only if
    /// none of the others serves. Streams that move are opened anew elsewhere, and their watches resume at exactly the
    /// next revision.
    ///
    /// What is spread are streams: [`WatchConfig::streams`](etcd_watch_core::WatchConfig::streams) says over how many
    /// of them watches are.
    pub async fn spread_watches(&self) {
        spread(self.calls(), self.hub()).await;
    }
}
