//! A balanced tonic [`Channel`] that follows a service's endpoints.
//!
//! ```no_run
//! use etcd_watch_tokio::{balance, discovery::Discovery};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = etcd_watch_tokio::connect(["http://127.0.0.1:2379"]).await?;
//! let billing = Discovery::new(&client, "billing")?;
//! let (channel, handle) = balance::channel(&billing)?;
//! handle.until(|addresses| !addresses.is_empty()).await;
//! // ... BillingClient::new(channel) ...
//! # let _ = channel;
//! # Ok(())
//! # }
//! ```
//!
//! What the channel does with the endpoints is tonic's: it picks of two at random the one that is ready, and
//! connects when it is asked to. So calls wait for as long as there are no endpoints (give them a deadline),
//! and one that goes to an instance that has just died, and is still listed until its lease is over, fails
//! with `Unavailable`: try it again, and it most likely goes elsewhere.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use etcd_watch_client::{
    BoxError, NoRuntime,
    discovery::{Discovery, DiscoveryError, EndpointMap, EndpointWatch, ServiceEndpoint},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::AbortHandle,
};
use tonic::transport::{Channel, Endpoint, channel::Change};

/// Changes that wait at the channel, which takes them only when it is used. The rest is brought up to date
/// here while it waits.
const WAITING: usize = 16;

/// Before a watch that was refused is tried again: somebody has to change a permission first.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// How long connecting to an endpoint may take, unless said otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A channel that balances over the endpoints of the service, each as [`endpoint`] makes it.
///
/// The set is kept in step with etcd in the background, by address: several names with one address are one
/// endpoint, and metadata that changes reconnects nothing. While etcd can't be reached the channel keeps what
/// it has. Addresses that can't be used are left out, with a warning (`channel_endpoint_skipped`); so is told when the
/// endpoints can't be followed, as for want of a permission (`channel_stalled`). Both are events of `tracing`.
///
/// # Errors
/// When it isn't called on a tokio runtime, which the channel's own task needs.
pub fn channel(discovery: &Discovery) -> Result<(Channel, BalanceHandle), NoRuntime> {
    channel_with(discovery, endpoint)
}

/// The same with endpoints made by `configure`, for time limits, TLS and the like. What it refuses is left
/// out, with a warning.
///
/// ```no_run
/// use std::time::Duration;
/// use etcd_watch_tokio::{balance, discovery::Discovery};
///
/// # fn example(billing: &Discovery) -> Result<(), etcd_watch_tokio::NoRuntime> {
/// let (channel, handle) = balance::channel_with(billing, |service| {
///     Ok(balance::endpoint(service)?.timeout(Duration::from_secs(2)))
/// })?;
/// # Ok(())
/// # }
/// ```
///
/// For TLS, make an endpoint of the `https` address: `Endpoint::from_shared(format!("https://{}", service.addr))`.
///
/// # Errors
/// When it isn't called on a tokio runtime.
pub fn channel_with(
    discovery: &Discovery,
    configure: impl Fn(&ServiceEndpoint) -> Result<Endpoint, BoxError> + Send + Sync + 'static,
) -> Result<(Channel, BalanceHandle), NoRuntime> {
    let runtime = Handle::try_current().map_err(|_| NoRuntime { name: "tokio" })?;
    let (channel, changes) = Channel::balance_channel(WAITING);
    let (status, seen) = watch::channel(Status::default());
    let feeder = Feeder { changes, status, configure, plan: VecDeque::new(), skipped: BTreeMap::new() };
    let task = runtime.spawn(feeder.run(discovery.clone()));
    Ok((channel, BalanceHandle { status: seen, task: task.abort_handle() }))
}

/// An endpoint at the service's address, in plain text unless that says `https://`, with 5 s to connect.
///
/// # Errors
/// An address that is none.
pub fn endpoint(service: &ServiceEndpoint) -> Result<Endpoint, BoxError> {
    let uri = if service.addr.contains("://") || service.addr.starts_with("unix:") {
        service.addr.clone()
    } else {
        format!("http://{}", service.addr)
    };
    Ok(Endpoint::from_shared(uri)?.connect_timeout(CONNECT_TIMEOUT))
}

/// Keeps a channel in step with etcd. When it is dropped the channel stays as it is from then on.
pub struct BalanceHandle {
    status: watch::Receiver<Status>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Status {
    addresses: BTreeSet<String>,
    skipped: BTreeSet<String>,
}

impl BalanceHandle {
    /// The addresses that have been handed to the channel.
    #[must_use]
    pub fn addresses(&self) -> BTreeSet<String> {
        self.status.borrow().addresses.clone()
    }

    /// The addresses that are registered but can't be used.
    #[must_use]
    pub fn skipped(&self) -> BTreeSet<String> {
        self.status.borrow().skipped.clone()
    }

