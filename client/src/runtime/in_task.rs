//! Work that has to be done in a task of the runtime, by whomever it is waited for.

use std::future::Future;

use futures_channel::oneshot;
use futures_util::future::{AbortHandle, abortable};

use crate::Runtime;

/// Does the work in a task of the runtime. Dropping this future ends the task. `None` if the task was dropped, as it is
/// by a runtime that has shut down, or has panicked.
pub(crate) async fn in_task<T: Send + 'static>(
    runtime: &dyn Runtime,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let (sender, output) = oneshot::channel();
    let (work, abort) = abortable(work);
    let _abort = AbortOnDrop(abort);
    runtime.run(async move {
        if let Ok(output) = work.await {
            // Nobody waits for it any more if this fails.
            let _ = sender.send(output);
        }
    });
    output.await.ok()
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Waker},
    };

    use futures_util::FutureExt;

    use super::*;
    use crate::testing::{NoNetwork, Tasks};

    #[test]
    fn the_output_comes_out_of_the_task() {
        let runtime = Tasks::default();
        let mut work = Box::pin(in_task(&runtime, ready(7)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(work.poll_unpin(&mut cx).is_pending(), "it is done in the task, not here");
        runtime.poll_all();
        assert_eq!(work.now_or_never(), Some(Some(7)));
    }

    #[test]
    fn a_task_that_is_dropped_has_no_output() {
        let work = in_task(&NoNetwork, ready(7));
        assert_eq!(work.now_or_never(), Some(None));
    }

    #[test]
    fn dropping_the_future_ends_the_task() {
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (runtime, dropped) = (Tasks::default(), Arc::new(AtomicUsize::new(0)));
        let counted = Counted(dropped.clone());
        let mut work = Box::pin(in_task(&runtime, async move {
            let _counted = counted;
            pending::<()>().await;
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(work.poll_unpin(&mut cx).is_pending());
        runtime.poll_all();
        drop(work);
        runtime.poll_all();
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    }
}
