//! What hyper needs of a runtime: an executor and timers.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::rt;

use crate::{Runtime, runtime::BoxFuture};

/// hyper's executor, on a runtime.
#[derive(Clone, Debug)]
pub(super) struct Spawn(pub(super) Arc<dyn Runtime>);

impl<F> rt::Executor<F> for Spawn
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.run(async move {
            let _ = task.await;
        });
    }
}

/// hyper's timers, on a runtime. hyper reckons in the standard library's instants; here they follow the runtime's
/// clock, so that one in virtual time decides alone when a timer rings.
#[derive(Clone, Debug)]
pub(super) struct Timers {
    runtime: Arc<dyn Runtime>,
    /// The same moment by both clocks.
    began: (Instant, etcd_watch_core::Instant),
}

impl Timers {
    pub(super) fn new(runtime: Arc<dyn Runtime>) -> Self {
        let began = (Instant::now(), runtime.now());
        Self { runtime, began }
    }
}

impl rt::Timer for Timers {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(Sleeping::new(self.runtime.sleep(duration)))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Instant {
        let (began, began_here) = self.began;
        began + self.runtime.now().since(began_here)
    }
}

/// `None` once it has rung: hyper asks a timer again that has, on a connection without streams, and every answer
/// has to be the same. The lock is never waited for; it makes the future `Sync`, as hyper wants it.
struct Sleeping(Mutex<Option<BoxFuture<'static, ()>>>);

impl Sleeping {
    fn new(sleep: BoxFuture<'static, ()>) -> Self {
        Self(Mutex::new(Some(sleep)))
    }
}

impl Future for Sleeping {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.get_mut().0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(sleeping) = sleep
            && sleeping.as_mut().poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        *sleep = None;
        Poll::Ready(())
    }
}

impl rt::Sleep for Sleeping {}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, task::Waker};

    use hyper::rt::Timer as _;

    use super::*;
    use crate::{Io, Peer};

    /// A runtime whose clock stands still until somebody turns it.
    #[derive(Debug, Default)]
    struct Turned {
        now: Mutex<Duration>,
        /// How long the last timer is to wait.
        asked: Mutex<Duration>,
    }

    impl Runtime for Turned {
        fn resolve(&self, _: String, _: u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
            Box::pin(std::future::pending())
        }

        fn connect(&self, _: Peer) -> BoxFuture<'static, io::Result<Box<dyn Io>>> {
            Box::pin(std::future::pending())
        }

        fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
            *self.asked.lock().expect("nobody panics with it") = duration;
            Box::pin(std::future::pending())
        }

        fn spawn(&self, _: BoxFuture<'static, ()>) {}

        fn now(&self) -> etcd_watch_core::Instant {
            etcd_watch_core::Instant::ZERO + *self.now.lock().expect("nobody panics with it")
        }
    }

    #[test]
    fn hypers_time_is_the_runtimes() {
        let runtime = Arc::new(Turned::default());
        let timers = Timers::new(runtime.clone());
        let began = timers.now();
        let minute = Duration::from_secs(60);
        *runtime.now.lock().expect("nobody panics with it") = minute;
        assert_eq!(timers.now() - began, minute);
        drop(timers.sleep_until(began + minute * 3));
        assert_eq!(*runtime.asked.lock().expect("nobody panics with it"), minute * 2);
    }

    #[test]
    fn a_timer_that_has_rung_says_so_as_often_as_it_is_asked() {
        let mut timer = Box::pin(Sleeping::new(Box::pin(async {})));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(timer.as_mut().poll(&mut cx).is_ready());
        }
        let mut never = Box::pin(Sleeping::new(Box::pin(std::future::pending())));
        assert!(never.as_mut().poll(&mut cx).is_pending());
    }
}
