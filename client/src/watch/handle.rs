//! The handle of a watch.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use etcd_watch_core::{CloseReason, Delivery, WatchKey, WatchResponse, WatchStats};
use futures_core::{FusedStream, Stream};

use crate::{
    Health, Monitor, WatchError,
    health::Monitored,
    watch::{
        hub::{Ending, Lifeline},
        monitored::MonitoredWatch,
    },
};

/// A running watch: a stream of what happens to its keys.
///
/// Responses come in order of revision, the events of a revision in one response, nothing twice and
/// nothing left out, across any number of lost connections. If that can't be kept, above all because
/// the next revision has been compacted, the stream yields one [`WatchError`] that says why, and ends.
///
/// Taking is cancel-safe: a response is out of the machine only once `poll_next` has returned it. Not
/// taking is backpressure: what isn't taken waits in the machine, up to the watch's byte budget.
/// Dropping the handle cancels the watch, here and on the server.
#[derive(Debug)]
pub struct Watch {
    key: WatchKey,
    /// One past the last revision handed to the application.
    resume: Option<i64>,
    ended: bool,
    waits: Waits,
    /// How many bytes of each key are the client's namespace.
    prefix: usize,
    /// Shared with monitors. It is there once there is a monitor, or once the watch has ended.
    ending: OnceLock<Ending>,
    lifeline: Arc<Lifeline>,
}

/// Predicts that nothing is left to take: each wake-up is expected to bring as many responses as the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Waits {
    /// How many responses the consumer has taken since it found nothing; 255 stands for that many and more.
    taken: u8,
    /// How many it had taken when it last found nothing.
    taken_last_time: u8,
}

impl Waits {
    fn is_expected(self) -> bool {
        self.taken == self.taken_last_time && self.taken < u8::MAX
    }

    fn polled(&mut self, was_there: bool) {
        if was_there {
            self.taken = self.taken.saturating_add(1);
        } else {
            *self = Self { taken: 0, taken_last_time: self.taken };
        }
    }
}

impl Watch {
    pub(crate) fn new(key: WatchKey, start: Option<i64>, lifeline: Arc<Lifeline>, prefix: usize) -> Self {
        Self {
            key,
            resume: start,
            ended: false,
            waits: Waits::default(),
            prefix,
            ending: OnceLock::new(),
            lifeline,
        }
    }

    /// What the machine and its logs call the watch.
    #[must_use]
    pub fn key(&self) -> WatchKey {
        self.key
    }

    /// Where to go on after what has been taken from this handle: what to hand to
    /// [`WatchRequest::start_revision`](etcd_watch_core::WatchRequest::start_revision) for a watch that
    /// continues this one. `None` for a watch from now on that has delivered nothing yet.
    #[must_use]
    pub fn resume_revision(&self) -> Option<i64> {
        self.resume
    }

    /// The next response; `None` after the end. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchResponse, WatchError>> {
        poll_fn(|cx| self.poll_take(cx)).await
    }

    /// The next response; `Ok(None)` after the end. Cancel-safe.
    ///
    /// # Errors
    /// Why the watch ended, once.
    pub async fn try_next(&mut self) -> Result<Option<WatchResponse>, WatchError> {
        self.next().await.transpose()
    }

    /// How it is doing: where it is, what waits to be taken, how far that lags; `None` after the end.
    #[must_use]
    pub fn stats(&self) -> Option<WatchStats> {
        self.lifeline.0.watch_stats(self.key)
    }

    /// How its connection to the cluster is doing: [`Health`] says what that means.
    #[must_use]
    pub fn health(&self) -> Health {
        self.monitored().health()
    }

    /// A handle to wait for changes of [`health`](Self::health), while this one is taken from.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        Monitor::new(Arc::new(self.monitored()))
    }

    pub(crate) fn monitored(&self) -> MonitoredWatch {
        let ending = self.ending.get_or_init(Ending::default).clone();
        MonitoredWatch::new(self.lifeline.0.clone(), self.key, ending)
    }

    /// Asks the server for progress. The answer, if it can be trusted, comes as a
    /// [`Progress`](etcd_watch_core::ResponseKind::Progress) response: everything up to its revision has
    /// been delivered. Servers too old to answer in order (before 3.4.25 and 3.5.8) give none, and etcd answers
    /// nothing while a watch begins beyond the store's revision. On a watch that has ended this does nothing.
    pub fn request_progress(&self) {
        // An unknown watch is one that has ended already.
        let _ = self.lifeline.0.command(|state, now| state.machine.request_progress(now, self.key));
    }

    /// Ends the watch, here and on the server: the stream ends without an error.
    pub fn cancel(&mut self) {
        // An unknown watch is one that has ended already.
        let _ = self.lifeline.0.command(|state, now| state.machine.cancel(now, self.key));
    }

    pub(crate) fn poll_take(&mut self, cx: &Context<'_>) -> Poll<Option<Result<WatchResponse, WatchError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let key = self.key;
        let is_wait_expected = self.waits.is_expected();
        let delivery = self.lifeline.0.next(key, cx.waker(), &self.ending, is_wait_expected);
        self.waits.polled(delivery.is_some());
        match delivery {
            Some(Delivery::Response(response)) => {
                self.resume = Some(response.resume_revision());
                let prefix = self.prefix;
                let response = if prefix > 0 { response.without_key_prefix(prefix) } else { response };
                Poll::Ready(Some(Ok(response)))
            }
            Some(Delivery::Closed(reason)) => {
                self.ended = true;
                self.lifeline.0.monitoring().wake_all();
                crate::watch::log::ended(key, &reason);
                Poll::Ready(match reason {
                    CloseReason::Cancelled => None,
                    reason => Some(Err(WatchError::of_watch(reason, self.resume))),
                })
            }
            // A delivery of a kind to come: not for this release, take the next.
            Some(_) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }
}

impl Stream for Watch {
    type Item = Result<WatchResponse, WatchError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_take(cx)
    }
}

impl FusedStream for Watch {
    fn is_terminated(&self) -> bool {
        self.ended
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let hub = &self.lifeline.0;
        if let Some(ending) = self.ending.get() {
            let _ = ending.set((CloseReason::Cancelled, hub.now()));
        }
        hub.discard(self.key);
        hub.monitoring().wake_all();
    }
}
