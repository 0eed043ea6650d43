//! Several changes in one transaction.

use super::{
    Discovery,
    endpoint::ServiceEndpoint,
    error::{DiscoveryError, check_addr},
};
use crate::{Delete, Put, Txn};

/// Changes of a service's endpoints that are made together.
///
/// ```
/// use etcd_watch_client::discovery::{EndpointBatch, ServiceEndpoint};
///
/// let moved = EndpointBatch::new().delete("a").add("b", ServiceEndpoint::new("10.0.0.7:8080"));
/// # let _ = moved;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct EndpointBatch(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Add { name: String, endpoint: ServiceEndpoint, lease: i64 },
    Delete { name: String },
}

impl EndpointBatch {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an endpoint, or replaces it.
    pub fn add(self, name: impl Into<String>, endpoint: ServiceEndpoint) -> Self {
        self.add_with_lease(name, endpoint, 0)
    }

    /// Adds an endpoint, or replaces it, until this lease ends. The lease is the caller's to keep.
    pub fn add_with_lease(mut self, name: impl Into<String>, endpoint: ServiceEndpoint, lease: i64) -> Self {
        self.0.push(Step::Add { name: name.into(), endpoint, lease });
        self
    }

    /// Deletes an endpoint; one that doesn't exist is no error.
    pub fn delete(mut self, name: impl Into<String>) -> Self {
        self.0.push(Step::Delete { name: name.into() });
        self
    }

    pub(super) fn into_txn(self, discovery: &Discovery) -> Result<Txn, DiscoveryError> {
        self.0.into_iter().try_fold(Txn::new(), |txn, step| {
            Ok(match step {
                Step::Add { name, endpoint, lease } => {
                    check_addr(&endpoint.addr)?;
                    txn.and_then(Put::new(discovery.key(&name)?, endpoint.encode()).lease(lease))
                }
                Step::Delete { name } => txn.and_then(Delete::key(discovery.key(&name)?)),
            })
        })
    }
}
