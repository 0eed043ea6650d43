//! Asks every endpoint how it is, so that the watch streams are spread over the members that serve.

use std::sync::Arc;

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb as pb;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::trial::PROBE_TIMEOUT;
use crate::{
    AttemptError, Endpoint,
    calls::{attempts::Calls, judge::members_fault},
    runtime::timeout,
    transport::{rpc, wire},
    watch::hub::Hub,
};

pub(super) async fn spread(calls: &Calls, hub: &Hub) {
    if calls.end().is_some() {
        return;
    }
    let endpoints = &calls.pool.dialer.endpoints;
    probe_all(calls, endpoints.tried()).await;
    if !endpoints.is_any_up() {
        // Those of last resort are among them now.
        probe_all(calls, endpoints.tried()).await;
    }
    hub.spread();
}

async fn probe_all(calls: &Calls, endpoints: Vec<Arc<Endpoint>>) {
    let mut probes: FuturesUnordered<_> =
        endpoints.into_iter().map(|endpoint| probe_in_time(calls, endpoint)).collect();
    while probes.next().await.is_some() {}
}

async fn probe_in_time(calls: &Calls, endpoint: Arc<Endpoint>) {
    let dialer = &calls.pool.dialer;
    let silent = || Err(Failure::connection(format!("no answer within {PROBE_TIMEOUT:?}")));
    match timeout(dialer.runtime(), PROBE_TIMEOUT, probe(calls, &endpoint)).await.unwrap_or_else(silent) {
        Ok(()) => dialer.endpoints.answered(&endpoint),
        // A client that has ended has no connections: that is no member's fault.
        Err(_) if calls.end().is_some() => {}
        Err(failure) => dialer.endpoints.failed(&endpoint, dialer.runtime().now(), &failure),
    }
}

/// Whether the member serves: it answers, and knows a leader.
async fn probe(calls: &Calls, endpoint: &Arc<Endpoint>) -> Result<(), Failure> {
    match status(calls, endpoint).await {
        Ok(status) if status.leader == 0 => Err(Failure::connection("the member knows no leader")),
        Err(failure) if members_fault(&failure) => Err(failure),
        // A refusal (of a user who may not ask) is an answer, too.
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn status(calls: &Calls, endpoint: &Arc<Endpoint>) -> Result<pb::StatusResponse, Failure> {
    let dialer = &calls.pool.dialer;
    let connection = dialer.dial(endpoint).await.map_err(AttemptError::into_failure)?;
    let mut metadata = wire::metadata(false, [])?;
    if let Some(token) = dialer.token(&connection, endpoint).await.map_err(AttemptError::into_failure)? {
        token.attach(&mut metadata);
    }
    let status = rpc::unary(connection, endpoint, pb::StatusRequest {}, metadata, dialer.max_message_bytes);
    status.await.map_err(rpc::CallFailure::into_failure)
}
