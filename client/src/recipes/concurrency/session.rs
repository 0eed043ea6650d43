//! A lease that is kept alive, and what hangs on it.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use etcd_watch_core::Code;
use futures_util::{
    future::{Either, select},
    lock::Mutex as AsyncMutex,
};

use super::{SessionError, SessionLost, error::may_pass, queue::PAUSE, telemetry};
use crate::{
    CallError, Client, LeaseKeeper, LeaseLost,
    calls::keeper,
    sync::{Latch, lock},
};

/// As Go's.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// The longest lease that etcd grants (`MaxLeaseTTL` of its `lease` package).
const MAX_TTL_SECONDS: i64 = 9_000_000_000;

/// A lease, kept alive in the background: locks and leaderships are held for as long as it lives. Survives lost
/// connections, members and tokens for as long as a renewal gets through in time. Cheap to clone; all clones, and
/// all locks and leaderships made with it, share the lease.
///
/// Once the last of them is dropped the lease is revoked in the background, and with it all keys on it; a process
/// that ends first leaves them to the lease's time. [`close`](Self::close) waits for it.
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
    over: Arc<Latch<SessionLost>>,
    kept: Mutex<Kept>,
    revoked: Arc<Latch<Result<(), CallError>>>,
    /// Who contends for what: a session has one key per name, so its own contenders queue here.
    slots: Mutex<BTreeMap<String, Weak<AsyncMutex<()>>>>,
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
    /// long the network may be gone. In whole seconds, rounded up, from 1 to 9,000,000,000; the server may give more. Default: 60 s.
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
    /// A ttl that is out of range, a lease that doesn't exist, or a call that failed.
    pub async fn open(self) -> Result<Session, SessionError> {
        let Self { client, ttl, lease } = self;
        let now = || client.runtime().now();
        let (id, ttl, since) = if let Some(id) = lease {
            let since = now();
            let answer = client.lease_keep_alive_once(id).await?;
            if answer.ttl <= 0 {
                return Err(SessionError::NoSuchLease { id });
            }
            (id, answer.ttl, since)
        } else {
            let seconds = whole_seconds(ttl)?;
            let mut since = now();
            // A grant whose answer was lost leaves a lease without keys, which ends by itself.
            let grant = || {
                since = now();
                client.lease_grant(seconds, 0)
            };
            let answer = persist_for(&client, client.calls().request_timeout, grant).await?;
            (answer.id, answer.ttl, since)
        };
        let ttl = Duration::from_secs(ttl.unsigned_abs());
        let keeper = Arc::new(keeper::start_since(client.calls().clone(), id, ttl, since));
        telemetry::session_opened(id, ttl);
        let over = Arc::new(Latch::default());
        let teller = Teller { keeper: keeper.clone(), over: over.clone() };
        client.runtime().spawn(Box::pin(teller.run()));
        Ok(Session {
            inner: Arc::new(Inner {
                client,
                id,
                ttl,
                over,
                kept: Mutex::new(Kept::By(keeper)),
                revoked: Arc::default(),
                slots: Mutex::default(),
            }),
        })
    }
}

/// The time in whole seconds, rounded up.
fn whole_seconds(ttl: Duration) -> Result<i64, SessionError> {
    let seconds = ttl.as_secs().saturating_add(u64::from(ttl.subsec_nanos() > 0));
    let seconds = i64::try_from(seconds).ok().filter(|seconds| (1..=MAX_TTL_SECONDS).contains(seconds));
    seconds.ok_or(SessionError::OutOfRange {
        field: "ttl",
        value: ttl,
        allowed: "above 0, and at most 9000000000 s",
    })
}

/// Tells of the loss of the lease. Ends with the session, one way or the other.
struct Teller {
    keeper: Arc<LeaseKeeper>,
    over: Arc<Latch<SessionLost>>,
}

