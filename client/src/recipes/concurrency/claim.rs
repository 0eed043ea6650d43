//! A place in a queue: what a lock and a leadership have in common.
//!
//! A task of its own puts the key there, watches over it, and takes it away. So whoever waits can be dropped at any
//! moment: the task knows whether the key was created, and its owner being gone is just another event to it.
//!
//! ```text
//!            entering --> watching --> (lost) --> removing --> (a late attempt may follow) --> done
//!               |            |                       ^
//!               +------------+------- dropped -------+
//! ```

use std::{fmt, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use etcd_watch_core::Instant;
use futures_util::{
    future::{Either, select},
    lock::OwnedMutexGuard,
};

use super::{
    ContendError, Lost, Name, Session, SessionLost,
    metrics::{Held, Purpose, Waiting},
    patience::{backoff, pause, persist},
    queue::{self, Claim, Entered, Standing},
    telemetry,
};
use crate::{CallError, Compare, Put, Txn, toolkit::Latch};

/// How long a transaction may still be executed after its answer was given up: a server gives up on a proposal after
/// 5 s and two election timeouts.
const LATE: Duration = Duration::from_secs(10);

/// A place in a queue. Dropping it takes the key away in the background.
pub(super) struct Place {
    session: Session,
    prefix: Bytes,
    claim: Claim,
    handle: Handle,
}

/// Tells the task that nobody wants the place any more.
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.held.let_go();
        self.0.unwanted.set(());
    }
}

#[derive(Default)]
struct Shared {
    entered: Latch<Result<Entered, ContendError>>,
    lost: Latch<Lost>,
    unwanted: Latch<()>,
    removed: Latch<Result<(), ContendError>>,
    held: Held,
}

impl Place {
    /// Enters the queue, after others of this session have left it.
    pub(super) async fn enter(
        session: &Session,
        name: &Name,
        purpose: Purpose,
        value: Bytes,
    ) -> Result<(Self, Entered), ContendError> {
        let slot = session.slot(name.as_str());
        match select(slot.lock_owned(), pin!(session.lost())).await {
            Either::Left((slot, _)) => Self::enter_from(slot, session, name, purpose, value).await,
            Either::Right((lost, _)) => Err(lost.into()),
        }
    }

    /// Enters the queue, unless another of this session is in it.
    pub(super) async fn try_enter(
        session: &Session,
        name: &Name,
        purpose: Purpose,
        value: Bytes,
    ) -> Result<Option<(Self, Entered)>, ContendError> {
        match session.slot(name.as_str()).try_lock_owned() {
            Some(slot) => Self::enter_from(slot, session, name, purpose, value).await.map(Some),
            None => Ok(None),
        }
    }

    async fn enter_from(
        slot: OwnedMutexGuard<()>,
        session: &Session,
        name: &Name,
        purpose: Purpose,
        value: Bytes,
    ) -> Result<(Self, Entered), ContendError> {
        let handle = Handle(Arc::default());
        let task = Task {
            session: session.clone(),
            prefix: name.prefix(),
            key: name.key(session.id()),
            purpose,
            value,
            shared: handle.0.clone(),
            unanswered: None,
        };
        let promise = Promise(handle.0.clone());
        session.client().runtime().spawn(Box::pin(task.run(slot, promise)));
        let entered = match select(handle.0.entered.wait(), pin!(session.lost())).await {
            Either::Left((entered, _)) => entered?,
            Either::Right((lost, _)) => return Err(lost.into()),
        };
        let claim = entered.claim.clone();
        Ok((Self { session: session.clone(), prefix: name.prefix(), claim, handle }, entered))
    }

    /// Waits until nobody is before it. Each waits for the one right before: a key that goes wakes one contender.
    pub(super) async fn become_first(&self) -> Result<(), ContendError> {
        let client = self.session.client();
        let waiting = async {
            loop {
                let look = || queue::standing(client, &self.prefix, &self.claim);
                match persist(client, look).await? {
                    Standing::First => return Ok(()),
                    Standing::Behind { next, at } => {
                        telemetry::claim_waiting(&self.claim, &next);
                        queue::gone(client, &next, at).await?;
                    }
                    Standing::Gone => return Err(Lost::KeyDeleted { key: self.claim.key.clone() }.into()),
                }
            }
        };
        match select(pin!(waiting), pin!(self.lost())).await {
            Either::Left((result, _)) => result,
            Either::Right((lost, _)) => Err(lost.into()),
        }
    }

