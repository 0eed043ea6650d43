//! Which members the client uses: given by the application, or taken from the list that the cluster has.

use etcd_watch_proto::etcdserverpb as pb;

use super::{
    advertised::Policy,
    list::{Given, Synced},
    member_list::Listed,
    probe::spread,
    trial::{cluster_of, first_list, member_list, try_all},
};
use crate::{
    BuildError, CallError, Client, Endpoint, EndpointError, calls::attempts::Calls, watch::hub::Hub,
};

/// The member list could not be turned into endpoints. The endpoints stay what they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The member list could not be read.
    #[error(transparent)]
    Call(#[from] CallError),
    /// No member has an address this client can use.
    #[error("no member has a client URL that can be used; the last one: {last}")]
    NoneUsable {
        /// What is wrong with the last one, as far as there is one.
        last: EndpointError,
    },
    /// No member has told where clients reach it.
    #[error("no member says where clients reach it: set --advertise-client-urls on the members")]
    NoneAdvertised,
    /// The members' addresses can't be reached from here, or lead to another cluster.
    #[error(
        "no member answers at the client URLs of the member list: set --advertise-client-urls to addresses that clients reach"
    )]
    NoneAnswers,
}

impl SyncError {
    /// What differs if something else is wrong than the last time.
    pub(super) fn kind(&self) -> String {
        match self {
            // Its text has times in it.
            Self::Call(_) => "call".into(),
            error => error.to_string(),
        }
    }
}

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

/// Takes the endpoints from the member list.
pub(super) async fn sync(calls: &Calls, hub: &Hub) -> Result<(), SyncError> {
    let dialer = &calls.pool.dialer;
    let endpoints = &dialer.endpoints;
    let given = endpoints.given();
    let list = read(calls, &given).await?;
    let policy = Policy::new(dialer.accepted, dialer.advertised, &given.endpoints);
    let Listed { endpoints: listed, mut left_out, last } = Listed::read(&policy, &list.members);
    let any_was_up = endpoints.is_any_up();
    let answered = try_all(calls, endpoints.untried(&listed), cluster_of(&list), &mut left_out).await;
    left_out.log(endpoints.left_out());
    if listed.is_empty() {
        return Err(last.map_or(SyncError::NoneAdvertised, |last| SyncError::NoneUsable { last }));
    }
    match endpoints.sync(&given, &listed, &answered) {
        Synced::NoneUp => return Err(SyncError::NoneAnswers),
        Synced::Changed => hub.spread(),
        // Streams may be on those of last resort.
        Synced::Same if !any_was_up => hub.spread(),
        Synced::Same | Synced::Outdated => {}
    }
    Ok(())
}

/// The member list, from the endpoints in use; if they don't tell it, from those given. A password that was refused is
/// not sent to those, too.
async fn read(calls: &Calls, given: &Given) -> Result<pb::MemberListResponse, CallError> {
    match calls.call(member_list()).await {
        Err(error @ (CallError::AuthenticationFailed { .. } | CallError::Closed { .. })) => Err(error),
        Err(error) => first_list(calls, &given.endpoints).await.ok_or(error),
        Ok(list) => Ok(list),
    }
}
