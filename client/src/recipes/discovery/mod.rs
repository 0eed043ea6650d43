//! Service discovery: instances of a service register their endpoints in etcd, clients follow them.
//!
//! The format is that of Go's `clientv3/naming/endpoints`, so that either side may be written in either
//! language. An endpoint of the target `billing` is the key `billing/<name>`, the name by convention the
//! address; its value is a JSON object with the fields `Op` (always 0), `Addr` and `Metadata`.
//!
//! - [`Discovery`]: the endpoints of one service.
//! - [`Registration`]: keeps an endpoint registered, whatever happens to leases and stores.
//! - [`EndpointWatch`]: all endpoints, then every change of them.
//!
//! A target whose name begins with another target and a slash (`billing/eu` beside `billing`) lies within that
//! one: the watch on `billing` has the endpoints of both. The format has no way around that.
//!
//! # Logs
//!
//! By way of `tracing`; `key` is the registration's key.
//!
//! | event | level | fields |
//! |---|---|---|
//! | `registration_made` | debug | `key`, `lease`, `revision` |
//! | `registration_failed` | warn | `key`, `error`; it is tried again |
//! | `registration_lost` | warn | `key`, `reason` |
//! | `registration_unwatched` | warn | `key`; the user may not read it, so only its lease is looked after |
//! | `registration_not_removed` | warn | `key`, `error`; it goes when its lease ends |
//! | `endpoint_undecodable` | warn | `endpoint` (its name), `error`; never the value |
//!
//! A value that is no endpoint is warned of in the log, told by the watch or the list that met it, and with the feature
//! `metrics` counted by `etcd_watch_discovery_undecodable_total`, with the label `target`.
//!
//! | file | owns |
//! |---|---|
//! | `endpoint` | an endpoint, and its JSON |
//! | `set` | the endpoints known, and what a changed key comes to |
//! | `changes` | what a mirror of the keys tells |
//! | `list` | one listing of the keys |
//! | `garbage` | who hears of values that are no endpoints |
//! | `batch` | changes made in one transaction |
//! | `watch` | the handle of a watch |
//! | `registration` | the handle of a registration, and what state it is in |
//! | `registrar` | the task behind it |

mod batch;
mod changes;
mod endpoint;
mod error;
mod garbage;
mod list;
mod registrar;
mod registration;
mod set;
mod watch;

use std::{fmt, sync::Arc, time::Duration};

use etcd_watch_core::KeyRange;

use crate::{Client, Runtime};
use changes::Changes;
use error::{check_addr, check_name, check_target};
use garbage::Garbage;

pub use batch::EndpointBatch;
pub use changes::UpdateKind;
pub use endpoint::{DecodeError, ServiceEndpoint};
pub use error::DiscoveryError;
pub use registration::{LossReason, Registration, RegistrationState};
pub use set::{EndpointChange, EndpointMap};
pub use watch::{EndpointUpdate, EndpointWatch};

/// How long an instance that has died stays listed, unless said otherwise: short enough for its clients, and
/// long enough for a change of leaders, or for a member that restarts.
pub const DEFAULT_TTL: Duration = Duration::from_secs(15);

/// The longest lease that etcd grants.
const LONGEST_TTL: Duration = Duration::from_secs(9_000_000_000);

/// The endpoints of one service. Cheap to clone.
///
/// ```no_run
/// # async fn example(
/// #     client: etcd_watch_client::Client,
/// # ) -> Result<(), Box<dyn std::error::Error>> {
/// use etcd_watch_client::discovery::{Discovery, ServiceEndpoint};
///
/// let billing = Discovery::new(&client, "billing")?;
///
/// // In the service:
/// let registration = billing.register("10.0.0.7:8080", ServiceEndpoint::new("10.0.0.7:8080"))?;
/// registration.registered().await?;
///
/// // In its clients:
/// let mut watch = billing.watch();
/// while let Some(update) = watch.try_next().await? {
///     for (name, endpoint) in update.endpoints().iter() {
///         // ...
/// #       let _ = (name, endpoint);
///     }
/// }
///
/// // In the service, when it ends:
/// registration.deregister().await?;
/// # Ok(())
/// # }
/// ```
pub struct Discovery {
    client: Client,
    /// The target and its slash.
    prefix: Arc<str>,
}

