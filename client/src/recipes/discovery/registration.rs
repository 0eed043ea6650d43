//! The handle of a registration.

use std::{fmt, sync::Arc};

use bytes::Bytes;

use super::{
    endpoint::ServiceEndpoint,
    error::{DiscoveryError, check_addr, is_final},
};
use crate::{CallError, LeaseLost, toolkit::Watchable};

/// An endpoint that is kept registered for as long as this exists.
///
/// A task in the background keeps a lease alive and watches the key. When the lease is lost (it expired during
/// a long partition, was revoked, or the store was restored without it) another is granted and the key put
/// again; also when somebody deletes the key. When somebody else puts it, the name is theirs until it is free
/// again: two instances that both insist would take it from each other for ever. Only the first time a
/// registration takes a name from whoever had it, since that is what an instance has to do that was restarted
/// before its lease was over.
///
/// Dropping the handle deregisters in the background; [`deregister`](Self::deregister) waits for it. The
/// [`Discovery`](super::Discovery) it came from may be dropped, the client not be closed.
#[must_use = "dropping it deregisters"]
pub struct Registration {
    key: String,
    shared: Arc<Shared>,
}

/// Where a registration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// Not in etcd yet; it is being tried.
    Pending,
    /// In etcd.
    Registered {
        /// The lease it hangs on.
        lease: i64,
        /// The revision at which it was there.
        revision: i64,
    },
    /// It was in etcd and is no longer; it is being put there again.
    Lost {
        /// How it was lost.
        reason: LossReason,
    },
    /// Deregistered, or given up because the client was closed.
    Ended,
}

/// How a registration was lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LossReason {
    /// Its lease was.
    #[error(transparent)]
    Lease(#[from] LeaseLost),
    /// Its key was deleted, or is missing from a restored store.
    #[error("the key was deleted")]
    Deleted,
    /// Somebody else put the key. It is put again once theirs is gone.
    #[error("the key was put by another, on lease {lease:x}")]
    Replaced {
        /// The lease the key hangs on now; 0 for none.
        lease: i64,
    },
}

/// What the handle and the task share.
pub(super) struct Shared {
    pub(super) orders: Watchable<Orders>,
    pub(super) status: Watchable<Status>,
}

/// What the application wants.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    pub(super) value: Bytes,
    pub(super) end: bool,
}

/// What there is.
#[derive(Clone, Debug)]
pub(super) struct Status {
    pub(super) state: RegistrationState,
    /// The version of the orders that is in etcd.
    pub(super) obeyed: Option<u64>,
    /// Why the last attempt failed, and the version of the orders it was made for.
    pub(super) failure: Option<(u64, CallError)>,
    pub(super) losses: u64,
}

impl Registration {
    pub(super) fn new(key: String, shared: Arc<Shared>) -> Self {
        Self { key, shared }
    }

    /// The key in etcd.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> RegistrationState {
        self.shared.status.read(|status| status.state.clone()).0
    }

    /// Waits until it stands elsewhere than `last`, and says where. What happens between two calls is told
    /// by its outcome only. Cancel-safe.
    pub async fn changed(&self, last: &RegistrationState) -> RegistrationState {
        let other = |status: &Status, _| (status.state != *last).then(|| status.state.clone());
        self.shared.status.until(other).await
    }

    /// Waits until the endpoint is in etcd as it was last given. Cancel-safe.
    ///
    /// # Errors
    /// The server refuses it, for a permission say; it is tried again all the same. Or it has ended.
    pub async fn registered(&self) -> Result<(), DiscoveryError> {
        let wanted = self.shared.orders.read(|_| ()).1;
        let done = |status: &Status, _| match (&status.state, &status.failure) {
            (RegistrationState::Ended, Some((_, error @ CallError::RuntimeGone { .. }))) => {
                Some(Err(error.clone().into()))
            }
            (RegistrationState::Ended, _) => Some(Err(DiscoveryError::Deregistered)),
            (_, Some((version, error))) if *version >= wanted && is_final(error) => {
                Some(Err(error.clone().into()))
            }
            (RegistrationState::Registered { .. }, _) if status.obeyed >= Some(wanted) => Some(Ok(())),
            _ => None,
        };
        self.shared.status.until(done).await
    }

    /// Why the last attempt to register or to deregister failed; `None` once one has succeeded.
    #[must_use]
    pub fn failure(&self) -> Option<CallError> {
        self.shared.status.read(|status| status.failure.as_ref().map(|(_, error)| error.clone())).0
    }

    /// How often the registration has been lost.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.shared.status.read(|status| status.losses).0
    }

    /// Registers the endpoint with another address or metadata, and waits until that is in etcd. It is done
    /// in the background when the future is dropped.
    ///
    /// # Errors
    /// An empty address, or those of [`registered`](Self::registered).
    pub async fn update(&self, endpoint: ServiceEndpoint) -> Result<(), DiscoveryError> {
        check_addr(&endpoint.addr)?;
        let value = endpoint.encode();
        self.shared.orders.change(|orders| orders.value = value);
        self.registered().await
    }

    /// Takes the endpoint out of etcd, by revoking its lease: a key that another has put meanwhile stays.
    /// It is done in the background when the future is dropped.
    ///
    /// # Errors
    /// It could not be taken out. It goes with its lease, which is no longer renewed.
    pub async fn deregister(self) -> Result<(), DiscoveryError> {
        self.end();
        let ended =
            |status: &Status, _| (status.state == RegistrationState::Ended).then(|| status.failure.clone());
        match self.shared.status.until(ended).await {
            None => Ok(()),
            Some((_, error)) => Err(error.into()),
        }
    }

    fn end(&self) {
        self.shared.orders.change(|orders| orders.end = true);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("key", &self.key).field("state", &self.state()).finish()
    }
}
