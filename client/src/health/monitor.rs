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
            let timer =
                timer.get_or_insert_with(|| Timer { at, set: now, sleep: self.source.sleep(at.since(now)) });
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

#[cfg(test)]
mod tests {
    use std::{pin::pin, sync::Mutex, task::Context};

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        health::Contact,
        sync::{Latch, lock},
        testing::CountedWaker,
    };

    /// Something whose health a test sets, and whose clock and timers it moves.
    struct Fake {
        health: Mutex<Health>,
        lists: [WaitList; 2],
        rings: Arc<Latch<()>>,
        asked: Mutex<Vec<Duration>>,
    }

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    fn health(seconds: u64, verdict: Verdict) -> Health {
        Health::new(at(seconds), verdict, Contact::default())
    }

    impl Fake {
        fn monitor() -> (Arc<Self>, Monitor) {
            let fake = Arc::new(Self {
                health: Mutex::new(health(0, Verdict::NotReady)),
                lists: Default::default(),
                rings: Arc::default(),
                asked: Mutex::default(),
            });
            (fake.clone(), Monitor::new(fake))
        }

        fn set(&self, health: Health) {
            *lock(&self.health) = health;
        }

        fn tell(&self, list: usize, health: Health) {
            self.set(health);
            self.lists[list].wake_all();
        }
    }

    impl Monitored for Fake {
        fn health(&self) -> Health {
            lock(&self.health).clone()
        }

        fn changes(&self) -> Vec<&WaitList> {
            self.lists.iter().collect()
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            lock(&self.asked).push(duration);
            let rings = self.rings.clone();
            Box::pin(async move { rings.wait().await })
        }
    }

    #[test]
    fn a_change_told_by_any_of_the_lists_ends_the_wait_and_is_told_once() {
        for list in 0..2 {
            let (fake, monitor) = Fake::monitor();
            let mut monitor = monitor;
            let waker = CountedWaker::default();
            {
                let mut change = pin!(monitor.changed());
                let mut poll = || change.as_mut().poll(&mut Context::from_waker(&waker.waker()));
                assert!(poll().is_pending());
                fake.tell(list, health(1, Verdict::NotReady));
                assert_eq!(waker.woken(), 1);
                assert!(poll().is_pending(), "nothing but the time has changed");
                fake.tell(list, health(2, Verdict::Ready));
                assert_eq!(waker.woken(), 2);
                assert!(matches!(poll(), Poll::Ready(Ok(health)) if health.is_ready()));
            }
            assert!(monitor.changed().now_or_never().is_none(), "it was told");
            assert_eq!(waker.alive(), 0);
        }
    }

    #[test]
    fn a_wait_given_up_leaves_nothing_behind_and_misses_nothing() {
        let (fake, mut monitor) = Fake::monitor();
        for _ in 0..3 {
            assert!(monitor.changed().now_or_never().is_none());
            assert!(monitor.wait_ready().now_or_never().is_none());
        }
        assert!(fake.lists.iter().all(|list| list.len() == 0));
        fake.set(health(1, Verdict::Ready));
        assert!(matches!(monitor.wait_ready().now_or_never(), Some(Ok(()))));
        assert!(matches!(monitor.changed().now_or_never(), Some(Ok(_))), "it came between two calls");
    }

    #[test]
    fn what_has_ended_says_so_again_and_again() {
        let (fake, mut monitor) = Fake::monitor();
        fake.set(health(1, Verdict::Ended(NeverReady::Closed)));
        for _ in 0..2 {
            assert!(matches!(monitor.wait_ready().now_or_never(), Some(Err(NeverReady::Closed))));
            assert!(matches!(monitor.changed().now_or_never(), Some(Err(NeverReady::Closed))));
        }
    }

    #[test]
    fn health_that_turns_with_time_is_looked_at_then_and_only_while_somebody_waits() {
        let (fake, monitor) = Fake::monitor();
        fake.set(health(1, Verdict::Ready).turning_at(Some(at(5))));
        let mut monitor = Monitor::new(monitor.source().clone());
        assert!(lock(&fake.asked).is_empty(), "nobody waits");
        let waker = CountedWaker::default();
        let mut change = pin!(monitor.changed());
        let mut poll = || change.as_mut().poll(&mut Context::from_waker(&waker.waker()));
        assert!(poll().is_pending());
        assert_eq!(*lock(&fake.asked), [Duration::from_secs(4)]);
        fake.tell(0, health(2, Verdict::Ready).turning_at(Some(at(5))));
        assert!(poll().is_pending());
        assert_eq!(lock(&fake.asked).len(), 1, "the timer is set");
        fake.set(health(5, Verdict::NotReady));
        fake.rings.set(());
        assert_eq!(waker.woken(), 2);
        assert!(matches!(poll(), Poll::Ready(Ok(health)) if !health.is_ready()));
    }

    #[test]
    fn timers_that_ring_at_once_make_no_loop() {
        let (fake, mut monitor) = Fake::monitor();
        fake.set(health(0, Verdict::NotReady).turning_at(Some(at(5))));
        fake.rings.set(());
        let waker = CountedWaker::default();
        let mut change = pin!(monitor.changed());
        assert!(change.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
        assert_eq!(waker.woken(), 0);
        // One that is a little early is set again.
        fake.tell(0, health(1, Verdict::NotReady).turning_at(Some(at(9))));
        fake.set(health(8, Verdict::NotReady).turning_at(Some(at(9))));
        assert!(change.as_mut().poll(&mut Context::from_waker(&waker.waker())).is_pending());
    }
}
