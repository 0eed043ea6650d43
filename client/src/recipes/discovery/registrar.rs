//! The task that keeps an endpoint registered.
//!
//! It works by looking: whatever happens to the lease or the key, the key is read, and put if it isn't there
//! as it should be. A put is guarded by what was read, so that it can't undo what another did meanwhile.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use etcd_watch_core::{CloseReason, Code, Event, EventKind, Header, KeyRange, WatchRequest};

use super::{
    endpoint::ServiceEndpoint,
    error::ends_for_good,
    registration::{LossReason, Orders, Registration, RegistrationState, Shared, Status},
};
use crate::{
    CallError, Client, Compare, Get, LeaseKeeper, LeaseLost, Put, Txn,
    toolkit::{Backoff, Pace, Watchable},
};

/// After so long without a loss the next one counts as the first.
const CALM: Duration = Duration::from_secs(10);

/// Leases remembered, so that a key is recognised as one's own in a store restored from a backup.
const LEASES_REMEMBERED: usize = 16;

/// How often revoking a lease is tried when its answer doesn't come.
const REVOCATIONS: usize = 3;

pub(super) fn start(client: Client, key: String, ttl: Duration, endpoint: &ServiceEndpoint) -> Registration {
    let status = Status { state: RegistrationState::Pending, obeyed: None, failure: None, losses: 0 };
    let orders = Watchable::new(Orders { value: endpoint.encode(), end: false });
    let shared = Arc::new(Shared { orders, status: Watchable::new(status) });
    let registrar = Registrar {
        key: key.clone(),
        ttl,
        shared: shared.clone(),
        backoff: client.backoff(Pace::AROUND_CALLS),
        keeper: None,
        leases: Vec::new(),
        claimed: None,
        blind: false,
        client,
    };
    let runtime = registrar.client.runtime().clone();
    runtime.spawn(Box::pin(registrar.run()));
    Registration::new(key, shared)
}

struct Registrar {
    client: Client,
    key: String,
    ttl: Duration,
    shared: Arc<Shared>,
    backoff: Backoff,
    keeper: Option<LeaseKeeper>,
    /// Those granted last, the newest at the end.
    leases: Vec<i64>,
    /// The lease the key was last put on.
    claimed: Option<i64>,
    /// The user may write the key but not read it: then its lease is all that can be looked after.
    blind: bool,
}

/// Whose the key is.
enum Claim {
    Ours { lease: i64, seen: Seen },
    Anothers { lease: i64, seen: Seen },
}

/// Of which store that is known.
#[derive(Clone, Copy)]
struct Seen {
    cluster_id: u64,
    revision: i64,
}

/// Why to look at the key again.
enum Stirred {
    Ordered,
    Key,
    Lease(LeaseLost),
    Blind,
    Closed,
}

impl Drop for Registrar {
    /// Nobody waits in vain for a registrar that its runtime has dropped.
    fn drop(&mut self) {
        self.shared.status.change(|status| {
            if status.state != RegistrationState::Ended {
                status.state = RegistrationState::Ended;
                status.failure = Some((u64::MAX, CallError::RuntimeGone { method: "LeaseRevoke" }));
            }
        });
    }
}

impl Registrar {
    async fn run(mut self) {
        let shared = self.shared.clone();
        {
            let mut end = pin!(shared.orders.until(|orders, _| orders.end.then_some(())));
            let mut keep = pin!(self.keep());
            poll_fn(
                |cx| if end.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { keep.as_mut().poll(cx) },
            )
            .await;
        }
        let failure = self.release().await;
        if let Some(error) = &failure {
            tracing::warn!(name: "registration_not_removed", key = self.key, %error, "an endpoint goes only with its lease");
        }
        shared.status.change(|status| {
            status.state = RegistrationState::Ended;
            status.failure = failure.map(|error| (u64::MAX, error));
        });
    }

