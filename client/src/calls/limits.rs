//! How long the parts of a call may take.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
    time::Duration,
};

use etcd_watch_core::Instant;

use super::end::End;
use crate::{Runtime, runtime::rang_too_early, sync::Latch};

/// What a client may be told to wait: less is none, and more is a mistake that overflows clocks.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
pub(crate) const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The shortest time in which an attempt may be given up for another endpoint, for long ways with TLS.
const SHORTEST_SHARE: Duration = Duration::from_secs(1);

/// The limits of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    ends: Instant,
    /// What one attempt may take before another endpoint is tried.
    share: Duration,
    endpoints: usize,
}

impl Limits {
    /// For a call that begins now, with so many endpoints to choose from. One round over them, with each of them silent,
    /// takes half of the time; so the other half is left for an attempt that only needs longer.
    pub(crate) fn new(now: Instant, within: Duration, endpoints: usize) -> Self {
        let share = if endpoints > 1 {
            let count = u32::try_from(endpoints).unwrap_or(u32::MAX);
            (within / count.saturating_mul(2)).max(SHORTEST_SHARE).min(within / 2)
        } else {
            within
        };
        Self { ends: now + within, share, endpoints }
    }

    /// How long an attempt may take to be sent: in that time nothing has happened yet that could not happen elsewhere.
    pub(crate) fn sending_limit(&self, now: Instant) -> Duration {
        self.share.min(self.left(now))
    }

    /// How long the answer to a read may take: a share in the first round over the endpoints, and all that is left after
    /// it.
    pub(crate) fn answer_limit(&self, now: Instant, attempt: usize) -> Duration {
        if attempt < self.endpoints { self.sending_limit(now) } else { self.left(now) }
    }

    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.ends.since(now)
    }
}

/// Why something was not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Its time is over.
    TimeOver,
    /// The client has ended.
    Ended(End),
}

/// Waits for the future's output, but no longer than `limit`, nor than `end` allows: an end for which `heeds` is
/// false lets it finish. Makes no timer if the output is there at once.
pub(crate) async fn within<F: Future>(
    runtime: &dyn Runtime,
    limit: Duration,
    end: &Latch<End>,
    heeds: fn(End) -> bool,
    future: F,
) -> Result<F::Output, Cut> {
    let mut future = pin!(future);
    let began = runtime.now();
    let mut ending = end.wait();
    let mut sleep = None;
    poll_fn(|cx| {
        if let Some(end) = end.get()
            && heeds(end)
        {
            return Poll::Ready(Err(Cut::Ended(end)));
        }
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        let sleep = sleep.get_or_insert_with(|| runtime.sleep(limit));
        if sleep.as_mut().poll(cx).is_ready() {
            let gone = rang_too_early(runtime, began, limit);
            return Poll::Ready(Err(if gone { Cut::Ended(End::RuntimeGone) } else { Cut::TimeOver }));
        }
        match std::pin::Pin::new(&mut ending).poll(cx) {
            // It came just now.
            Poll::Ready(end) if heeds(end) => Poll::Ready(Err(Cut::Ended(end))),
            Poll::Ready(_) | Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// For [`within`], of what has not been sent: it ends with the client.
pub(crate) fn any_end(_: End) -> bool {
    true
}

/// For [`within`], of what was sent: a client that is closed lets it finish.
pub(crate) fn runtimes_end(end: End) -> bool {
    end == End::RuntimeGone
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;
    use crate::testing::NoNetwork;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_round_over_silent_endpoints_leaves_half_of_the_time() {
        let start = Instant::ZERO;
        for endpoints in [2, 3, 4, 6] {
            let limits = Limits::new(start, 12 * SECOND, endpoints);
            let (mut now, mut attempts) = (start, 0);
            while attempts < endpoints {
                now = now + limits.answer_limit(now, attempts);
                attempts += 1;
            }
            assert_eq!(limits.answer_limit(now, attempts), 6 * SECOND, "{endpoints} endpoints");
        }
    }

    #[test]
    fn the_only_endpoint_has_all_the_time_and_many_have_no_less_than_a_second() {
        let only = Limits::new(Instant::ZERO, 10 * SECOND, 1);
        assert_eq!(only.sending_limit(Instant::ZERO), 10 * SECOND);
        let many = Limits::new(Instant::ZERO, 10 * SECOND, 50);
        assert_eq!(many.sending_limit(Instant::ZERO), SECOND);
        let short = Limits::new(Instant::ZERO, SECOND, 3);
        assert_eq!(short.sending_limit(Instant::ZERO), SECOND / 2);
        assert_eq!(short.sending_limit(Instant::ZERO + 2 * SECOND), Duration::ZERO);
    }

    #[test]
    fn an_end_cuts_what_heeds_it_and_lets_the_rest_finish() {
        let end = Latch::default();
        let wait = |heeds, future: crate::BoxFuture<'static, ()>| {
            within(&NoNetwork, SECOND, &end, heeds, future).now_or_never()
        };
        assert_eq!(wait(any_end, Box::pin(pending())), None);
        end.set(End::Closed);
        assert_eq!(wait(any_end, Box::pin(pending())), Some(Err(Cut::Ended(End::Closed))));
        assert_eq!(wait(runtimes_end, Box::pin(pending())), None);
        assert_eq!(wait(runtimes_end, Box::pin(ready(()))), Some(Ok(())));
    }
}
