//! How a client, or something that is built on it, is doing.
//!
//! | file | owns |
//! |---|---|
//! | `mod` | what is told: [`Health`], a value |
//! | `contact` | whom something is connected to, and what was heard of it last |
//! | `monitor` | waiting for a change of it: [`Monitor`], a handle |

mod contact;
mod monitor;

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use etcd_watch_core::{CloseReason, Instant};

pub(crate) use contact::{Contact, Told};
pub use monitor::{Monitor, Monitored};

use crate::Endpoint;

/// How something of the client is doing, at the time when this was made.
///
/// Every kind has `health()`, which makes one, and `monitor()`, which makes a [`Monitor`] to wait for changes with.
///
/// | kind | ready | away | heard | observed, published revision |
/// |---|---|---|---|---|
/// | [`Client`](crate::Client) | it is connected to a member that has answered, and all its watch streams are open | no connection, or a stream is not open | any answer to a call, any frame of a watch stream | none |
/// | [`Watch`](crate::Watch) | it runs on a member | it doesn't: its stream is not open, its creation is not confirmed, or its buffer was full | any frame on its stream, for other watches too | up to where the member has told all that concerns it; what was taken |
/// | [`Mirror`](crate::Mirror) | its keys have been listed, its watch runs, and what it had missed has been taken | otherwise | pages of its list, and as a watch | as a watch; the revision that the fold of what was taken is at |
/// | [`Cache`](crate::cache::Cache) | it has a state, and has not been away for longer than [`unready_after`](crate::cache::CacheRequest::unready_after) | as its mirror | as its mirror | as its mirror; the revision of its last state |
/// | [`Config`](crate::config::Config) | its first state is known, and it is not away | as its mirror | as its mirror | as its mirror; [`revision`](crate::config::Config::revision) |
/// | [`LeaseKeeper`](crate::LeaseKeeper), [`Session`](crate::concurrency::Session) | the lease is sure to exist | the last renewal has failed | answers to renewals | none |
///
/// What a mirror had missed is whatever the store had when the server created the watch, by the header of that answer. It
/// has come with an event of that revision or a later one, or with a word on progress, which the client asks for. Until
/// then a mirror, and what stands on it, has been away since the connection was lost, however often it is lost again
/// meanwhile. Servers before 3.4.31 and 3.5.13 may not answer such a request, and gRPC proxies make up the header: there
/// a mirror is ready as soon as its watch runs, when what it missed may still be on its way. So is every plain watch.
///
/// What is known of the network is what was noticed: a member that hangs is noticed when its connection's
/// [pings](crate::ClientBuilder::keepalive) go unanswered, after 15 s by default, or earlier by
/// [probes](crate::WatchConfig::probe). Until then a watch on it is ready, and [`heard_ago`](Self::heard_ago)
/// grows, as it does on a quiet watch. To know how old a cache's state is at most, independently of that, ask for
/// [`Cache::snapshot_within`](crate::cache::Cache::snapshot_within).
///
/// All times are by the runtime's clock ([`Runtime::now`](crate::Runtime::now)), to which time in which the machine
/// sleeps does not count on most systems.
#[derive(Clone)]
pub struct Health {
    now: Instant,
    verdict: Verdict,
    away: Option<Instant>,
    contact: Contact,
    observed: Option<i64>,
    published: Option<i64>,
    missed: Option<Missed>,
    turns_at: Option<Instant>,
}

/// What a watch that runs on a member had missed when it was created there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Missed {
    /// The store's revision then.
    pub(crate) through: i64,
    /// Since when its consumer has lacked it.
    pub(crate) since: Instant,
}

/// Whether something is ready.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Verdict {
    /// It is; [`Health`] says what that means.
    Ready,
    /// It isn't, or isn't any more. It will be, once the cluster can be reached.
    NotReady,
    /// It has ended, and will not be ready again.
    Ended(NeverReady),
}

/// Why something will not be ready any more: it has ended.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeverReady {
    /// The application has cancelled, closed or dropped it.
    #[error("it can't become ready any more: it was closed")]
    Closed,
    /// The client that it stands on has been closed.
    #[error("it can't become ready any more: the client has been closed")]
    ClientClosed,
    /// The runtime that the client was built on has shut down.
    #[error("it can't become ready any more: the runtime that the client was built on has shut down")]
    RuntimeGone,
    /// It can't go on. The error is a [`CloseReason`] for a watch or a mirror, a
    /// [`CacheError`](crate::cache::CacheError), a [`config::Ended`](crate::config::Ended), a
    /// [`LeaseLost`](crate::LeaseLost) or a [`SessionLost`](crate::concurrency::SessionLost): `downcast_ref` gives it
    /// back.
    #[error("it can't become ready any more: {0}")]
    Ended(#[source] Arc<dyn StdError + Send + Sync>),
}

