//! State that tasks share, and wait for.
//!
//! No user code runs under a lock of the client: wakers are cloned, woken and dropped outside of it, values of the
//! application are dropped outside of it, and nothing is logged under it. The exceptions are the two asynchronous locks of
//! `futures-util` that let one task connect, or fetch a token, for all: those wake the next task under a lock of their own.
//! The closures of [`WaitList::wake_if`], [`WaitList::max`] and [`Watchable::change`] run under a lock, and say so.

mod latch;
mod lock;
mod wait_list;
mod wake;
mod watchable;

pub use latch::{Latch, LatchWait};
pub use lock::lock;
pub use wait_list::{WaitList, Waiter};
pub use wake::wake_all;
pub use watchable::Watchable;