impl Clone for Discovery {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), prefix: self.prefix.clone() }
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery").field("target", &self.target()).finish_non_exhaustive()
    }
}

/// The endpoints known at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoints {
    /// The revision.
    pub revision: i64,
    /// The endpoints by name.
    pub endpoints: EndpointMap,
    /// The names under the target whose values are no endpoints, and why.
    pub undecodable: Vec<(Arc<str>, DecodeError)>,
}

impl Discovery {
    /// The endpoints of the service `target`.
    ///
    /// # Errors
    /// A target that is empty, ends with a slash (Go's resolver would look elsewhere), or contains control
    /// characters.
    pub fn new(client: &Client, target: impl AsRef<str>) -> Result<Self, DiscoveryError> {
        let target = target.as_ref();
        check_target(target)?;
        Ok(Self { client: client.clone(), prefix: format!("{target}/").into() })
    }

    /// The service's name.
    #[must_use]
    pub fn target(&self) -> &str {
        self.prefix.strip_suffix('/').unwrap_or(&self.prefix)
    }

    /// The runtime its client runs on.
    #[must_use]
    pub fn runtime(&self) -> &Arc<dyn Runtime> {
        self.client.runtime()
    }

    /// Registers an endpoint under a lease of [`DEFAULT_TTL`], and keeps it registered for as long as the
    /// handle exists. Returns at once; [`registered`](Registration::registered) waits until it is done.
    ///
    /// # Errors
    /// An empty name or address.
    pub fn register(
        &self,
        name: impl AsRef<str>,
        endpoint: ServiceEndpoint,
    ) -> Result<Registration, DiscoveryError> {
        self.register_with_ttl(name, endpoint, DEFAULT_TTL)
    }

