//! A lease that is kept alive, and what hangs on it.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures_util::{
    future::{Either, select},
    lock::Mutex as AsyncMutex,
};

use super::{
    SessionError, SessionLost,
    health::MonitoredSession,
    metrics::{Metrics, Purpose, Waiting},
    patience::persist_for,
    telemetry,
};
use crate::{
    CallError, Client, Health, LeaseKeeper, LeaseLost, Monitor,
    toolkit::{Latch, Monitored, lock},
};

/// As Go's.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// How long a grant is tried again while no answer comes: twice what a cluster needs to elect a new leader.
const OPENING: Duration = Duration::from_secs(10);

/// A lease, kept alive in the background: locks and leaderships are held for as long as it lives. Survives lost
/// connections, members and tokens for as long as a renewal gets through in time. Cheap to clone; all clones, and
/// all locks and leaderships made with it, share the lease.
///
/// Once the last of them is dropped the lease is revoked in the background, and with it all keys on it; a process
/// that ends first leaves them to the lease's time. [`close`](Self::close) waits for it.
#[must_use = "dropping it revokes the lease"]
pub struct Session {
    inner: Arc<Inner>,
}

/// Only the keeping of a session, not the session: whoever has it does not keep it open.
pub(super) struct WeakSession(Weak<Inner>);

impl WeakSession {
    pub(super) fn upgrade(&self) -> Option<Session> {
        self.0.upgrade().map(|inner| Session { inner })
    }
}

struct Inner {
    client: Client,
    id: i64,
    ttl: Duration,
    over: Arc<Over>,
    kept: Mutex<Kept>,
    revoked: Arc<Latch<Result<(), CallError>>>,
    /// Who contends for what: a session has one key per name, so its own contenders queue here.
    slots: Mutex<BTreeMap<String, Weak<AsyncMutex<()>>>>,
    monitored: Arc<MonitoredSession>,
}

#[derive(Debug)]
enum Kept {
    By(Arc<LeaseKeeper>),
    /// It was revoked, or is being revoked.
    Closed,
    Orphaned,
}

/// Opens a [`Session`].
#[derive(Clone, Debug)]
#[must_use]
pub struct SessionBuilder {
    client: Client,
    ttl: Duration,
    lease: Option<i64>,
}

impl SessionBuilder {
    /// How long the lease lasts without a renewal: for so long a process that died blocks the others, and for so
    /// long the network may be gone, or the machine sleep. In whole seconds, rounded up, from 1 to 9,000,000,000; the
    /// server may give more. Default: 60 s.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Uses this lease, with the time it was granted for, rather than one of its own. A lease is one contender:
    /// nobody else may contend by it. Default: none.
    pub fn lease(mut self, id: i64) -> Self {
        self.lease = Some(id);
        self
    }

    /// Grants or renews the lease, and keeps it alive from there on.
    ///
    /// # Errors
    /// A ttl that [can't be granted](crate::LeaseGrant::new), a lease that doesn't exist, or a call that failed.
    pub async fn open(self) -> Result<Session, SessionError> {
        let Self { client, ttl, lease } = self;
        let lease = match lease {
            Some(id) => client.lease_keep_alive_once(id).await?.ok_or(SessionError::NoSuchLease { id })?,
            // A grant whose answer was lost leaves a lease without keys, which ends by itself.
            None => persist_for(&client, OPENING, || client.lease_grant(ttl)).await?,
        };
        let keeper = Arc::new(lease.keep_alive());
        telemetry::session_opened(lease.id(), lease.ttl());
        let over = Arc::new(Over::new(&client));
        let teller = Teller { keeper: keeper.clone(), over: over.clone() };
        let monitored = Arc::new(MonitoredSession::new(teller.keeper.monitor(), over.reason.clone()));
        client.runtime().spawn(Box::pin(teller.run()));
        Ok(Session {
            inner: Arc::new(Inner {
                client,
                id: lease.id(),
                ttl: lease.ttl(),
                over,
                kept: Mutex::new(Kept::By(keeper)),
                revoked: Arc::default(),
                slots: Mutex::default(),
                monitored,
            }),
        })
    }
}