    /// Owner from now on, unless the lease's time ran out while nobody looked.
    pub(super) fn hold(&self, waiting: Waiting) -> Result<(), ContendError> {
        if let Some(lost) = self.lost_reason() {
            return Err(lost.into());
        }
        telemetry::claim_held(&self.claim);
        self.handle.0.held.set(waiting.acquired(self.session.client()));
        // The task may have told of the loss before there was something to let go.
        if self.handle.0.lost.get().is_some() {
            self.handle.0.held.let_go();
        }
        Ok(())
    }

    pub(super) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(super) fn lost_reason(&self) -> Option<Lost> {
        self.handle.0.lost.get().or_else(|| self.session.lost_reason().map(Lost::Session))
    }

    pub(super) async fn lost(&self) -> Lost {
        match select(self.handle.0.lost.wait(), pin!(self.session.lost())).await {
            Either::Left((lost, _)) => lost,
            Either::Right((lost, _)) => lost.into(),
        }
    }

    /// Gives the key another value.
    pub(super) async fn put(&self, value: Bytes) -> Result<(), ContendError> {
        let client = self.session.client();
        let put = || {
            let put = Put::new(self.claim.key.clone(), value.clone()).lease(self.session.id());
            client.txn(Txn::new().when(self.claim.exists()).and_then(put))
        };
        match select(pin!(persist(client, put)), pin!(self.lost())).await {
            Either::Left((answer, _)) if answer.as_ref().is_ok_and(|txn| txn.succeeded()) => Ok(()),
            Either::Left((Ok(_), _)) => Err(Lost::KeyDeleted { key: self.claim.key.clone() }.into()),
            Either::Left((Err(error), _)) => Err(error.into()),
            Either::Right((lost, _)) => Err(lost.into()),
        }
    }

    /// Takes the key away, and waits until it is gone.
    pub(super) async fn leave(self) -> Result<(), ContendError> {
        self.handle.0.held.let_go();
        self.handle.0.unwanted.set(());
        self.handle.0.removed.wait().await
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("key", &self.claim.key)
            .field("create_revision", &self.claim.create_revision)
            .field("lost", &self.lost_reason())
            .finish_non_exhaustive()
    }
}

/// Nobody waits in vain for a task that was given up: its runtime was shut down.
struct Promise(Arc<Shared>);

impl Drop for Promise {
    fn drop(&mut self) {
        let gone = ContendError::from(CallError::RuntimeGone { method: "Txn" });
        self.0.entered.set(Err(gone.clone()));
        self.0.removed.set(Err(gone));
    }
}

/// What happens to the key in the background.
struct Task {
    session: Session,
    prefix: Bytes,
    key: Bytes,
    purpose: Purpose,
    value: Bytes,
    shared: Arc<Shared>,
    /// When the answer to a transaction that enters was last given up: it may be executed yet.
    unanswered: Option<Instant>,
}

