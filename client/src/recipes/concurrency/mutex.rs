//! A lock.

use std::time::Duration;

use bytes::Bytes;

use super::{ContendError, Lost, Name, Session, claim::Place, metrics::Purpose};
use crate::{Compare, toolkit::timeout};

/// A lock with a name: one holder at a time among all clients of the cluster, those in Go too; first come, first
/// served. Cheap to make and to clone: nothing happens before somebody locks.
///
/// A session is one contender per name: its own lockers queue among themselves first, in no certain order. If the
/// answer to an attempt was lost, the next of them waits until 10 s after it, in case a server executes that only then.
/// [What is guaranteed, and what isn't](super#what-is-guaranteed).
#[derive(Clone, Debug)]
pub struct Mutex {
    session: Session,
    name: Name,
}

impl Mutex {
    /// The lock with this name, to be held by this session.
    #[must_use]
    pub fn new(session: &Session, name: Name) -> Self {
        Self { session: session.clone(), name }
    }

    /// Waits for the lock. Failures that may pass are waited out for as long as the session lives.
    ///
    /// Cancel-safe: dropping the future leaves the queue, in the background.
    ///
    /// # Errors
    /// The session is lost, the key was deleted, or a call or a watch was refused for good.
    pub async fn lock(&self) -> Result<MutexGuard, ContendError> {
        let waiting = self.session.waiting(Purpose::Lock);
        let (place, entered) =
            Place::enter(&self.session, &self.name, waiting.purpose(), Bytes::new()).await?;
        if !entered.is_first {
            place.become_first().await?;
        }
        place.hold(waiting)?;
        Ok(MutexGuard { place })
    }

    /// Takes the lock if nobody has it; `None` if somebody does. For a moment its key is in the queue all the
    /// same. Cancel-safe as [`lock`](Self::lock) is.
    ///
    /// # Errors
    /// As of `lock`; or the key could not be removed again.
    pub async fn try_lock(&self) -> Result<Option<MutexGuard>, ContendError> {
        let waiting = self.session.waiting(Purpose::Lock);
        let entering = Place::try_enter(&self.session, &self.name, waiting.purpose(), Bytes::new());
        let Some((place, entered)) = entering.await? else { return Ok(None) };
        if !entered.is_first {
            place.leave().await?;
            return Ok(None);
        }
        place.hold(waiting)?;
        Ok(Some(MutexGuard { place }))
    }

    /// Waits for the lock for so long at most; `None` if it didn't come. Cancel-safe as [`lock`](Self::lock) is.
    ///
    /// # Errors
    /// As of `lock`.
    pub async fn lock_within(&self, limit: Duration) -> Result<Option<MutexGuard>, ContendError> {
        timeout(self.session.client().runtime(), limit, self.lock()).await.transpose()
    }
}

/// A held lock. Dropping it unlocks in the background.
#[derive(Debug)]
#[must_use = "dropping it unlocks"]
pub struct MutexGuard {
    place: Place,
}

impl MutexGuard {
    /// The key that holds the lock.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.place.claim().key
    }

    /// The *fencing token*: the revision that created the key. It is greater than that of every holder before.
    ///
    /// Send it along with whatever is done under the lock, to a system that remembers the greatest token it has seen
    /// and refuses a lower one: then a holder that doesn't know yet that its lock is lost can do no harm. What is
    /// written to etcd is protected by [`is_owner`](Self::is_owner) instead.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.place.claim().create_revision
    }

    /// The condition that this is still the holder, for a transaction of the application's own.
    pub fn is_owner(&self) -> Compare {
        self.place.claim().exists()
    }

    /// Whether the lock is held, as far as this side knows: by its clock, and by what it has heard.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lost_reason().is_none()
    }

    /// Whether the lock is lost, and why.
    #[must_use]
    pub fn lost_reason(&self) -> Option<Lost> {
        self.place.lost_reason()
    }

    /// Completes when the lock is lost; by a timer's delay later than [`is_held`](Self::is_held) tells of a lease whose
    /// time is over. Cancel-safe.
    pub async fn lost(&self) -> Lost {
        self.place.lost().await
    }

    /// Unlocks, and waits until that is done; what may pass is waited out. Goes on in the background when the
    /// future is dropped. Never removes anything but this holder's own key.
    ///
    /// # Errors
    /// The lock had been lost before, or the key could not be removed.
    pub async fn unlock(self) -> Result<(), ContendError> {
        self.place.leave().await
    }
}