/// Tells of the loss of the lease. Ends with the session, one way or the other.
struct Teller {
    keeper: Arc<LeaseKeeper>,
    over: Arc<Over>,
}

impl Teller {
    async fn run(self) {
        if let Either::Left((lost, _)) = select(pin!(self.keeper.lost()), self.over.reason.wait()).await {
            end(self.keeper.id(), &self.over, lost.into());
        }
    }
}

impl Drop for Teller {
    /// With its runtime, if nothing was to be told before.
    fn drop(&mut self) {
        let id = self.keeper.id();
        end(id, &self.over, LeaseLost::Stopped { id }.into());
    }
}

/// Whether a session is over, and why.
struct Over {
    reason: Arc<Latch<SessionLost>>,
    metrics: Metrics,
}

impl Over {
    /// Of a session that has been opened just now.
    fn new(client: &Client) -> Self {
        let metrics = Metrics::of(client);
        metrics.session_opened();
        Self { reason: Arc::default(), metrics }
    }
}

fn end(id: i64, over: &Over, reason: SessionLost) {
    if over.reason.set(reason.clone()) {
        over.metrics.session_over(matches!(reason, SessionLost::Lease(_)));
        telemetry::session_over(id, &reason);
    }
}

impl Session {
    /// A session with every setting at its default.
    ///
    /// # Errors
    /// A call that failed.
    pub async fn open(client: &Client) -> Result<Self, SessionError> {
        Self::builder(client).open().await
    }

    /// A session with settings of its own.
    pub fn builder(client: &Client) -> SessionBuilder {
        SessionBuilder { client: client.clone(), ttl: DEFAULT_TTL, lease: None }
    }

    /// The lease.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.inner.id
    }

    /// The client it was made with.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The time the lease was granted for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.inner.ttl
    }

    /// How long the lease is sure to exist without another renewal, counted from when the last one was sent; zero
    /// once the session is lost. Time in which the machine sleeps counts.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.inner.over.reason.get().is_some() {
            return Duration::ZERO;
        }
        self.inner.keeper().map_or(Duration::ZERO, |keeper| keeper.remaining())
    }

    /// Whether it is lost. Never later than the server ends the lease for want of renewals, if the clocks run
    /// equally fast; a lease that was revoked is noticed with the next renewal, a third of the ttl later at most.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost_reason().is_some()
    }

    /// Whether it is lost, and why.
    #[must_use]
    pub fn lost_reason(&self) -> Option<SessionLost> {
        // The keeper's task may be late, its clock is not.
        if self.inner.over.reason.get().is_none()
            && let Some(keeper) = self.inner.keeper()
            && let Some(lost) = keeper.lost_reason()
        {
            end(self.inner.id, &self.inner.over, lost.into());
        }
        self.inner.over.reason.get()
    }

    /// Completes when it is lost. Cancel-safe.
    pub async fn lost(&self) -> SessionLost {
        let Some(keeper) = self.inner.keeper() else { return self.inner.over.reason.wait().await };
        match select(self.inner.over.reason.wait(), pin!(keeper.lost())).await {
            Either::Left((lost, _)) => lost,
            Either::Right((lost, over)) => {
                end(self.inner.id, &self.inner.over, lost.into());
                over.await
            }
        }
    }

    /// Stops the renewing and revokes the lease: all locks and leaderships made with it are lost, their keys gone
    /// when this returns. Goes on in the background when the future is dropped. Also for all clones.
    ///
    /// # Errors
    /// The lease could not be revoked: it ends by itself when its time is over.
    pub async fn close(&self) -> Result<(), CallError> {
        match self.inner.let_go(Kept::Closed) {
            Kept::By(_) => self.inner.revoke(),
            Kept::Orphaned => return Ok(()),
            Kept::Closed => {}
        }
        self.inner.revoked.wait().await
    }

    /// Stops the renewing, and leaves the lease and its keys to whoever renews it next; otherwise they end with the
    /// lease's time. Everything made with the session counts as lost. Returns the lease's id.
    pub fn orphan(&self) -> i64 {
        if let Kept::By(_) = self.inner.let_go(Kept::Orphaned) {
            end(self.inner.id, &self.inner.over, SessionLost::Orphaned);
        }
        self.inner.id
    }

    /// A key of the session's was deleted, most likely with its lease: asks the server whether that is still there,
    /// which renews it. If it isn't, the session is lost, and others who hang on it needn't wait for the next renewal.
    pub(super) async fn check(&self) {
        if self.is_lost() {
            return;
        }
        if let Ok(None) = self.inner.client.lease_keep_alive_once(self.inner.id).await {
            self.lease_not_found();
        }
    }

    /// The server has said so.
    pub(super) fn lease_not_found(&self) -> SessionLost {
        let lost = SessionLost::Lease(LeaseLost::NotFound { id: self.inner.id });
        end(self.inner.id, &self.inner.over, lost.clone());
        self.inner.over.reason.get().unwrap_or(lost)
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.over.metrics
    }

    /// A task waits for a lock or a leadership, to be held by this session.
    pub(super) fn waiting(&self, purpose: Purpose) -> Waiting {
        self.metrics().waiting(purpose, &self.inner.client)
    }

    /// How the renewing of its lease is doing: [`Health`] says what that means. It is ready until it is lost.
    #[must_use]
    pub fn health(&self) -> Health {
        self.inner.monitored.health()
    }

    /// A handle to wait for changes of [`health`](Self::health).
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.inner.monitored.clone())
    }

    pub(super) fn downgrade(&self) -> WeakSession {
        WeakSession(Arc::downgrade(&self.inner))
    }

    /// Where the session's own contenders for a name queue.
    pub(super) fn slot(&self, name: &str) -> Arc<AsyncMutex<()>> {
        let mut slots = lock(&self.inner.slots);
        if let Some(slot) = slots.get(name).and_then(Weak::upgrade) {
            return slot;
        }
        slots.retain(|_, slot| slot.strong_count() > 0);
        let slot = Arc::default();
        slots.insert(name.to_owned(), Arc::downgrade(&slot));
        slot
    }
}