    /// The same with a lease of another length, in whole seconds, rounded up: how long the endpoint stays listed once
    /// its process has died or lost etcd. It is renewed whenever a third of that has passed. etcd lengthens
    /// a lease that is shorter than its election timeout allows (2 s by default).
    ///
    /// # Errors
    /// An empty name or address, or a lease of less than 1 s or more than 9,000,000,000 s.
    pub fn register_with_ttl(
        &self,
        name: impl AsRef<str>,
        endpoint: ServiceEndpoint,
        ttl: Duration,
    ) -> Result<Registration, DiscoveryError> {
        check_addr(&endpoint.addr)?;
        let key = self.key(name.as_ref())?;
        let problem = match ttl {
            _ if ttl < Duration::from_secs(1) => Some("is below 1 s: etcd counts leases in whole seconds"),
            _ if ttl > LONGEST_TTL => Some("is above 9,000,000,000 s, the most that etcd grants"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(DiscoveryError::InvalidArgument { field: "ttl", value: format!("{ttl:?}"), problem });
        }
        Ok(registrar::start(self.client.clone(), key, ttl, &endpoint))
    }

    /// The endpoints there are now, all at one revision. Values that can't be decoded are left out, logged
    /// and named.
    ///
    /// # Errors
    /// The server's refusal, or no answer in time.
    pub async fn list(&self) -> Result<Endpoints, DiscoveryError> {
        let listing = list::list(&self.client, &self.range()).await?;
        let mut endpoints =
            Endpoints { revision: listing.revision, endpoints: EndpointMap::new(), undecodable: Vec::new() };
        let garbage = Garbage::of(self.target());
        for (key, value) in listing.pairs {
            let name = key.get(self.prefix.len()..).unwrap_or_default();
            let decoded = match std::str::from_utf8(name) {
                Ok(_) => ServiceEndpoint::decode(&value),
                Err(_) => Err(DecodeError::NotText),
            };
            let name = Arc::from(String::from_utf8_lossy(name));
            match decoded {
                Ok(endpoint) => {
                    endpoints.endpoints.insert(name, Arc::new(endpoint));
                }
                Err(error) => {
                    garbage.found(&name, &error);
                    endpoints.undecodable.push((name, error));
                }
            }
        }
        Ok(endpoints)
    }

    /// Follows the endpoints: first those there are, then every change.
    ///
    /// An endpoint whose new value can't be decoded stays as it was, since an address that was good a moment
    /// ago is of more use than none; the update says so.
    pub fn watch(&self) -> EndpointWatch {
        EndpointWatch::new(Changes::new(&self.client, self.range()), self.target())
    }

    /// Adds an endpoint, or replaces it, without a lease: it stays until it is deleted. The revision.
    ///
    /// # Errors
    /// An empty name or address, the server's refusal, or an answer that didn't come.
    pub async fn add(
        &self,
        name: impl Into<String>,
        endpoint: ServiceEndpoint,
    ) -> Result<i64, DiscoveryError> {
        self.update(EndpointBatch::new().add(name, endpoint)).await
    }

    /// Deletes an endpoint; one that doesn't exist is no error. The revision.
    ///
    /// # Errors
    /// An empty name, the server's refusal, or an answer that didn't come.
    pub async fn delete(&self, name: impl Into<String>) -> Result<i64, DiscoveryError> {
        self.update(EndpointBatch::new().delete(name)).await
    }

    /// Makes all changes of the batch in one transaction. The revision.
    ///
    /// # Errors
    /// An empty name or address, the server's refusal (a name that comes twice; more than 128 changes, its
    /// default limit), or an answer that didn't come.
    pub async fn update(&self, batch: EndpointBatch) -> Result<i64, DiscoveryError> {
        let answer = self.client.txn(batch.into_txn(self)?).await?;
        Ok(answer.revision())
    }

    fn key(&self, name: &str) -> Result<String, DiscoveryError> {
        check_name(name)?;
        Ok(format!("{}{name}", self.prefix))
    }

    fn range(&self) -> KeyRange {
        KeyRange::prefix(String::from(&*self.prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::NoNetwork;

    fn client() -> Client {
        crate::ClientBuilder::on(NoNetwork)
            .endpoints(["http://127.0.0.1:1"])
            .connect_lazy()
            .expect("valid settings")
    }

    fn field<T: fmt::Debug>(result: Result<T, DiscoveryError>) -> &'static str {
        match result {
            Err(DiscoveryError::InvalidArgument { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_target_that_can_not_be_one_is_refused() {
        for target in ["", "/", "billing/", "bil\nling", "billing\0"] {
            assert_eq!(field(Discovery::new(&client(), target)), "target", "{target:?}");
        }
        for target in ["billing", "/services/billing", "Überweisung"] {
            assert_eq!(Discovery::new(&client(), target).expect("it is good").target(), target);
        }
    }

    #[test]
    fn what_can_not_be_registered_is_refused_by_name() {
        let discovery = Discovery::new(&client(), "t").expect("it is good");
        let endpoint = || ServiceEndpoint::new("a:1");
        assert_eq!(field(discovery.register("", endpoint())), "name");
        assert_eq!(field(discovery.register("a", ServiceEndpoint::new(""))), "addr");
        let short = Duration::from_millis(999);
        assert_eq!(field(discovery.register_with_ttl("a", endpoint(), short)), "ttl");
        assert_eq!(field(discovery.register_with_ttl("a", endpoint(), Duration::MAX)), "ttl");
        assert_eq!(field(EndpointBatch::new().delete("").into_txn(&discovery)), "name");
        assert_eq!(
            field(EndpointBatch::new().add("a", ServiceEndpoint::new("")).into_txn(&discovery)),
            "addr"
        );
    }
}