impl Task {
    /// The slot keeps others of the session away from the key until it is gone for good; it is given back before the
    /// outcome is told, so that whoever hears of that finds it free.
    async fn run(mut self, slot: OwnedMutexGuard<()>, _promise: Promise) {
        let entered = self.enter().await;
        let removed = match entered {
            Ok(entered) => {
                self.shared.entered.set(Ok(entered.clone()));
                self.watch_over(&entered).await;
                self.remove(&entered.claim.exists()).await
            }
            Err(error) if self.unanswered.is_some() => {
                self.shared.entered.set(Err(error));
                self.remove(&self.any_key()).await.map(|_| true)
            }
            Err(error) => {
                // Nothing was executed.
                drop(slot);
                self.shared.entered.set(Err(error));
                return;
            }
        };
        let slot = self.unanswered.is_some().then_some(slot);
        let lost = || Lost::KeyDeleted { key: self.key.clone() };
        let was_gone = removed == Ok(false);
        self.shared.removed.set(match removed {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.shared.lost.get().unwrap_or_else(lost).into()),
            Err(error) => Err(error),
        });
        if was_gone {
            self.session.check().await;
        }
        self.remove_latecomer().await;
        drop(slot);
    }

    fn any_key(&self) -> Compare {
        Compare::exists(self.key.clone())
    }

    async fn enter(&mut self) -> Result<Entered, ContendError> {
        let client = self.session.client();
        let mut backoff = backoff(client);
        loop {
            if let Some(lost) = self.session.lost_reason() {
                return Err(lost.into());
            }
            let entering = queue::enter(client, &self.prefix, &self.key, self.session.id(), &self.value);
            match entering.await {
                Ok(entered) => {
                    telemetry::claim_entered(&entered.claim);
                    return Ok(entered);
                }
                Err(error) if error.is_lease_not_found() => {
                    return Err(self.session.lease_not_found().into());
                }
                Err(error) => {
                    if matches!(error, CallError::MaybeExecuted { .. }) {
                        self.unanswered = Some(client.runtime().now());
                    }
                    if !error.is_transient() || self.shared.unwanted.get().is_some() {
                        return Err(error.into());
                    }
                }
            }
            let pause = pin!(pause(client, &mut backoff, "Txn"));
            if let Either::Left((paused, _)) = select(pause, self.shared.unwanted.wait()).await {
                paused?;
            }
        }
    }

    /// Until nobody wants the key any more; tells of its loss.
    async fn watch_over(&self, entered: &Entered) {
        let Entered { claim, revision, .. } = entered;
        let unwanted = self.shared.unwanted.wait();
        let end = async {
            let gone = pin!(queue::gone(self.session.client(), claim, *revision));
            let lost = match select(gone, pin!(self.session.lost())).await {
                Either::Left((Ok(()), _)) => Lost::KeyDeleted { key: claim.key.clone() },
                Either::Left((Err(reason), _)) => {
                    Lost::Unwatched { key: claim.key.clone(), reason: Box::new(reason) }
                }
                Either::Right((lost, _)) => lost.into(),
            };
            telemetry::claim_lost(claim, &lost);
            if !telemetry::is_applications_doing(&lost) {
                self.session.metrics().lost(self.purpose);
            }
            let was_deleted = matches!(lost, Lost::KeyDeleted { .. });
            self.shared.lost.set(lost);
            self.shared.held.let_go();
            if was_deleted {
                self.session.check().await;
            }
        };
        let end = pin!(end);
        if let Either::Right(((), unwanted)) = select(unwanted, end).await {
            unwanted.await;
        }
    }

    /// Deletes the key under this condition, again and again until the lease can't be there any more. Says whether
    /// there was something to delete.
    async fn remove(&self, condition: &Compare) -> Result<bool, ContendError> {
        let client = self.session.client();
        let runtime = client.runtime();
        let mut backoff = backoff(client);
        let mut unanswered = false;
        let mut lost_at = None;
        loop {
            let error = match queue::remove(client, &self.key, condition.clone()).await {
                Ok(removed) => {
                    telemetry::claim_left(&self.key);
                    // An attempt whose answer was lost may have been the one that did it.
                    return Ok(removed || unanswered);
                }
                Err(error) => error,
            };
            unanswered |= matches!(error, CallError::MaybeExecuted { .. });
            let now = runtime.now();
            if self.session.is_lost() && lost_at.is_none() {
                lost_at = Some(now);
            }
            let is_over = lost_at.is_some_and(|at| now.since(at) >= self.session.ttl());
            if is_over || !error.is_transient() {
                let error = error.into();
                if !self.leaves_by_itself() {
                    telemetry::claim_not_removed(&self.key, &error);
                }
                return Err(error);
            }
            pause(client, &mut backoff, "Txn").await?;
        }
    }

    /// Whether the session's end takes the key along, soon.
    fn leaves_by_itself(&self) -> bool {
        self.session.lost_reason().is_some_and(|lost| lost != SessionLost::Orphaned)
    }

    /// Removes the key that a transaction has created that was believed dead.
    async fn remove_latecomer(self) {
        let Some(given_up) = self.unanswered else { return };
        let any_key = self.any_key();
        let Self { session, key, .. } = self;
        let runtime = session.client().runtime().clone();
        // The end of the session sees to it, too: that isn't to wait for this.
        let weak = session.downgrade();
        drop(session);
        runtime.sleep((given_up + LATE).since(runtime.now())).await;
        let Some(session) = weak.upgrade() else { return };
        let remove = || queue::remove(session.client(), &key, any_key.clone());
        if let Err(error) = persist(session.client(), remove).await {
            telemetry::claim_not_removed(&key, &error.into());
        }
    }
}