impl Teller {
    async fn run(self) {
        if let Either::Left((lost, _)) = select(pin!(self.keeper.lost()), self.over.wait()).await {
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

fn end(id: i64, over: &Latch<SessionLost>, reason: SessionLost) {
    if over.set(reason.clone()) {
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
    /// once the session is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.inner.over.get().is_some() {
            return Duration::ZERO;
        }
        match &*lock(&self.inner.kept) {
            Kept::By(keeper) => keeper.remaining(),
            Kept::Closed | Kept::Orphaned => Duration::ZERO,
        }
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
        let expired = || SessionLost::Lease(LeaseLost::Expired { id: self.inner.id, last: None });
        // The keeper's task may be late, the clock is not.
        self.inner.over.get().or_else(|| self.remaining().is_zero().then(expired))
    }

    /// Completes when it is lost. Cancel-safe.
    pub async fn lost(&self) -> SessionLost {
        self.inner.over.wait().await
    }

    /// Stops the renewing and revokes the lease: all locks and leaderships made with it are lost, their keys gone
    /// when this returns. Goes on in the background when the future is dropped. Also for all clones.
    ///
    /// # Errors
    /// The lease could not be revoked: it ends by itself when its time is over.
    pub async fn close(&self) -> Result<(), CallError> {
        {
            let mut kept = lock(&self.inner.kept);
            match &*kept {
                Kept::Orphaned => return Ok(()),
                Kept::Closed => {}
                Kept::By(_) => {
                    *kept = Kept::Closed;
                    self.inner.revoke();
                }
            }
        }
        self.inner.revoked.wait().await
    }

    /// Stops the renewing, and leaves the lease and its keys to whoever renews it next; otherwise they end with the
    /// lease's time. Everything made with the session counts as lost. Returns the lease's id.
    pub fn orphan(&self) -> i64 {
        let mut kept = lock(&self.inner.kept);
        if matches!(*kept, Kept::By(_)) {
            *kept = Kept::Orphaned;
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
        if let Ok(answer) = self.inner.client.lease_keep_alive_once(self.inner.id).await
            && answer.ttl <= 0
        {
            self.lease_not_found();
        }
    }

    /// The server has said so.
    pub(super) fn lease_not_found(&self) -> SessionLost {
        let lost = SessionLost::Lease(LeaseLost::NotFound { id: self.inner.id });
        end(self.inner.id, &self.inner.over, lost.clone());
        lost
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
    /// Revokes the lease in the background.
    fn revoke(&self) {
        end(self.id, &self.over, SessionLost::Closed);
        let (client, id, ttl, revoked) = (self.client.clone(), self.id, self.ttl, self.revoked.clone());
        let runtime = client.runtime().clone();
        runtime.spawn(Box::pin(async move {
            // After its time without renewals there is nothing left to revoke.
            let result = persist_for(&client, ttl, || client.lease_revoke(id)).await;
            revoked.set(match result {
                Err(CallError::Refused { code: Code::NotFound, .. }) => Ok(()),
                result => result.map(|_| ()),
            });
        }));
    }
}

/// Makes a call until it goes well, can't, or has failed for so long.
async fn persist_for<T, F: Future<Output = Result<T, CallError>>>(
    client: &Client,
    limit: Duration,
    mut call: impl FnMut() -> F,
) -> Result<T, CallError> {
    let runtime = client.runtime();
    let started = runtime.now();
    loop {
        match call().await {
            Err(error) if may_pass(&error) && runtime.now().since(started) < limit => {
                runtime.sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let kept = std::mem::replace(&mut *lock(&self.kept), Kept::Closed);
        if matches!(kept, Kept::By(_)) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_rounded_up_and_one_that_etcd_does_not_grant_is_refused() {
        assert_eq!(whole_seconds(Duration::from_millis(1)), Ok(1));
        assert_eq!(whole_seconds(Duration::from_millis(1_001)), Ok(2));
        let longest = Duration::from_secs(9_000_000_000);
        assert_eq!(whole_seconds(longest), Ok(MAX_TTL_SECONDS));
        for bad in [Duration::ZERO, longest + Duration::from_nanos(1), Duration::MAX] {
            let refused = whole_seconds(bad);
            assert!(matches!(refused, Err(SessionError::OutOfRange { field: "ttl", .. })), "{refused:?}");
        }
    }
}