impl NeverReady {
    /// It has ended for this error.
    #[must_use]
    pub fn because_of(error: impl StdError + Send + Sync + 'static) -> Self {
        Self::Ended(Arc::new(error))
    }
}

impl From<CloseReason> for NeverReady {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Cancelled => Self::Closed,
            CloseReason::ShutDown => Self::ClientClosed,
            CloseReason::RuntimeGone => Self::RuntimeGone,
            reason => Self::because_of(reason),
        }
    }
}

impl Health {
    /// Whether it is ready: the table above says what that means for each kind.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.verdict, Verdict::Ready)
    }

    /// Whether it is ready, or will be, or why it never will.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// For how long it has been away from the cluster, as the table above has it; `None` while it is not. A cache is
    /// ready for some time all the same.
    #[must_use]
    pub fn away_for(&self) -> Option<Duration> {
        self.away.map(|since| self.now.since(since))
    }

    /// The endpoint that it is connected to; `None` while there is none. A client has several connections: it is that of
    /// its calls, or of a watch stream if there is none for calls.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.contact.connected().map(|(endpoint, _)| endpoint)
    }

    /// For how long it has been connected to that endpoint.
    #[must_use]
    pub fn connected_for(&self) -> Option<Duration> {
        self.contact.connected().map(|(_, since)| self.now.since(since))
    }

    /// How long ago something was heard from a server, as the table above has it; `None` if nothing ever was.
    #[must_use]
    pub fn heard_ago(&self) -> Option<Duration> {
        self.contact.heard().map(|at| self.now.since(at))
    }

    /// What last went wrong between it and the cluster; it stays after it was overcome, as long as the connection or the
    /// watch that it came from is known. `None` if nothing did. A
    /// configuration's may be a [`DecodeError`](crate::config::DecodeError).
    #[must_use]
    pub fn last_error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.contact.error().map(|(_, error)| &**error)
    }

    /// How long ago that was.
    #[must_use]
    pub fn last_error_ago(&self) -> Option<Duration> {
        self.contact.error().map(|(at, _)| self.now.since(*at))
    }

    /// Up to which revision the server has told all that concerns it; `None` before that is known, and where it has no
    /// meaning.
    #[must_use]
    pub fn observed_revision(&self) -> Option<i64> {
        self.observed
    }

    /// The revision that its consumer has come to: what was taken from a watch or a mirror, and what a cache or a
    /// configuration shows. `None` before there is one, and where it has no meaning.
    #[must_use]
    pub fn published_revision(&self) -> Option<i64> {
        self.published
    }
}

/// For those who make one: kinds that are built on another kind begin with its health, and change what differs.
impl Health {
    pub(crate) fn new(now: Instant, verdict: Verdict, contact: Contact) -> Self {
        Self {
            now,
            verdict,
            away: None,
            contact,
            observed: None,
            published: None,
            missed: None,
            turns_at: None,
        }
    }

    /// When this was made.
    #[must_use]
    pub fn made_at(&self) -> Instant {
        self.now
    }

    /// Since when it has been away from the cluster, if it is.
    #[must_use]
    pub fn away_since(&self) -> Option<Instant> {
        self.away
    }

    /// With another verdict.
    #[must_use]
    pub fn with_verdict(self, verdict: Verdict) -> Self {
        Self { verdict, ..self }
    }

    /// With another time since when it has been away.
    #[must_use]
    pub fn with_away_since(self, away: Option<Instant>) -> Self {
        Self { away, ..self }
    }

    /// With an error, unless it has a later one.
    #[must_use]
    pub fn with_error(mut self, at: Instant, error: Arc<dyn StdError + Send + Sync>) -> Self {
        let _ = self.contact.failed(at, error);
        self
    }

    pub(crate) fn into_contact(self) -> Contact {
        self.contact
    }

    pub(crate) fn with_observed_revision(self, observed: Option<i64>) -> Self {
        Self { observed, ..self }
    }

    pub(crate) fn with_missed(self, missed: Option<Missed>) -> Self {
        Self { missed, ..self }
    }

