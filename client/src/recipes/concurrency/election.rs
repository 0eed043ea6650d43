//! A leadership: a lock with a value.

use bytes::Bytes;
use etcd_watch_core::IntoBytes;

use super::{
    ContendError, Leader, Lost, Name, Observe, Session, claim::Place, leader::leader, metrics::Purpose,
};
use crate::Compare;

/// An election with a name: one leader at a time among all clients of the cluster, those in Go too, with a value
/// that everybody can see; whoever campaigned first is next. Cheap to make and to clone.
///
/// A session is one candidate per election: its own campaigners queue among themselves first, in no certain order.
/// [What is guaranteed, and what isn't](super#what-is-guaranteed).
#[derive(Clone, Debug)]
pub struct Election {
    session: Session,
    name: Name,
}

impl Election {
    /// The election with this name, to be won by this session.
    #[must_use]
    pub fn new(session: &Session, name: Name) -> Self {
        Self { session: session.clone(), name }
    }

    /// Waits for the leadership, with a value that is seen once it is won. Failures that may pass are waited out for
    /// as long as the session lives.
    ///
    /// Cancel-safe: dropping the future withdraws the candidate, in the background.
    ///
    /// # Errors
    /// The session is lost, the key was deleted, or a call or a watch was refused for good.
    pub async fn campaign(&self, value: impl IntoBytes) -> Result<Leadership, ContendError> {
        let value = value.into_bytes();
        let waiting = self.session.waiting(Purpose::Leadership);
        let (place, entered) =
            Place::enter(&self.session, &self.name, waiting.purpose(), value.clone()).await?;
        if entered.found.is_some_and(|found| found != value) {
            place.put(value).await?;
        }
        if !entered.is_first {
            place.become_first().await?;
        }
        place.hold(waiting)?;
        Ok(Leadership { place })
    }

    /// Who leads; `None` if nobody does.
    ///
    /// # Errors
    /// The read failed.
    pub async fn leader(&self) -> Result<Option<Leader>, ContendError> {
        leader(self.session.client(), &self.name).await
    }

    /// Follows who leads, and with which value. It needs no session, so it goes on when this one is lost.
    pub fn observe(&self) -> Observe {
        Observe::new(self.session.client().clone(), &self.name)
    }
}

/// A leadership that was won. Dropping it resigns in the background.
#[derive(Debug)]
#[must_use = "dropping it resigns"]
pub struct Leadership {
    place: Place,
}

impl Leadership {
    /// The leader's key.
    #[must_use]
    pub fn key(&self) -> &Bytes {
        &self.place.claim().key
    }

    /// The *fencing token*: the revision that created the key. It is greater than that of every leader before.
    ///
    /// Send it along with whatever is done as the leader, to a system that remembers the greatest token it has seen
    /// and refuses a lower one: then a leader that doesn't know yet that it was replaced can do no harm. What is
    /// written to etcd is protected by [`is_owner`](Self::is_owner) instead.
    #[must_use]
    pub fn fencing_token(&self) -> i64 {
        self.place.claim().create_revision
    }

    /// The condition that this is still the leader, for a transaction of the application's own.
    pub fn is_owner(&self) -> Compare {
        self.place.claim().exists()
    }

    /// Whether this is the leader, as far as this side knows: by its clock, and by what it has heard.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lost_reason().is_none()
    }

    /// Whether the leadership is lost, and why.
    #[must_use]
    pub fn lost_reason(&self) -> Option<Lost> {
        self.place.lost_reason()
    }

    /// Completes when the leadership is lost; by a timer's delay later than [`is_held`](Self::is_held) tells of a lease
    /// whose time is over. Cancel-safe.
    pub async fn lost(&self) -> Lost {
        self.place.lost().await
    }

    /// Leads on with another value. What may pass is waited out; the value may then be put more than once, and
    /// if the future is dropped, it may or may not be.
    ///
    /// # Errors
    /// The leadership is lost, or the call was refused.
    pub async fn proclaim(&self, value: impl IntoBytes) -> Result<(), ContendError> {
        self.place.put(value.into_bytes()).await
    }

    /// Gives the leadership up, and waits until that is done; what may pass is waited out. Goes on in the
    /// background when the future is dropped.
    ///
    /// # Errors
    /// The leadership had been lost before, or the key could not be removed.
    pub async fn resign(self) -> Result<(), ContendError> {
        self.place.leave().await
    }
}