    /// Waits until the channel's addresses are as wanted. It never ends if the client has been closed
    /// before they are. Cancel-safe.
    pub async fn until(&self, mut wanted: impl FnMut(&BTreeSet<String>) -> bool) {
        let mut status = self.status.clone();
        if status.wait_for(|status| wanted(&status.addresses)).await.is_err() {
            std::future::pending().await
        }
    }
}

impl fmt::Debug for BalanceHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BalanceHandle").field(&*self.status.borrow()).finish()
    }
}

impl Drop for BalanceHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One step from what the channel has to what it should have.
#[derive(Debug)]
enum Step {
    Insert(Arc<ServiceEndpoint>),
    Remove(String),
}

struct Feeder<F> {
    changes: mpsc::Sender<Change<String, Endpoint>>,
    status: watch::Sender<Status>,
    configure: F,
    plan: VecDeque<Step>,
    /// What could not be used; it is tried again when it has changed.
    skipped: BTreeMap<String, Arc<ServiceEndpoint>>,
}

impl<F: Fn(&ServiceEndpoint) -> Result<Endpoint, BoxError> + Send + Sync + 'static> Feeder<F> {
    async fn run(mut self, discovery: Discovery) {
        let mut watch = discovery.watch();
        loop {
            match self.follow(&mut watch).await {
                Some(DiscoveryError::Closed) | None => break,
                Some(error) => {
                    tracing::warn!(
                        name: "channel_stalled",
                        target = discovery.target(),
                        %error,
                        "a channel can't follow its endpoints"
                    );
                    tokio::time::sleep(REFUSED_PAUSE).await;
                    watch = discovery.watch();
                }
            }
        }
        // What is still to be told needs no etcd.
        while !self.plan.is_empty() {
            let Ok(permit) = self.changes.clone().reserve_owned().await else { return };
            self.step(permit);
        }
    }

    /// Follows the watch to its end, or to that of the channel.
    async fn follow(&mut self, watch: &mut EndpointWatch) -> Option<DiscoveryError> {
        loop {
            tokio::select! {
                update = watch.next() => match update? {
                    Ok(update) => self.aim_at(update.endpoints()),
                    Err(error) => return Some(error),
                },
                permit = self.changes.clone().reserve_owned(), if !self.plan.is_empty() => {
                    let Ok(permit) = permit else { return None };
                    self.step(permit);
                }
                () = self.changes.closed() => return None,
            }
        }
    }

    /// Plans the way from what the channel has to these: additions first, so that it is never without.
    fn aim_at(&mut self, endpoints: &EndpointMap) {
        let wanted: BTreeMap<&str, _> =
            endpoints.values().map(|endpoint| (endpoint.addr.as_str(), endpoint)).collect();
        self.skipped.retain(|addr, service| wanted.get(addr.as_str()) == Some(&&*service));
        let status = self.status.borrow();
        let is_new = |addr: &str| !status.addresses.contains(addr) && !self.skipped.contains_key(addr);
        let new = wanted.iter().filter(|(addr, _)| is_new(addr));
        let gone = status.addresses.iter().filter(|addr| !wanted.contains_key(addr.as_str()));
        let plan = new.map(|(_, service)| Step::Insert(Arc::clone(service)));
        let plan: VecDeque<_> = plan.chain(gone.cloned().map(Step::Remove)).collect();
        drop(status);
        self.plan = plan;
        self.tell_skipped();
    }

    fn step(&mut self, permit: mpsc::OwnedPermit<Change<String, Endpoint>>) {
        match self.plan.pop_front() {
            None => {}
            Some(Step::Remove(addr)) => {
                self.status.send_modify(|status| {
                    status.addresses.remove(&addr);
                });
                permit.send(Change::Remove(addr));
            }
            Some(Step::Insert(service)) => match (self.configure)(&service) {
                Ok(endpoint) => {
                    let addr = service.addr.clone();
                    permit.send(Change::Insert(addr.clone(), endpoint));
                    self.status.send_modify(|status| {
                        status.addresses.insert(addr);
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        name: "channel_endpoint_skipped",
                        addr = service.addr,
                        %error,
                        "an endpoint can't be used"
                    );
                    self.skipped.insert(service.addr.clone(), service);
                    self.tell_skipped();
                }
            },
        }
    }

    fn tell_skipped(&self) {
        self.status.send_if_modified(|status| {
            let changed = !status.skipped.iter().eq(self.skipped.keys());
            if changed {
                status.skipped = self.skipped.keys().cloned().collect();
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(addr: &str) -> Option<String> {
        endpoint(&ServiceEndpoint::new(addr)).ok().map(|endpoint| endpoint.uri().to_string())
    }

    #[test]
    fn an_address_is_plain_text_unless_it_says_otherwise() {
        assert_eq!(uri("10.0.0.1:80").as_deref(), Some("http://10.0.0.1:80/"));
        assert_eq!(uri("[::1]:80").as_deref(), Some("http://[::1]:80/"));
        assert_eq!(uri("https://billing:443").as_deref(), Some("https://billing:443/"));
        assert_eq!(uri("not an address"), None);
        assert_eq!(uri(""), None);
    }
}
