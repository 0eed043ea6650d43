//! Keeping a lease alive.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use etcd_watch_core::{Code, Failure, Instant, Refusal, refusal};
use etcd_watch_proto::etcdserverpb::LeaseKeepAliveRequest;
use futures_util::future::{AbortHandle, Either, abortable, select};

use crate::{
    CallError, Endpoint, Health, Monitor, NeverReady, Runtime, Verdict,
    calls::{
        attempts::{Calls, no_answer},
        end::End,
        limits::Limits,
        outcome::Outcome,
        telemetry::KeptLease,
        term::{Renewed, Term, judge},
    },
    cluster::pool::Pooled,
    error::last_failure,
    health::{Contact, Monitored},
    runtime::{Backoff, BoxFuture, Moment, Pace, RuntimeGone, pause},
    sync::{WaitList, Watchable, lock},
    transport::rpc::{CallFailure, Unary},
};

/// How often the task looks whether the machine has slept, which its timers don't count.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The shortest pause between two failed attempts, and the longest after the first. The longest of all is a tenth of the
/// lease's time.
const RETRY_FLOOR: Duration = Duration::from_millis(10);
const RETRY_BASE: Duration = Duration::from_millis(50);

/// The least time that an attempt is given, if the lease lasts as long.
const ATTEMPT_FLOOR: Duration = Duration::from_millis(500);

/// Keeps a lease alive for as long as it exists: a task in the background renews it whenever a third of its time has
/// passed.
///
/// Two things end a lease: a server says that there is no such lease, or its time is over. Whatever else goes wrong, a
/// renewal is tried again, at another member where there is one. The lease's time counts from when its last renewal
/// was sent, and while the machine sleeps.
///
/// Dropping it stops the renewing, and doesn't revoke the lease. The client it came from may be dropped, but not closed.
#[derive(Debug)]
#[must_use = "dropping it stops the renewing"]
pub struct LeaseKeeper {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// Why a lease is no longer kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseLost {
    /// The server has no such lease: it expired or was revoked.
    #[error("lease {id:x} does not exist: it expired or was revoked")]
    NotFound {
        /// The lease.
        id: i64,
    },
    /// No renewal got through for as long as the lease lasts. The server may still have it for a moment,
    /// but nothing may be built on it any more.
    #[error("lease {id:x} could not be renewed in time{}", last_failure(.last.as_ref()))]
    Expired {
        /// The lease.
        id: i64,
        /// Why the last renewal failed, if one did.
        last: Option<CallError>,
    },
    /// The client was closed, and renews it no more. The server has it until its time is over.
    #[error("lease {id:x} is not renewed any more: the client has been closed")]
    Closed {
        /// The lease.
        id: i64,
    },
    /// The runtime that renewed it has shut down. The server has it until its time is over.
    #[error("lease {id:x} is not renewed any more: its runtime has shut down")]
    Stopped {
        /// The lease.
        id: i64,
    },
}

impl LeaseLost {
    /// In a word, for metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Expired { .. } => "expired",
            Self::Closed { .. } => "closed",
            Self::Stopped { .. } => "stopped",
        }
    }
}

struct Shared {
    id: i64,
    state: Watchable<State>,
    /// Whether the keeper is gone.
    is_dropped: AtomicBool,
    runtime: Arc<dyn Runtime>,
}

#[derive(Clone)]
struct State {
    term: Term,
    /// Who renewed it last, and what went wrong last.
    contact: Contact,
    /// Since when renewals fail.
    away: Option<Instant>,
    /// Why the last attempt to renew it failed.
    last: Option<CallError>,
    lost: Option<LeaseLost>,
}

impl Shared {
    fn now(&self) -> Moment {
        Moment::now(&*self.runtime)
    }

    /// How long the lease is sure to exist.
    fn left(&self) -> Duration {
        let now = self.now();
        self.state.read(|state| if state.lost.is_some() { Duration::ZERO } else { state.term.left(now) }).0
    }

