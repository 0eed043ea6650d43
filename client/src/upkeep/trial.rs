//! Asks one endpoint for the member list: to see whether a member of the cluster answers there, or because the
//! endpoints in use don't tell.

use std::{collections::HashSet, sync::Arc, time::Duration};

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb as pb;
use futures_util::{StreamExt, stream::FuturesUnordered};

use crate::{
    Endpoint,
    calls::{
        attempts::{Calls, no_answer},
        judge::members_fault,
    },
    cluster::member_list::LeftOut,
    runtime::timeout,
    transport::{
        connection::Connection,
        rpc::{self, Unary},
        wire,
    },
};

/// How long a member may take to tell how it is, or who its fellows are.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn member_list() -> pb::MemberListRequest {
    pb::MemberListRequest { linearizable: true }
}

/// The cluster that the members of a list are of; 0 if the server doesn't say.
pub(super) fn cluster_of(list: &pb::MemberListResponse) -> u64 {
    list.header.as_ref().map_or(0, |header| header.cluster_id)
}

/// Which of the endpoints a member of the cluster answers at. All are asked at once, for the member list: a member that
/// has a leader can answer that, and it is what the user of this client was allowed to ask a moment ago.
pub(super) async fn try_all(
    calls: &Calls,
    endpoints: Vec<Arc<Endpoint>>,
    cluster: u64,
    left_out: &mut LeftOut,
) -> HashSet<Arc<Endpoint>> {
    let mut answered = HashSet::new();
    let mut trials: FuturesUnordered<_> =
        endpoints.into_iter().map(|endpoint| try_one(calls, endpoint, cluster)).collect();
    let mut silent = Vec::new();
    while let Some((endpoint, result)) = trials.next().await {
        match result {
            Ok(()) => {
                calls.pool.dialer.endpoints.answered(&endpoint);
                answered.insert(endpoint);
            }
            Err(why) => silent.push((endpoint.to_string(), endpoint, why)),
        }
    }
    // They come in any order, and the log is to say the same if nothing has changed.
    silent.sort_by(|(one, ..), (other, ..)| one.cmp(other));
    for (_, endpoint, why) in &silent {
        left_out.add_silent(endpoint, why);
    }
    answered
}

async fn try_one(
    calls: &Calls,
    endpoint: Arc<Endpoint>,
    cluster: u64,
) -> (Arc<Endpoint>, Result<(), Failure>) {
    let result = match members_at(calls, &endpoint).await {
        Ok(list) if cluster_of(&list) == cluster => Ok(()),
        Ok(list) => {
            let other = cluster_of(&list);
            Err(Failure::connection(format!("it is of cluster {other:x}, not of {cluster:x}")))
        }
        Err(failure) => Err(failure),
    };
    (endpoint, result)
}

/// Asks the members at the endpoints for the member list, all at once; the first answer.
pub(super) async fn first_list(calls: &Calls, endpoints: &[Arc<Endpoint>]) -> Option<pb::MemberListResponse> {
    let mut asked: FuturesUnordered<_> =
        endpoints.iter().map(|endpoint| members_at(calls, endpoint)).collect();
    while let Some(answer) = asked.next().await {
        if let Ok(list) = answer {
            return Some(list);
        }
    }
    None
}

async fn members_at(calls: &Calls, endpoint: &Arc<Endpoint>) -> Result<pb::MemberListResponse, Failure> {
    in_time(calls, Box::pin(ask(calls, endpoint))).await
}

/// What is asked for, if it comes within a probe's time.
pub(super) async fn in_time<T>(
    calls: &Calls,
    asked: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(calls.runtime(), PROBE_TIMEOUT, asked).await.unwrap_or_else(|| Err(no_answer(PROBE_TIMEOUT)))
}

/// The token stays here until the member says that it wants one: most don't, and this may be no member at all.
async fn ask(calls: &Calls, endpoint: &Arc<Endpoint>) -> Result<pb::MemberListResponse, Failure> {
    let dialer = &calls.pool.dialer;
    let connection = dialer.dial(endpoint).await?;
    match ask_on(calls, endpoint, connection.clone(), member_list(), false).await {
        Err(refusal) if dialer.auth.has_credentials() && !members_fault(&refusal) => {
            ask_on(calls, endpoint, connection, member_list(), true).await
        }
        answer => answer,
    }
}

/// Asks once, at this member and nobody else, and changes nothing in the list of endpoints.
pub(super) async fn ask_on<Q: Unary>(
    calls: &Calls,
    endpoint: &Endpoint,
    connection: Connection,
    request: Q,
    with_token: bool,
) -> Result<Q::Response, Failure> {
    let dialer = &calls.pool.dialer;
    let mut metadata = wire::metadata(request.needs_leader());
    if with_token {
        let auth = dialer.auth_at(endpoint);
        if let Some(token) = auth.token(&**dialer.runtime(), &connection, endpoint).await? {
            token.attach(&mut metadata);
        }
    }
    let answer = rpc::unary(connection, endpoint, request, metadata, dialer.max_message_bytes);
    answer.await.map_err(rpc::CallFailure::into_failure)
}
