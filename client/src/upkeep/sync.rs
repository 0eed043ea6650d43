//! Takes the endpoints from the member list that the cluster has.

use etcd_watch_proto::etcdserverpb as pb;

use super::trial::{cluster_of, first_list, member_list, try_all};
use crate::{
    CallError, EndpointError,
    calls::attempts::Calls,
    cluster::{
        advertised::Policy,
        list::{Given, Synced},
        member_list::Listed,
    },
    watch::hub::Hub,
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

/// Takes the endpoints from the member list.
pub(crate) async fn sync(calls: &Calls, hub: &Hub) -> Result<(), SyncError> {
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
