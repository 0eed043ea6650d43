//! Asks every endpoint how it is, so that the watch streams are spread over the members that serve.

use std::sync::Arc;

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb as pb;
use futures_util::{StreamExt, stream::FuturesUnordered};

use super::trial::{ask_on, in_time};
use crate::{
    Endpoint,
    calls::{attempts::Calls, judge::members_fault},
    watch::hub::Hub,
};

pub(crate) async fn spread(calls: &Calls, hub: &Hub) {
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
    match in_time(calls, probe(calls, &endpoint)).await {
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
    let connection = calls.pool.dialer.dial(endpoint).await?;
    ask_on(calls, endpoint, connection, pb::StatusRequest {}, true).await
}
