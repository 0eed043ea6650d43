//! Which members the client uses: the list of endpoints, and which of them the watch streams are on.

use std::{pin::pin, sync::Arc, time::Duration};

use etcd_watch_core::Failure;
use etcd_watch_proto::etcdserverpb as pb;
use futures_util::{
    StreamExt,
    future::{join, select},
    stream::FuturesUnordered,
};

use crate::{
    BuildError, CallError, Client, Endpoint, EndpointError,
    calls::{attempts::Calls, judge::members_fault},
    cluster::endpoint::Accepted,
    cluster::endpoints::EndpointId,
    runtime::timeout,
    transport::{rpc, wire},
    watch::hub::Hub,
};

/// How long a member may take to tell how it is.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

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
}

impl Client {
    /// The endpoints in use, best first.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.calls().pool.dialer.endpoints.all().iter().map(|endpoint| Endpoint::clone(endpoint)).collect()
    }

    /// Uses these endpoints from now on. Streams on others move, and their watches resume at exactly the
    /// next revision.
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
        use_endpoints(self.calls(), self.hub(), parsed);
        Ok(())
    }

    /// Reads the member list from the cluster and uses the members' client URLs from now on, learners left
    /// out. Returns the endpoints in use.
    ///
    /// The URLs are what the members advertise: make sure that they can be reached from here before you
    /// use this.
    ///
    /// # Errors
    /// When the list can't be read, or has no URL that this client can use. Nothing has changed then.
    pub async fn sync_endpoints(&self) -> Result<Vec<Endpoint>, SyncError> {
        sync(self.calls(), self.hub()).await?;
        Ok(self.endpoints())
    }

    /// Spreads the watch streams evenly over the members that serve: for when they have all ended up on
    /// one, after others were restarted. Every endpoint is asked how it is first. Streams that move are
    /// opened anew elsewhere, and their watches resume at exactly the next revision.
    ///
    /// What is spread are streams: [`Config::streams`](etcd_watch_core::Config::streams) says over how many
    /// of them watches are.
    pub async fn spread_watches(&self) {
        spread(self.calls(), self.hub()).await;
    }
}

fn use_endpoints(calls: &Calls, hub: &Hub, endpoints: Vec<Endpoint>) {
    let list = &calls.pool.dialer.endpoints;
    if list.replace(endpoints) {
        let names: Vec<String> = list.all().iter().map(ToString::to_string).collect();
        tracing::info!(name: "endpoints_changed", endpoints = %names.join(","), "using other etcd endpoints");
        hub.spread();
    }
}

async fn sync(calls: &Calls, hub: &Hub) -> Result<(), SyncError> {
    let members = calls.call(pb::MemberListRequest { linearizable: true }).await?.members;
    let urls = members.into_iter().filter(|member| !member.is_learner).flat_map(|member| member.client_urls);
    let (endpoints, refused) = usable(&calls.pool.dialer.accepted, urls);
    if endpoints.is_empty() {
        return Err(refused.map_or(SyncError::NoneAdvertised, |last| SyncError::NoneUsable { last }));
    }
    use_endpoints(calls, hub, endpoints);
    Ok(())
}

fn usable(
    accepted: &Accepted,
    urls: impl IntoIterator<Item = String>,
) -> (Vec<Endpoint>, Option<EndpointError>) {
    let (mut endpoints, mut refused) = (Vec::new(), None);
    for url in urls {
        match accepted.parse(&url) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => {
                tracing::warn!(name: "endpoint_left_out", reason = %error, "a member's client URL is left out");
                refused = Some(error);
            }
        }
    }
    (endpoints, refused)
}

async fn spread(calls: &Calls, hub: &Hub) {
    let mut probes: FuturesUnordered<_> =
        calls.pool.dialer.endpoints.list().into_iter().map(|id| probe_in_time(calls, id)).collect();
    while probes.next().await.is_some() {}
    hub.spread();
}

async fn probe_in_time(calls: &Calls, id: EndpointId) {
    let dialer = &calls.pool.dialer;
    let silent = || Err(Failure::connection(format!("no answer within {PROBE_TIMEOUT:?}")));
    match timeout(dialer.runtime(), PROBE_TIMEOUT, probe(calls, id)).await.unwrap_or_else(silent) {
        Ok(()) => dialer.endpoints.answered(id),
        Err(failure) => dialer.endpoints.failed(id, dialer.runtime().now(), &failure),
    }
}

/// Whether the member serves: it answers, and knows a leader.
async fn probe(calls: &Calls, id: EndpointId) -> Result<(), Failure> {
    match status(calls, id).await {
        Ok(status) if status.leader == 0 => Err(Failure::connection("the member knows no leader")),
        Err(failure) if members_fault(&failure) => Err(failure),
        // A refusal (of a user who may not ask) is an answer, too.
        Ok(_) | Err(_) => Ok(()),
    }
}

async fn status(calls: &Calls, id: EndpointId) -> Result<pb::StatusResponse, Failure> {
    let dialer = &calls.pool.dialer;
    let transport = dialer.dial(id).await?;
    let endpoint = dialer.endpoints.get(id);
    let mut metadata = wire::metadata(false, [])?;
    if let Some(token) = dialer.token(&transport, &endpoint).await? {
        token.attach(&mut metadata);
    }
    let status = rpc::unary(transport, &endpoint, pb::StatusRequest {}, metadata, dialer.max_message_bytes);
    status.await.map_err(rpc::CallFailure::into_failure)
}

/// What is done over and over in the background.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) sync_every: Option<Duration>,
    pub(crate) spread_every: Option<Duration>,
}

impl Upkeep {
    pub(crate) fn is_wanted(&self) -> bool {
        self.sync_every.is_some() || self.spread_every.is_some()
    }

    /// Runs until the client has ended.
    pub(crate) async fn run(self, calls: Arc<Calls>, hub: Arc<Hub>) {
        let ended = hub.clone();
        let syncing = keep_synced(calls.clone(), hub.clone(), self.sync_every);
        let spreading = keep_spread(calls, hub, self.spread_every);
        let work = pin!(join(syncing, spreading));
        select(work, pin!(ended.ended())).await;
    }
}

async fn keep_synced(calls: Arc<Calls>, hub: Arc<Hub>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    loop {
        calls.runtime().sleep(interval).await;
        if let Err(error) = sync(&calls, &hub).await {
            tracing::warn!(name: "endpoints_not_synced", reason = %error, "the endpoints were not refreshed from the member list");
        }
    }
}

async fn keep_spread(calls: Arc<Calls>, hub: Arc<Hub>, interval: Option<Duration>) {
    let Some(interval) = interval else { return };
    loop {
        calls.runtime().sleep(interval).await;
        spread(&calls, &hub).await;
    }
}