impl Inner {
    fn keeper(&self) -> Option<Arc<LeaseKeeper>> {
        match &*lock(&self.kept) {
            Kept::By(keeper) => Some(keeper.clone()),
            Kept::Closed | Kept::Orphaned => None,
        }
    }

    /// Stops the renewing, unless that was done before. Returns how the lease was kept until now; dropping that drops
    /// the keeper.
    fn let_go(&self, kept: Kept) -> Kept {
        let mut current = lock(&self.kept);
        match &*current {
            Kept::By(_) => std::mem::replace(&mut *current, kept),
            Kept::Closed => Kept::Closed,
            Kept::Orphaned => Kept::Orphaned,
        }
    }

    /// Revokes the lease in the background.
    fn revoke(&self) {
        end(self.id, &self.over, SessionLost::Closed);
        let (client, id, ttl) = (self.client.clone(), self.id, self.ttl);
        let revoking = Revoking(self.revoked.clone());
        let runtime = client.runtime().clone();
        runtime.spawn(Box::pin(async move {
            // After its time without renewals there is nothing left to revoke.
            let result = persist_for(&client, ttl, || client.lease_revoke(id)).await;
            revoking.0.set(match result {
                Err(error) if error.is_lease_not_found() => Ok(()),
                result => result.map(|_| ()),
            });
        }));
    }
}

/// The task that revokes. Nobody waits in vain for one that its runtime has dropped.
struct Revoking(Arc<Latch<Result<(), CallError>>>);

impl Drop for Revoking {
    fn drop(&mut self) {
        self.0.set(Err(CallError::RuntimeGone { method: "LeaseRevoke" }));
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Kept::By(_) = self.let_go(Kept::Closed) {
            self.revoke();
        }
    }
}

impl Clone for Session {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &format_args!("{:x}", self.inner.id))
            .field("ttl", &self.inner.ttl)
            .field("lost", &self.lost_reason())
            .finish_non_exhaustive()
    }
}