    /// Why the lease is lost, if it is. Whoever asks first after its time is over ends it, for everybody.
    fn lost(&self) -> Option<LeaseLost> {
        let now = self.now();
        let (lost, is_over) = self.state.read(|state| (state.lost.clone(), state.term.left(now).is_zero())).0;
        if lost.is_some() || !is_over {
            return lost;
        }
        self.state.change(|state| self.end_if_over(state, now));
        self.state.read(|state| state.lost.clone()).0
    }

    fn end_if_over(&self, state: &mut State, now: Moment) {
        if state.lost.is_none() && state.term.left(now).is_zero() {
            state.lost = Some(LeaseLost::Expired { id: self.id, last: state.last.clone() });
        }
    }

    /// The lease was renewed, unless its time was over before that was heard: then it was told lost, maybe.
    fn renewed(&self, term: Term, at: &Arc<Endpoint>) {
        let (now, heard) = (self.now(), self.runtime.now());
        self.state.change(|state| {
            state.contact.connect(at, heard);
            state.contact.hear(heard);
            state.away = None;
            self.end_if_over(state, now);
            if state.lost.is_none() {
                state.term = term;
                state.last = None;
            }
        });
    }

    /// A renewal has failed.
    fn failed(&self, error: CallError) {
        let (now, cause) = (self.runtime.now(), Arc::new(error.clone()));
        // What is replaced is dropped with the version before, without the lock.
        self.state.change(|state| {
            let _ = state.contact.failed(now, cause);
            state.contact.disconnect();
            state.away.get_or_insert(now);
            state.last = Some(error);
        });
    }

    fn lose(&self, reason: LeaseLost) {
        self.state.change(|state| {
            state.lost.get_or_insert(reason);
        });
    }
}

impl Monitored for Shared {
    fn health(&self) -> Health {
        let (lost, left, now) = (self.lost(), self.left(), self.runtime.now());
        let (state, _) = self.state.read(State::clone);
        let verdict = match lost {
            _ if self.is_dropped.load(Ordering::Relaxed) => Verdict::Ended(NeverReady::Closed),
            None => Verdict::Ready,
            Some(LeaseLost::Closed { .. }) => Verdict::Ended(NeverReady::ClientClosed),
            Some(LeaseLost::Stopped { .. }) => Verdict::Ended(NeverReady::RuntimeGone),
            Some(lost) => Verdict::Ended(NeverReady::because_of(lost)),
        };
        let turns_at = matches!(verdict, Verdict::Ready).then(|| now + left);
        Health::new(now, verdict, state.contact).with_away_since(state.away).turning_at(turns_at)
    }

    fn changes(&self) -> Vec<&WaitList> {
        vec![self.state.waiting()]
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.runtime.sleep(duration)
    }
}

/// The task's end of it: when it goes, whatever the reason, nobody waits in vain.
struct Keeping(Arc<Shared>);

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.lose(LeaseLost::Stopped { id: self.0.id });
    }
}

impl LeaseKeeper {
    /// The lease's id.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.shared.id
    }

    /// How long the lease is sure to exist, counted from when its last renewal was sent; zero once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.shared.left()
    }

    /// Whether the lease has been lost, and why.
    #[must_use]
    pub fn lost_reason(&self) -> Option<LeaseLost> {
        self.shared.lost()
    }

    /// How the renewing is doing: [`Health`] says what that means.
    #[must_use]
    pub fn health(&self) -> Health {
        self.shared.health()
    }

    /// A handle to wait for changes of [`health`](Self::health).
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(self.shared.clone())
    }

    /// Completes when the lease is lost. Cancel-safe.
    pub async fn lost(&self) -> LeaseLost {
        self.shared.state.until(|_, _| self.shared.lost()).await
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.shared.is_dropped.store(true, Ordering::Relaxed);
        self.task.abort();
        self.shared.state.waiting().wake_all();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("id", &format_args!("{:x}", self.id))
            .field("lost", &self.state.read(|state| state.lost.clone()).0)
            .finish_non_exhaustive()
    }
}

