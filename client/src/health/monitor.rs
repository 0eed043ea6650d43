//! Waiting for a change of health.

use std::{fmt, future::poll_fn, sync::Arc, task::Poll, time::Duration};

use etcd_watch_core::Instant;

use super::{Health, NeverReady, Verdict};
use crate::{
    runtime::BoxFuture,
    sync::{WaitList, Waiter},
};

/// Tells how something is doing, and waits for changes of that. It keeps nothing alive and open: what it monitors ends
/// as if there were no monitor, and it says so then.
///
/// While nobody waits it costs nothing: no task, no timer.
///
/// ```no_run
/// use etcd_watch_client::{Client, KeyRange, NeverReady};
///
/// async fn log_changes(client: &Client) -> Result<(), Box<dyn std::error::Error>> {
///     let mut watch = client.watch(KeyRange::prefix("names/"))?;
///     let mut monitor = watch.monitor();
///     // On a task of its own, say, while `watch` is taken from on this one:
///     let monitoring = async move {
///         monitor.wait_ready().await?;
///         loop {
///             let health = monitor.changed().await?;
///             println!("ready: {}, last error: {:?}", health.is_ready(), health.last_error());
///         }
///         # #[allow(unreachable_code)]
///         Ok::<(), NeverReady>(())
///     };
///     # drop(monitoring);
///     while let Some(response) = watch.try_next().await? {
///         println!("{} events", response.len());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Monitor {
    source: Arc<dyn Monitored>,
    /// What `changed` has told last.
    seen: Health,
}

/// What can be monitored: for kinds that are built on others, see [`toolkit`](crate::toolkit).
pub trait Monitored: Send + Sync + 'static {
    /// How it is doing now. Cheap: it is called at each wake of a task that waits.
    fn health(&self) -> Health;

    /// The lists whose tasks are woken after each change of its state, without a lock.
    fn changes(&self) -> Vec<&WaitList>;

    /// Completes after so long, for health that [turns](Health::turning_at) with time. Default: never.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let _ = duration;
        Box::pin(std::future::pending())
    }
}

impl Monitor {
    /// Monitors this.
    #[must_use]
    pub fn new(source: Arc<dyn Monitored>) -> Self {
        let seen = source.health();
        Self { source, seen }
    }

    /// What is monitored.
    #[must_use]
    pub fn source(&self) -> &Arc<dyn Monitored> {
        &self.source
    }

    /// How it is doing now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.source.health()
    }

    /// Waits until it is ready. Cancel-safe.
    ///
    /// # Errors
    /// When it has ended, so that it can't become ready any more: why.
    pub async fn wait_ready(&self) -> Result<(), NeverReady> {
        let look = |health: Health| match health.verdict {
            Verdict::Ready => Some(Ok(())),
            Verdict::NotReady => None,
            Verdict::Ended(why) => Some(Err(why)),
        };
        self.until(look).await
    }

    /// Waits for a change since the last call on this handle, or since the handle was made: it is ready or isn't any
    /// more, is connected to another endpoint or to none, or something has gone wrong. Changes between two calls are
    /// told as one; what was heard and the revisions are no changes. Cancel-safe.
    ///
    /// # Errors
    /// When it has ended, so that nothing changes any more: why.
    pub async fn changed(&mut self) -> Result<Health, NeverReady> {
        let seen = &self.seen;
        let look = |health: Health| match &health.verdict {
            Verdict::Ended(why) => Some(Err(why.clone())),
            _ => (!health.is_same_state(seen)).then_some(Ok(health)),
        };
        let health = self.until(look).await?;
        self.seen = health.clone();
        Ok(health)
    }

    async fn until<T>(&self, mut look: impl FnMut(Health) -> Option<T>) -> T {
        let mut waiters: Vec<Waiter<'_, ()>> =
            self.source.changes().into_iter().map(|list| list.waiter(())).collect();
        let mut timer: Option<Timer> = None;
        poll_fn(|cx| {
            for waiter in &mut waiters {
                waiter.register(cx.waker());
            }
            let health = self.source.health();
            let (now, turns_at) = (health.now, health.turns_at);
            if let Some(found) = look(health) {
                return Poll::Ready(found);
            }
            timer = timer.take().filter(|timer| Some(timer.at) == turns_at);
            let Some(at) = turns_at else { return Poll::Pending };
            let timer = timer.get_or_insert_with(|| Timer {
                at,
                set: now,
                sleep: self.source.sleep(at.since(now)),
            });
            if timer.sleep.as_mut().poll(cx).is_ready() {
                let now = self.source.health().now;
                timer.sleep = if now.since(timer.set) < at.since(timer.set) / 2 {
                    // The runtime is gone: on such a one timers ring at once. What is monitored will say so.
                    Box::pin(std::future::pending())
                } else {
                    cx.waker().wake_by_ref();
                    self.source.sleep(at.since(now))
                };
            }
            Poll::Pending
        })
        .await
    }
}

/// Rings when health turns.
struct Timer {
    at: Instant,
    /// When it was set.
    set: Instant,
    sleep: BoxFuture<'static, ()>,
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("health", &self.health()).finish_non_exhaustive()
    }
}