    /// Keeps the key in etcd until the client is closed.
    async fn keep(&mut self) {
        let runtime = self.client.runtime().clone();
        loop {
            let (value, version) = self.shared.orders.read(|orders| orders.value.clone());
            let claim = match self.claim(&value).await {
                Ok(claim) => claim,
                Err(CallError::Closed { .. } | CallError::RuntimeGone { .. }) => return,
                Err(error) => {
                    tracing::warn!(name: "registration_failed", key = self.key, %error, "an endpoint could not be registered, trying again");
                    self.shared.status.change(|status| status.failure = Some((version, error)));
                    self.pause(version).await;
                    continue;
                }
            };
            self.tell(&claim, version);
            let since = runtime.now();
            let stirred = self.guard(&claim, &value, version).await;
            match stirred {
                Stirred::Ordered => continue,
                Stirred::Closed => return,
                Stirred::Blind => self.go_blind(),
                Stirred::Key => {}
                Stirred::Lease(lost) => self.lost(lost.into()),
            }
            if runtime.now().since(since) >= CALM {
                self.backoff.reset();
            }
            self.pause(version).await;
        }
    }

    /// Waits before another attempt, unless another thing is wanted.
    async fn pause(&mut self, version: u64) {
        let runtime = self.client.runtime().clone();
        let mut pause = pin!(runtime.sleep(self.backoff.next_pause()));
        let mut ordered = pin!(self.shared.orders.until(|_, now| (now > version).then_some(())));
        let is_ordered = poll_fn(|cx| match ordered.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => pause.as_mut().poll(cx).map(|()| false),
        });
        if is_ordered.await {
            self.backoff.reset();
        }
    }

    fn tell(&mut self, claim: &Claim, version: u64) {
        match *claim {
            Claim::Ours { lease, seen: Seen { revision, .. } } => {
                self.claimed = Some(lease);
                tracing::debug!(name: "registration_made", key = self.key, lease, revision, "an endpoint is registered");
                self.shared.status.change(|status| {
                    status.state = RegistrationState::Registered { lease, revision };
                    status.obeyed = Some(version);
                    status.failure = None;
                });
            }
            Claim::Anothers { lease, .. } => self.lost(LossReason::Replaced { lease }),
        }
    }

    fn lost(&self, reason: LossReason) {
        tracing::warn!(name: "registration_lost", key = self.key, %reason, "an endpoint is no longer registered");
        self.shared.status.change(|status| {
            status.losses += u64::from(matches!(status.state, RegistrationState::Registered { .. }));
            status.state = RegistrationState::Lost { reason };
        });
    }

    fn is_registered(&self) -> bool {
        self.shared.status.read(|status| matches!(status.state, RegistrationState::Registered { .. })).0
    }

    /// Puts the key, unless it is there or another's.
    async fn claim(&mut self, value: &Bytes) -> Result<Claim, CallError> {
        let lease = self.lease().await?;
        match self.claim_on(lease, value).await {
            // The lease is gone, which its keeper would learn only with the next renewal.
            Err(error) if error.is_lease_not_found() => {
                self.keeper = None;
                if self.is_registered() {
                    self.lost(LeaseLost::NotFound { id: lease }.into());
                }
                let lease = self.lease().await?;
                self.claim_on(lease, value).await
            }
            claim => claim,
        }
    }

    async fn claim_on(&mut self, lease: i64, value: &Bytes) -> Result<Claim, CallError> {
        let put = Put::new(self.key.clone(), value.clone()).lease(lease);
        if self.claimed.is_some() && !self.blind {
            return self.claim_again(lease, put, value).await;
        }
        let answer = self.client.put_with(put).await?;
        Ok(Claim::Ours { lease, seen: seen(answer.header()) })
    }

    async fn claim_again(&mut self, lease: i64, put: Put, value: &Bytes) -> Result<Claim, CallError> {
        loop {
            let answer = match self.client.get(Get::key(self.key.clone())).await {
                Err(CallError::Refused { code: Code::PermissionDenied, .. }) => {
                    self.go_blind();
                    let answer = self.client.put_with(put).await?;
                    return Ok(Claim::Ours { lease, seen: seen(answer.header()) });
                }
                answer => answer?,
            };
            let mut mod_revision = 0;
            if let Some(kv) = answer.first() {
                let seen = seen(answer.header());
                if kv.lease == lease && kv.value == *value {
                    return Ok(Claim::Ours { lease, seen });
                }
                if !self.leases.contains(&kv.lease) {
                    return Ok(Claim::Anothers { lease: kv.lease, seen });
                }
                mod_revision = kv.mod_revision;
            } else if self.is_registered() {
                self.lost(LossReason::Deleted);
            }
            let unchanged = Compare::mod_revision(self.key.clone()).equals(mod_revision);
            let answer = self.client.txn(Txn::new().when(unchanged).and_then(put.clone())).await?;
            if answer.succeeded() {
                return Ok(Claim::Ours { lease, seen: seen(answer.header()) });
            }
        }
    }

    fn go_blind(&mut self) {
        if !self.blind {
            tracing::warn!(name: "registration_unwatched", key = self.key, "an endpoint's key can't be read: only its lease is looked after");
            self.blind = true;
        }
    }

    /// The lease there is, or a new one.
    async fn lease(&mut self) -> Result<i64, CallError> {
        if let Some(keeper) = self.keeper.as_ref().filter(|keeper| keeper.lost_reason().is_none()) {
            return Ok(keeper.id());
        }
        self.keeper = None;
        let granted = self.client.lease_grant(self.ttl).await?;
        if self.leases.len() == LEASES_REMEMBERED {
            self.leases.remove(0);
        }
        self.leases.push(granted.id());
        self.keeper = Some(granted.keep_alive());
        Ok(granted.id())
    }

    /// Waits until there is a reason to look at the key again.
    async fn guard(&self, claim: &Claim, value: &Bytes, version: u64) -> Stirred {
        let mut ordered =
            pin!(self.shared.orders.until(|_, now| (now > version).then_some(Stirred::Ordered)));
        let mut lease = pin!(async {
            match &self.keeper {
                Some(keeper) => Stirred::Lease(keeper.lost().await),
                None => pending().await,
            }
        });
        let mut key = pin!(self.key_stirs(claim, value));
        poll_fn(|cx| {
            for stirred in [ordered.as_mut().poll(cx), lease.as_mut().poll(cx), key.as_mut().poll(cx)] {
                if stirred.is_ready() {
                    return stirred;
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn key_stirs(&self, claim: &Claim, value: &Bytes) -> Stirred {
        if self.blind {
            return pending().await;
        }
        let (&Claim::Ours { lease, seen } | &Claim::Anothers { lease, seen }) = claim;
        let ours = matches!(claim, Claim::Ours { .. });
        let request = WatchRequest::new(KeyRange::key(self.key.clone()))
            .start_revision(seen.revision + 1)
            .known_store(seen.cluster_id, seen.revision);
        let Ok(mut watch) = self.client.watch(request) else { return Stirred::Closed };
        loop {
            match watch.next().await {
                Some(Ok(response)) => {
                    // A put whose answer was lost can show up once more.
                    let is_ours = |event: Event<'_>| {
                        event.kind() == EventKind::Put && event.lease() == lease && event.value() == value
                    };
                    if !ours || !response.events().all(is_ours) {
                        return Stirred::Key;
                    }
                }
                Some(Err(error)) => {
                    return match error.reason() {
                        CloseReason::ShutDown | CloseReason::RuntimeGone => Stirred::Closed,
                        reason if ends_for_good(reason) => Stirred::Blind,
                        _ => Stirred::Key,
                    };
                }
                None => return Stirred::Closed,
            }
        }
    }

    /// Takes the key out of etcd by ending the leases it may hang on.
    async fn release(&mut self) -> Option<CallError> {
        self.keeper = None;
        // It is on the one it was last put on, or on one granted since.
        let claimed = self.leases.iter().position(|lease| Some(*lease) == self.claimed).unwrap_or(0);
        let mut failure = None;
        for &lease in self.leases.iter().skip(claimed) {
            failure = failure.or(self.revoke(lease).await);
        }
        failure
    }

    async fn revoke(&self, lease: i64) -> Option<CallError> {
        let mut attempts = 1;
        loop {
            match self.client.lease_revoke(lease).await {
                Ok(_) => return None,
                Err(error) if error.is_lease_not_found() => return None,
                Err(CallError::MaybeExecuted { .. }) if attempts < REVOCATIONS => attempts += 1,
                Err(error) => return Some(error),
            }
        }
    }
}

fn seen(header: Header) -> Seen {
    Seen { cluster_id: header.cluster_id, revision: header.revision }
}