/// `granted` is the lease's granted time to live; `None` if it is not known.
pub(crate) fn start(calls: Arc<Calls>, id: i64, term: Term, granted: Option<Duration>) -> LeaseKeeper {
    let runtime = calls.runtime().clone();
    let state = State { term, contact: Contact::default(), away: None, last: None, lost: None };
    let shared = Arc::new(Shared {
        id,
        state: Watchable::new(state),
        is_dropped: AtomicBool::new(false),
        runtime: runtime.clone(),
    });
    let keeping = {
        let keeping = Keeping(shared.clone());
        let kept = calls.telemetry().lease_kept();
        async move {
            let pace = Pace::new(RETRY_FLOOR, RETRY_BASE, term.ttl / 10);
            let backoff = calls.backoff(pace);
            let keeper =
                Keeper { calls: &calls, shared: &keeping.0, kept: &kept, granted, avoid: None, backoff };
            let reason = keeper.keep().await;
            // Whoever waits is told before a recorder or a subscriber takes its time.
            keeping.0.lose(reason.clone());
            kept.lost(reason.kind());
            tracing::warn!(name: "lease_lost", lease = format_args!("{id:x}"), %reason, "lost a lease");
        }
    };
    let (keeping, task) = abortable(keeping);
    runtime.run(async move {
        // Aborted means dropped: nobody is left to tell.
        let _ = keeping.await;
    });
    LeaseKeeper { shared, task }
}

/// The task that renews.
struct Keeper<'a> {
    calls: &'a Calls,
    shared: &'a Shared,
    kept: &'a KeptLease,
    /// The lease's granted time to live. If it is not known, the first renewal tells it: etcd renews for this time.
    granted: Option<Duration>,
    /// The endpoint that the last attempt failed at.
    avoid: Option<Arc<Endpoint>>,
    backoff: Backoff,
}