    /// What a watch had missed; its consumer may have taken it since.
    pub(crate) fn missed(&self) -> Option<Missed> {
        self.missed
    }

    /// With another [`published_revision`](Self::published_revision).
    #[must_use]
    pub fn with_published_revision(self, published: Option<i64>) -> Self {
        Self { published, ..self }
    }

    /// With the time when it will be another, without anything happening until then: a [`Monitor`] looks again then.
    #[must_use]
    pub fn turning_at(self, at: Option<Instant>) -> Self {
        Self { turns_at: at, ..self }
    }

    /// Whether a [`Monitor`] tells of no change between the other and this.
    fn is_same_state(&self, other: &Self) -> bool {
        let (one, two) = (&self.contact, &other.contact);
        let error_at = |contact: &Contact| contact.error().map(|(at, _)| *at);
        std::mem::discriminant(&self.verdict) == std::mem::discriminant(&other.verdict)
            && self.away == other.away
            && one.connected() == two.connected()
            && error_at(one) == error_at(two)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("verdict", &self.verdict)
            .field("away_for", &self.away_for())
            .field("endpoint", &self.endpoint().map(ToString::to_string))
            .field("connected_for", &self.connected_for())
            .field("heard_ago", &self.heard_ago())
            .field("last_error", &self.last_error().map(ToString::to_string))
            .field("last_error_ago", &self.last_error_ago())
            .field("observed_revision", &self.observed)
            .field("published_revision", &self.published)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn health(contact: &Contact) -> Health {
        Health::new(at(10), Verdict::Ready, contact.clone())
    }

    #[test]
    fn times_are_told_as_durations_until_it_was_made() {
        let mut contact = Contact::default();
        assert!(health(&contact).endpoint().is_none() && health(&contact).heard_ago().is_none());
        let endpoint: Arc<Endpoint> = Arc::new("http://a:1".parse().unwrap());
        contact.connect(&endpoint, at(3));
        contact.hear(at(9));
        let _ = contact.failed(at(2), Arc::new(io::Error::other("a cut")));
        let health = health(&contact).with_away_since(Some(at(4))).with_published_revision(Some(7));
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs());
        assert_eq!(health.endpoint(), Some(&*endpoint));
        assert_eq!(seconds(health.connected_for()), Some(7));
        assert_eq!(seconds(health.heard_ago()), Some(1));
        assert_eq!(seconds(health.last_error_ago()), Some(8));
        assert_eq!(health.last_error().map(ToString::to_string).as_deref(), Some("a cut"));
        assert_eq!(seconds(health.away_for()), Some(6));
        assert_eq!((health.observed_revision(), health.published_revision()), (None, Some(7)));
    }

    #[test]
    fn a_change_is_one_of_the_verdict_the_connection_or_the_error_and_not_of_what_was_heard() {
        let mut contact = Contact::default();
        let first = health(&contact);
        contact.hear(at(9));
        assert!(health(&contact).with_published_revision(Some(3)).is_same_state(&first));
        assert!(!health(&contact).with_verdict(Verdict::NotReady).is_same_state(&first));
        assert!(!health(&contact).with_away_since(Some(at(1))).is_same_state(&first));
        let endpoint: Arc<Endpoint> = Arc::new("http://a:1".parse().unwrap());
        contact.connect(&endpoint, at(3));
        let connected = health(&contact);
        assert!(!connected.is_same_state(&first));
        contact.disconnect();
        contact.connect(&endpoint, at(4));
        assert!(!health(&contact).is_same_state(&connected), "it was away in between");
        assert!(!first.clone().with_error(at(5), Arc::new(io::Error::other("a cut"))).is_same_state(&first));
    }

    #[test]
    fn the_error_that_ended_it_can_be_had_back() {
        let compacted = CloseReason::Compacted { compact_revision: 9, next_revision: 7 };
        let NeverReady::Ended(error) = NeverReady::from(compacted.clone()) else { panic!("it can't go on") };
        assert_eq!(error.downcast_ref::<CloseReason>(), Some(&compacted));
        assert!(matches!(NeverReady::from(CloseReason::Cancelled), NeverReady::Closed));
        assert!(matches!(NeverReady::from(CloseReason::ShutDown), NeverReady::ClientClosed));
        assert!(matches!(NeverReady::from(CloseReason::RuntimeGone), NeverReady::RuntimeGone));
    }
}
