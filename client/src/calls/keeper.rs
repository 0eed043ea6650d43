//! Keeping a lease alive.

use std::{fmt, sync::Arc, time::Duration};

use etcd_watch_core::Instant;
use etcd_watch_proto::etcdserverpb::LeaseKeepAliveRequest;
use futures_util::future::{AbortHandle, abortable};

use crate::{CallError, calls::attempts::Calls, sync::Watchable};

/// Keeps a lease alive for as long as it exists: a task in the background renews it whenever a third of
/// its time has passed, with the failover of every call. Dropping it stops the renewing (it doesn't
/// revoke the lease). The client it came from may be dropped, but not closed.
#[derive(Debug)]
pub struct LeaseKeeper {
    id: i64,
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
        /// Why the last renewal failed.
        last: Option<CallError>,
    },
    /// The server refuses to renew it.
    #[error("lease {id:x} can't be renewed: {error}")]
    Refused {
        /// The lease.
        id: i64,
        /// The server's refusal.
        error: CallError,
    },
    /// The runtime that renewed it has shut down. The server has it until its time is over.
    #[error("lease {id:x} is not renewed any more: its runtime has shut down")]
    Stopped {
        /// The lease.
        id: i64,
    },
}

fn last_failure(last: Option<&CallError>) -> String {
    last.map_or_else(String::new, |error| format!("; the last attempt: {error}"))
}

struct Shared {
    state: Watchable<State>,
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
}

#[derive(Clone)]
struct State {
    /// Until when the lease is sure to exist.
    until: Instant,
    lost: Option<LeaseLost>,
}

impl Shared {
    fn until(&self) -> Instant {
        self.state.read(|state| state.until).0
    }
}

/// The task's end of it: when it goes, whatever the reason, nobody waits in vain.
struct Keeping {
    id: i64,
    shared: Arc<Shared>,
}

impl Keeping {
    fn lost(&self, reason: LeaseLost) {
        self.shared.state.change(|state| {
            state.lost.get_or_insert(reason);
        });
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.lost(LeaseLost::Stopped { id: self.id });
    }
}

impl LeaseKeeper {
    /// The lease's id.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// How long the lease is sure to exist, counted from when its last renewal was sent; zero once it is
    /// lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        let now = (self.shared.clock)();
        let left = |state: &State| if state.lost.is_some() { Duration::ZERO } else { state.until.since(now) };
        self.shared.state.read(left).0
    }

    /// Whether the lease has been lost, and why.
    #[must_use]
    pub fn lost_reason(&self) -> Option<LeaseLost> {
        self.shared.state.read(|state| state.lost.clone()).0
    }

    /// Completes when the lease is lost. Cancel-safe.
    pub async fn lost(&self) -> LeaseLost {
        self.shared.state.until(|state, _| state.lost.clone()).await
    }
}

impl Drop for LeaseKeeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("lost", &self.state.read(|state| state.lost.clone()).0)
            .finish_non_exhaustive()
    }
}

pub(crate) fn start(calls: Arc<Calls>, id: i64, ttl: Duration) -> LeaseKeeper {
    let now = calls.runtime().now();
    start_since(calls, id, ttl, now)
}

/// Keeps a lease that was granted or renewed by a call sent at `since`.
pub(crate) fn start_since(calls: Arc<Calls>, id: i64, ttl: Duration, since: Instant) -> LeaseKeeper {
    let runtime = calls.runtime().clone();
    let state = State { until: since + ttl, lost: None };
    let clock = runtime.clone();
    let clock = Box::new(move || clock.now());
    let shared = Arc::new(Shared { state: Watchable::new(state), clock });
    let keeping = {
        let keeping = Keeping { id, shared: shared.clone() };
        async move {
            let reason = keep(&calls, id, ttl, &keeping.shared).await;
            tracing::warn!(name: "lease_lost", lease = id, %reason, "lost a lease");
            keeping.lost(reason);
        }
    };
    let (keeping, task) = abortable(keeping);
    runtime.run(async move {
        // Aborted means dropped: nobody is left to tell.
        let _ = keeping.await;
    });
    LeaseKeeper { id, shared, task }
}

/// Renews the lease until it is lost.
async fn keep(calls: &Calls, id: i64, mut ttl: Duration, shared: &Shared) -> LeaseLost {
    let runtime = calls.runtime();
    let mut last = None;
    // The first renewal at once: how much of its time the lease has left is not known.
    let mut pause = Duration::ZERO;
    loop {
        let left = shared.until().since(runtime.now());
        runtime.sleep(pause.min(left)).await;
        let sent = runtime.now();
        let left = shared.until().since(sent);
        if left.is_zero() {
            return LeaseLost::Expired { id, last };
        }
        match calls.call_within(LeaseKeepAliveRequest { id }, left).await {
            Ok(answer) if answer.ttl <= 0 => return LeaseLost::NotFound { id },
            Ok(answer) => {
                ttl = Duration::from_secs(answer.ttl.unsigned_abs());
                shared.state.change(|state| state.until = sent + ttl);
                last = None;
                pause = ttl / 3;
            }
            Err(
                error @ (CallError::Refused { .. }
                | CallError::AuthenticationFailed { .. }
                | CallError::Closed { .. }),
            ) => {
                return LeaseLost::Refused { id, error };
            }
            Err(error) => {
                last = Some(error);
                pause = ttl / 10;
            }
        }
    }
}