impl Keeper<'_> {
    /// Renews the lease until it is lost.
    async fn keep(mut self) -> LeaseLost {
        let id = self.shared.id;
        // The first renewal at once: how much of its time the lease has left is not known.
        let mut pause = Duration::ZERO;
        loop {
            if self.pause(pause).await.is_err() {
                return LeaseLost::Stopped { id };
            }
            if let Some(lost) = self.shared.lost() {
                return lost;
            }
            match self.calls.end() {
                Some(End::Closed) => return LeaseLost::Closed { id },
                Some(End::RuntimeGone) => return LeaseLost::Stopped { id },
                None => {}
            }
            let since = self.shared.now();
            match self.attempt(self.attempt_limit()).await {
                Ok(None) => return LeaseLost::NotFound { id },
                Ok(Some((ttl, at))) => {
                    self.avoid = None;
                    self.backoff.reset();
                    self.kept.renewed();
                    // A renewal for longer than the granted time is not believed.
                    let ttl = ttl.min(*self.granted.get_or_insert(ttl));
                    self.shared.renewed(Term { since, ttl }, &at);
                    pause = ttl / 3;
                }
                Err(error) => {
                    pause = self.backoff.next_pause();
                    self.kept.not_renewed();
                    self.shared.failed(error);
                }
            }
        }
    }

    /// A member that hangs must not take all the time there is.
    fn attempt_limit(&self) -> Duration {
        let left = self.shared.left();
        (left / 2).max(ATTEMPT_FLOOR).min(left)
    }

    /// Waits so long, or until the lease's time is over, by a clock that goes on while the machine sleeps.
    async fn pause(&self, duration: Duration) -> Result<(), RuntimeGone> {
        let began = self.shared.now();
        loop {
            let waited = self.shared.now().since(began);
            let left = duration.saturating_sub(waited).min(self.shared.left());
            if left.is_zero() || self.calls.end().is_some() {
                return Ok(());
            }
            pause(&*self.shared.runtime, left.min(LOOK_EVERY)).await?;
        }
    }

    /// For how long the lease was renewed, and where; `None` if there is no such lease.
    async fn attempt(&mut self, limit: Duration) -> Result<Option<(Duration, Arc<Endpoint>)>, CallError> {
        let method = "LeaseKeepAlive";
        let asked = Mutex::new(None);
        // In a box, as every call's attempt: it is large. Timers don't count while the machine sleeps, and a lease's time
        // goes on: so the attempt is given up by the lease's own clock.
        let (asking, time_is_over) = (Box::pin(self.ask(&asked)), Box::pin(self.pause(limit)));
        let mut observation = self.calls.observe(LeaseKeepAliveRequest::PATH);
        observation.attempt();
        let result = match self.calls.while_open(limit, select(asking, time_is_over)).await {
            Ok(Some(Either::Left((result, _)))) => Ok(Some(result)),
            Ok(Some(Either::Right(_)) | None) => Ok(None),
            Err(end) => Err(end.of_call(method)),
        };
        let at = lock(&asked).as_ref().map(|pooled| pooled.endpoint().clone());
        observation.end_at(at.as_ref(), || match &result {
            Ok(Some(Ok(Some(_)))) => Outcome::OK,
            Ok(Some(Ok(None))) => Outcome::answered(Code::NotFound),
            Ok(Some(Err(failed))) => Outcome::of_failure(failed.failure()),
            Ok(None) => Outcome::TIMED_OUT,
            Err(error) => Outcome::of_error(error),
        });
        let failed = match result? {
            Some(Ok(renewed)) => return Ok(renewed),
            Some(Err(failed)) => failed,
            None => CallFailure::sent(no_answer(limit)),
        };
        if refusal(failed.failure()) == Some(Refusal::LeaseNotFound) {
            return Ok(None);
        }
        let asked: Option<Pooled> = lock(&asked).take();
        self.calls.note(asked.as_ref(), &failed);
        self.avoid = asked.map(|pooled| pooled.endpoint().clone());
        Err(match failed.failure().clone() {
            Failure::Status { code, message } => CallError::Refused { method, code, message },
            _ => CallError::Timeout { method, after: limit, last: Some(failed.error) },
        })
    }

    /// Asks one member; `asked` is the connection to it.
    async fn ask(
        &self,
        asked: &Mutex<Option<Pooled>>,
    ) -> Result<Option<(Duration, Arc<Endpoint>)>, CallFailure> {
        let id = self.shared.id;
        let pooled = self.calls.pool.get(self.avoid.as_deref()).await.map_err(CallFailure::not_sent)?;
        *lock(asked) = Some(pooled.clone());
        // By the lease's own time, whatever a view's calls may take.
        let limits = Limits::new(self.calls.now(), self.attempt_limit(), 1);
        let answer = self.calls.ask(&pooled, LeaseKeepAliveRequest { id }, limits).await?;
        let renewed = judge(id, &answer).map_err(CallFailure::sent)?;
        self.calls.pool.answered(&pooled);
        Ok(match renewed {
            Renewed::For(ttl) => Some((ttl, pooled.endpoint().clone())),
            Renewed::NotFound => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use etcd_watch_core::Code;

    use super::*;

    #[test]
    fn what_is_told_of_a_loss_says_what_failed_last() {
        let message = "etcdserver: leader changed".to_owned();
        let last = CallError::Refused { method: "LeaseKeepAlive", code: Code::Unavailable, message };
        let lost = LeaseLost::Expired { id: 0xab, last: Some(last) };
        assert!(
            lost.to_string()
                .starts_with("lease ab could not be renewed in time; the last attempt: LeaseKeepAlive")
        );
    }
}
